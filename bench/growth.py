"""Growth: what a long session and a long log cost.

    python -m bench.growth [--events 1000000]

A query's latency (accepted, and answered by an instant model) at turn 10, 1,000 and 10,000 of one
session, and the journal's commit rate with few and with many events stored.
"""

import argparse
import time
from uuid import UUID, uuid4

import orjson
import psycopg
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

from bench.common import instant_model, lorewire, median, open_session, postgres, table
from bench.sockets import session_path
from bench.turns import writer

QUERIES = 30
TURNS = (10, 1_000, 10_000)


def turn_latencies(database_url: str, model_url: str) -> list[tuple[object, ...]]:
    """Rows of the first table."""
    rows: list[tuple[object, ...]] = []
    first: tuple[float, float] | None = None
    for turn in TURNS:
        with lorewire(database_url, model_url, core=None) as (port, _):
            session_id = open_session(port)
        _add_turns(database_url, session_id, turn)
        with lorewire(database_url, model_url, core=None) as (port, _):
            _wait_until_read(database_url)
            accept_ms, reply_ms = IOLoop.current().run_sync(
                lambda port=port, session_id=session_id: _ask(port, session_id)
            )
        first = first or (accept_ms, reply_ms)
        rows.append((turn, accept_ms, reply_ms, accept_ms / first[0], reply_ms / first[1]))
    return rows


async def _ask(port: int, session_id: str) -> tuple[float, float]:
    """Median milliseconds until a query is accepted, and until it is answered."""
    socket = await websocket_connect(f"ws://127.0.0.1:{port}{session_path(session_id)}")
    accepts, replies = [], []
    for number in range(QUERIES + 5):
        data = {"message": f"What does Kira carry? {number}", "stream": False}
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
    return median(accepts[5:]), median(replies[5:])


def _add_turns(database_url: str, session_id: str, turns: int) -> None:
    from actors.live_session import SNAPSHOT_EVERY
    from events.aggregate import Cause
    from events.log import Log
    from events.session import Session

    log = Log(database_url)
    session = log.load(Session, UUID(session_id))
    assert session is not None
    for number in range(turns):
        before = session.version
        turn_id = uuid4()
        said = f"Kira carries the lantern number {number} to the harbour."
        session.ask_query(turn_id, said, {}, stream=True, cause=Cause("ada"))
        session.start_reply()
        session.complete_reply(
            turn_id, text=said, recalled=(), facts=(), model="m", usage=None, duration_ms=1
        )
        log.events.put(session.collect_events())
        if before // SNAPSHOT_EVERY != session.version // SNAPSHOT_EVERY:
            log.put_snapshot(Session.Snapshot.take(session))
    log.close()


def _wait_until_read(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        while True:
            row = conn.execute(
                "SELECT (SELECT max(notification_id) FROM lorewire_events) - min(notification_id)"
                " FROM lorewire_tracking WHERE application_name = ANY('{memory,sessions}')"
            ).fetchone()
            if row is not None and row[0] == 0:
                return
            time.sleep(0.2)


def commit_rates(database_url: str, events: int) -> list[tuple[object, ...]]:
    """Rows of the second table."""
    from lorewire.database import migrate

    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE growing")
        url = database_url.replace(f"/{conn.info.dbname}", "/growing", 1)
    migrate(url)
    rows: list[tuple[object, ...]] = []
    first: float | None = None
    for stored in (0, events):
        if stored:
            _fill(url, stored)
        rate = median([writer(url, 100) for _ in range(5)])
        first = first or rate
        rows.append((stored, rate, rate / first))
    return rows


def _fill(database_url: str, events: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO lorewire_events (originator_id, originator_version, topic, state,"
            " session_id) SELECT gen_random_uuid(), 1, 'Ceiling', convert_to(repeat('x', 390),"
            " 'UTF8'), gen_random_uuid() FROM generate_series(1, %s)",
            (events,),
        )
        conn.execute("CHECKPOINT")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="stored before the last row")
    events = parser.parse_args().events
    with postgres() as database_url, instant_model() as model_url:
        table(
            "Latency of a query",
            (
                "turns before",
                "accepted, ms",
                "answered, ms",
                "of the first",
                "of the first's reply",
            ),
            turn_latencies(database_url, model_url),
        )
        table(
            "Commits of 100 events",
            ("events stored", "events per s", "of an empty log"),
            commit_rates(database_url, events),
        )


if __name__ == "__main__":
    main()
