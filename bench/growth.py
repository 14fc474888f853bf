"""Growth: what a long session and a long log cost.

    python -m bench.growth [--rounds 5]

A query's latency (accepted, and answered by an instant model) at turn 10, 1,000 and 10,000 of one
session, of 30 queries each in every round; nothing is learned from the turns before. And how fast
one writer commits with few and with many events stored: those of sessions that are at it, each
commit with the next event of every one, and, as the worst that there is, events that each begin a
new session, somewhere in the indexes. Needs 6 GB of disk.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from uuid import uuid4

import orjson
import psycopg
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

from bench.common import (
    add_turns,
    instant_model,
    lorewire,
    median,
    new_database,
    open_session,
    postgres,
    ratio,
    rounds_of,
    table,
)
from bench.search import invented_texts, queries_of
from bench.sockets import UNLIMITED, session_path
from bench.turns import EventKey, settle, writer
from projections.positions import LEARNING, LEARNING_MODEL

QUERIES = 30
WARM_UP = 5
STORED_EVENTS = (0, 1_000_000, 10_000_000)
COMMIT_EVENTS = 100
TURNS = (10, 1_000, 10_000)


def turn_latencies(rounds: int, database_url: str, model_url: str) -> list[tuple[object, ...]]:
    """Rows of the first table."""
    with lorewire(database_url, model_url, core=None) as (port, _):
        session_ids = {turn: open_session(port) for turn in TURNS}
    texts = invented_texts(2 * max(TURNS))
    for turn, session_id in session_ids.items():
        said, replied = texts[: 2 * turn : 2], texts[1 : 2 * turn : 2]
        add_turns(database_url, session_id, list(zip(said, replied, strict=True)))
    _pass_learning(database_url)
    accepts: dict[int, list[float]] = defaultdict(list)
    replies: dict[int, list[float]] = defaultdict(list)
    with lorewire(database_url, model_url, core=None, **UNLIMITED) as (port, _):
        settle(port)
        for _ in range(rounds):
            for turn, session_id in session_ids.items():
                queries = queries_of(texts[: 2 * turn])[: QUERIES + WARM_UP]
                accept_ms, reply_ms = IOLoop.current().run_sync(
                    partial(_ask, port, session_id, queries)
                )
                accepts[turn].append(accept_ms)
                replies[turn].append(reply_ms)
    first = TURNS[0]
    return [
        (
            *(turn, median(accepts[turn]), median(replies[turn])),
            *(ratio(accepts[turn], accepts[first]), ratio(replies[turn], replies[first])),
        )
        for turn in TURNS
    ]


async def _ask(port: int, session_id: str, queries: Sequence[str]) -> tuple[float, float]:
    """Median milliseconds until a query is accepted, and until it is answered."""
    socket = await websocket_connect(f"ws://127.0.0.1:{port}{session_path(session_id)}")
    accepts, replies = [], []
    for query in queries:
        data = {"message": query, "stream": False}
        started = time.perf_counter()
        await socket.write_message(orjson.dumps({"type": "query", "data": data}))
        while payload := await socket.read_message():
            message = orjson.loads(payload)
            if message["type"] == "query_received":
                accepts.append((time.perf_counter() - started) * 1000)
            elif message["type"] == "query_response":
                replies.append((time.perf_counter() - started) * 1000)
                break
    socket.close()
    return median(accepts[WARM_UP:]), median(replies[WARM_UP:])


def _pass_learning(database_url: str) -> None:
    """Have nothing learned from what is stored: it would go on for minutes beside the queries."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO lorewire_tracking SELECT name, max(notification_id)"
            " FROM lorewire_events, unnest(%s::text[]) AS name GROUP BY name"
            " ON CONFLICT (application_name)"
            " DO UPDATE SET notification_id = excluded.notification_id",
            ([LEARNING, LEARNING_MODEL],),
        )


def commit_rates(rounds: int, database_url: str) -> list[tuple[object, ...]]:
    """Rows of the second table."""
    from lorewire.database import migrate

    urls = {}
    for number in STORED_EVENTS:
        urls[number] = new_database(database_url, f"with_{number}")
        migrate(urls[number])
        _fill(urls[number], number)
    busy, new = (defaultdict[int, list[float]](list) for _ in range(2))
    for _ in range(rounds):
        for number, url in urls.items():
            busy[number].append(writer(url, COMMIT_EVENTS, _next_of_busy_sessions()))
            new[number].append(writer(url, COMMIT_EVENTS, _first_of_new_sessions()))
    empty = STORED_EVENTS[0]
    return [
        (
            *(number, median(busy[number]), ratio(busy[number], busy[empty])),
            *(median(new[number]), ratio(new[number], new[empty])),
        )
        for number in STORED_EVENTS
    ]


def _next_of_busy_sessions() -> Iterator[EventKey]:
    """Each commit has the next event of each of so many sessions."""
    sessions = [uuid4() for _ in range(COMMIT_EVENTS)]
    return ((one, version, one) for version in itertools.count(1) for one in sessions)


def _first_of_new_sessions() -> Iterator[EventKey]:
    """Each event is the first one of a session."""
    return ((one, 1, one) for one in (uuid4() for _ in itertools.count()))


def _fill(database_url: str, events: int) -> None:
    """Store events of as many sessions. They are small, as it is the indexes that matter to a
    commit, which are made afterwards, as that is sooner done.
    """
    with psycopg.connect(database_url, autocommit=True) as conn:
        indexes = conn.execute(
            "SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)"
            " FROM pg_index WHERE indrelid = 'lorewire_events'::regclass AND NOT indisprimary"
        ).fetchall()
        for drop, _ in indexes:
            conn.execute(drop)
        conn.execute("ALTER TABLE lorewire_events DROP CONSTRAINT lorewire_events_pkey")
        conn.execute(
            "INSERT INTO lorewire_events (originator_id, originator_version, topic, state,"
            " session_id) SELECT id, 1, 'Ceiling', '{}', id"
            " FROM (SELECT md5(number::text)::uuid AS id FROM generate_series(1, %s) AS number)",
            (events,),
        )
        conn.execute("SET maintenance_work_mem = '1GB'")
        conn.execute(
            "ALTER TABLE lorewire_events ADD PRIMARY KEY (originator_id, originator_version)"
        )
        for _, create in indexes:
            conn.execute(create)
        conn.execute("CHECKPOINT")


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    with postgres() as database_url, instant_model() as model_url:
        table(
            "Latency of a query",
            (
                "turns before",
                "accepted, ms",
                "answered, ms",
                "of the first",
                "answered, of the first",
            ),
            turn_latencies(rounds, database_url, model_url),
        )
        table(
            f"Commits of {COMMIT_EVENTS} events",
            (
                *("events stored", "events per s, of busy sessions", "of an empty log"),
                *("events per s, each of a new session", "new ones, of an empty log"),
            ),
            commit_rates(rounds, database_url),
        )


if __name__ == "__main__":
    main()
