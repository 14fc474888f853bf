"""Search: what finding something costs in a long session among many others.

    python -m bench.search [--sizes 1000,10000,100000] [--entries 1000000] [--embedder wordllama]

Over the socket of a server with its own PostgreSQL: the median and the 99th percentile of searches,
the first search after the session was put to sleep, and the longest ping of another connection
meanwhile, beside the longest one when nobody searches: by so much the event loop stood still. Then
what others take for the same queries: words and meaning each by itself in the same database, and
mem0, which has only the session's own entries. They are asked without a socket and those in the
database answer with positions alone. So there are two more rows to compare like with like: the same
pgvector behind a WebSocket of FastAPI, with texts, and our index without the socket, with its look
into the database. Ratios are of five groups of queries.
"""

import argparse
import asyncio
import json
import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import psycopg
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from bench.common import (
    PEERS_PYTHON,
    cpu_s,
    free_port,
    install_peers,
    instant_model,
    lorewire,
    median,
    open_session,
    percentile,
    postgres,
    process,
    ratio,
    table,
    worker,
)
from bench.search_peers import LIMIT, Peers
from bench.sockets import session_path
from events.log import Log
from events.session import Session, SessionConfig
from language.embedding import Embedder
from language.stems import content_stems
from lorewire.app import view_pool
from lorewire.database import migrate
from lorewire.embedder import load_embedder
from lorewire.settings import Settings
from projections.memory import MemoryEntry, MemoryView, indexed_text
from projections.search import MemoryIndex

VOCABULARY = 50_000  # invented words, the n-th as frequent as 1 / n
WORDS = (10, 60)  # of an entry: 230 bytes in the middle
SEARCHES = 100
SEARCHES_BY_WORDS = 25  # one takes 0.1 s
MEM0_SEARCHES = 10  # one takes a second and more among 100,000
GROUPS = 5
WAKES = 5
OTHER_SESSION_ENTRIES = 1_000  # what the rest of the table consists of
PATIENCE_S = 30.0
REST_S = 0.5
START = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="1000,10000,100000", help="entries of each session")
    parser.add_argument("--entries", type=int, default=1_000_000, help="in the whole table")
    parser.add_argument("--embedder", choices=["wordllama", "none"], default="wordllama")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)  # before packages do, at INFO
    install_peers()
    sizes = [int(size) for size in options.sizes.split(",")]
    embedder = load_embedder(Settings(embedder=options.embedder))
    with ExitStack() as stack:
        texts = invented_texts(max(sizes))
        mem0s = {
            size: stack.enter_context(mem0(texts[:size])) for size in sizes if embedder is not None
        }
        database_url = stack.enter_context(postgres())
        model_url = stack.enter_context(instant_model())
        migrate(database_url)
        session_ids = fill(database_url, texts, sizes, options.entries, embedder)
        for ask in mem0s.values():
            ask("are you filled?")
        settings: dict[str, int | str] = {
            **{"embedder": options.embedder, "record_reads": "none"},
            **{"messages_per_s": 100_000},  # searches and pings come one after the other
        }
        by_size = dict(zip(session_ids, sizes, strict=True))
        with lorewire(database_url, model_url, core=None, **settings) as (port, server):
            rows, ours = asyncio.run(measure(port, server.pid, by_size, texts))
        theirs = measure_peers(database_url, model_url, by_size, texts, embedder)
        theirs |= asyncio.run(measure_index(database_url, by_size, texts, embedder))
        theirs |= {(size, "mem0"): ask("search") for size, ask in mem0s.items()}
    table(
        f"Search among {options.entries:,} entries, embedder {options.embedder}",
        (
            *("entries", "p50, ms", "p99, ms", "CPU of the server, ms", "as_of p50, ms"),
            *("first after a wake, ms", "longest ping meanwhile, ms", "longest ping at rest, ms"),
        ),
        rows,
    )
    table(
        "What the same searches take elsewhere",
        ("entries", "by", "searches", "p50, ms", "p99, ms", "Lorewire takes, of its p50"),
        [
            (
                *(size, name, len(times), median(times), percentile(times, 99)),
                ratio(by_group(ours[size][: len(times)]), by_group(times)),
            )
            for (size, name), times in sorted(theirs.items())
        ],
    )


def by_group(times: Sequence[float]) -> list[float]:
    """The medians of five equal groups."""
    step = len(times) // GROUPS
    return [median(times[start : start + step]) for start in range(0, step * GROUPS, step)]


def invented_texts(count: int) -> list[str]:
    """Sentences of words that do not exist, always the same ones."""
    dice = random.Random(7)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en")]
    words = ["".join(dice.choices(syllables, k=dice.randint(2, 4))) for _ in range(VOCABULARY)]
    weights = 1 / np.arange(1, VOCABULARY + 1)
    draws = np.random.default_rng(7).choice(
        VOCABULARY, size=(count, WORDS[1]), p=weights / weights.sum()
    )
    return [" ".join(words[n] for n in row[: dice.randint(*WORDS)]) + "." for row in draws.tolist()]


def fill(
    database_url: str,
    texts: Sequence[str],
    sizes: Sequence[int],
    entries: int,
    embedder: Embedder | None,
) -> list[UUID]:
    """Open a session for each size, and fill the table as the projection would have."""
    log = Log(database_url)
    sessions = [
        Session.open(user_id="ada", title="Long", config=SessionConfig("dnd"), seed=())
        for _ in sizes
    ]
    with psycopg.connect(database_url, autocommit=True) as conn:
        # What is said from now on comes after what is in the table.
        conn.execute("SELECT setval('lorewire_events_notification_id_seq', %s)", (entries,))
        for session in sessions:
            log.save(session)
        log.close()
        conn.execute("ALTER TABLE memory_entries SET UNLOGGED")  # to be done sooner
        conn.execute(
            "INSERT INTO lorewire_tracking VALUES ('memory', %s) ON CONFLICT (application_name)"
            " DO UPDATE SET notification_id = excluded.notification_id",
            (entries,),
        )
        conn.execute(
            "UPDATE lorewire_views SET made_with = %s WHERE name = 'memory'",
            (embedder.name if embedder else None,),
        )
        for session, size in zip(sessions, sizes, strict=True):
            copy_entries(conn, session.id, texts[:size], embedder)
        others = (entries - sum(sizes)) // OTHER_SESSION_ENTRIES
        conn.execute(
            "INSERT INTO memory_entries (version, session_id, entry_id, position, turn_id, role,"
            " speaker, text, said_at, stems, embedding)"
            " SELECT version, md5('session ' || copy)::uuid, entry_id, position, turn_id, role,"
            " speaker, text, said_at, stems, embedding"
            " FROM memory_entries, generate_series(1, %s) AS copy"
            " WHERE session_id = %s AND position <= %s",
            (others, sessions[sizes.index(max(sizes))].id, OTHER_SESSION_ENTRIES),
        )
        conn.execute("VACUUM ANALYZE memory_entries")
    return [session.id for session in sessions]


def copy_entries(
    conn: psycopg.Connection[Any],
    session_id: UUID,
    texts: Sequence[str],
    embedder: Embedder | None,
) -> None:
    """The rows of one session, by turns of user and agent."""
    entries = [
        MemoryEntry(
            f"{'qr'[n % 2]}-{UUID(int=n // 2)}",
            "agent" if n % 2 else "user",
            "Dungeon Master" if n % 2 else "ada",
            text,
            UUID(int=n // 2),
            n + 1,
            START + timedelta(seconds=40 * n),
        )
        for n, text in enumerate(texts)
    ]
    indexed = [indexed_text(entry) for entry in entries]
    vectors = embedder.embed(indexed) if embedder else None
    with (
        conn.cursor() as curs,
        curs.copy(
            "COPY memory_entries (version, session_id, entry_id, role, speaker, text, turn_id,"
            " position, said_at, stems, embedding) FROM STDIN"
        ) as copy,
    ):
        for n, (entry, text) in enumerate(zip(entries, indexed, strict=True)):
            embedding = None if vectors is None else vectors[n].tobytes()
            stems = " ".join(content_stems(text))
            copy.write_row((1, session_id, *vars(entry).values(), stems, embedding))


async def measure(
    port: int, pid: int, sessions: dict[UUID, int], texts: Sequence[str]
) -> tuple[list[tuple[object, ...]], dict[int, list[float]]]:
    """A row of the table for each session; and the milliseconds of its searches, by its size."""
    rows: list[tuple[object, ...]] = []
    times: dict[int, list[float]] = {}
    other = await connect(port, UUID(open_session(port)))  # its own: it keeps its session awake
    for session_id, size in sessions.items():
        queries = queries_of(texts[:size])
        at_rest = await longest_ping_ms(other, asyncio.Event(), seconds=REST_S)
        firsts, stalls = [], []
        for number in range(WAKES):
            socket = await connect(port, session_id)
            is_over = asyncio.Event()
            pinging = asyncio.create_task(longest_ping_ms(other, is_over))
            firsts.append(await search_ms(socket, queries[number]))
            is_over.set()
            stalls.append(await pinging)
            if number + 1 < WAKES:
                socket.close()
                await put_to_sleep(port)
        cpu_before_s = cpu_s(pid)
        now = times[size] = [await search_ms(socket, query) for query in queries]
        cpu_ms = (cpu_s(pid) - cpu_before_s) * 1000 / len(queries)
        then = [await search_ms(socket, query, as_of=size // 2) for query in queries]
        socket.close()
        latencies = (median(now), percentile(now, 99), cpu_ms, median(then), median(firsts))
        rows.append((size, *latencies, median(stalls), at_rest))
    other.close()
    return rows, times


def measure_peers(
    database_url: str,
    model_url: str,
    sessions: dict[UUID, int],
    texts: Sequence[str],
    embedder: Embedder | None,
) -> dict[tuple[int, str], list[float]]:
    """Milliseconds of each search with what PostgreSQL has, by the session's size and the way."""
    peers = Peers(database_url, list(sessions), embedder)
    times: dict[tuple[int, str], list[float]] = {}
    for session_id, size in sessions.items():
        queries = queries_of(texts[:size])
        times[size, "ts_rank alone"] = [
            peers.words_ms(session_id, query) for query in queries[:SEARCHES_BY_WORDS]
        ]
        meaning = [peers.meaning_ms(session_id, query) for query in queries]
        if vectors := [ms for ms in meaning if ms is not None]:
            times[size, "pgvector alone, exact"] = vectors
    if peers.has_vectors:
        times |= measure_server(database_url, model_url, sessions, texts)
    peers.close()
    return times


def measure_server(
    database_url: str, model_url: str, sessions: dict[UUID, int], texts: Sequence[str]
) -> dict[tuple[int, str], list[float]]:
    """Milliseconds of each search with pgvector behind a WebSocket of FastAPI."""
    port = free_port()
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    command = (PEERS_PYTHON, "-m", "bench.peers.fastapi_server", str(port), url, model_url)

    async def search(session_id: UUID, queries: Sequence[str]) -> list[float]:
        while True:
            with suppress(ConnectionRefusedError):  # uvicorn is ready before it listens
                socket = await websocket_connect(f"ws://127.0.0.1:{port}/search/{session_id}")
                break
            await asyncio.sleep(0.05)
        await search_ms(socket, queries[0])  # loads the embedder
        times = [await search_ms(socket, query) for query in queries]
        socket.close()
        return times

    with process(*command, core=None):
        return {
            (size, "pgvector behind FastAPI"): asyncio.run(
                search(session_id, queries_of(texts[:size]))
            )
            for session_id, size in sessions.items()
        }


async def measure_index(
    database_url: str,
    sessions: dict[UUID, int],
    texts: Sequence[str],
    embedder: Embedder | None,
) -> dict[tuple[int, str], list[float]]:
    """Milliseconds of each search with our index in this process."""
    times: dict[tuple[int, str], list[float]] = {}
    async with view_pool(database_url) as pool:
        for session_id, size in sessions.items():
            index = MemoryIndex(MemoryView(pool), session_id, embedder)
            queries = queries_of(texts[:size])
            await index.search(queries[0], limit=LIMIT)
            times[size, "Lorewire without the socket"] = [
                (await index.search(query, limit=LIMIT)).took_ms for query in queries
            ]
    return times


@contextmanager
def mem0(texts: Sequence[str]) -> Iterator[Callable[[str], Any]]:
    """mem0 in a process of its own; what asks it, while it may still be filled with the texts."""
    asked = {"texts": texts, "queries": queries_of(texts)[:MEM0_SEARCHES]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(asked, file)
        file.flush()
        with worker(PEERS_PYTHON, "-m", "bench.peers.mem0_search", file.name) as ask:
            yield ask


def queries_of(texts: Sequence[str]) -> list[str]:
    """Words of what was said, six at a time, always the same ones."""
    dice = random.Random(11)
    return [
        " ".join(dice.sample(texts[dice.randrange(len(texts))].split(), 6)) for _ in range(SEARCHES)
    ]


async def connect(port: int, session_id: UUID) -> WebSocketClientConnection:
    """A connection that has had its first message."""
    socket = await websocket_connect(f"ws://127.0.0.1:{port}{session_path(str(session_id))}")
    await socket.read_message()
    return socket


async def search_ms(socket: WebSocketClientConnection, query: str, **more: int) -> float:
    """How long one search takes, from sending it to having its answer."""
    request = {"type": "search_memory", "data": {"query": query, **more}, "id": "1"}
    started = time.perf_counter()
    await socket.write_message(orjson.dumps(request))
    while payload := await socket.read_message():
        took_ms = (time.perf_counter() - started) * 1000
        answer = orjson.loads(payload)
        if answer.get("id") == "1":
            if not answer["data"].get("results"):
                raise SystemExit(f"{query!r} was answered with {answer}")
            return took_ms
    raise SystemExit("the server has closed the connection")


async def longest_ping_ms(
    socket: WebSocketClientConnection, is_over: asyncio.Event, *, seconds: float = PATIENCE_S
) -> float:
    """The longest time between a ping and its pong, of pings one after the other."""
    longest_ms = 0.0
    deadline = time.perf_counter() + seconds
    while not is_over.is_set() and time.perf_counter() < deadline:
        started = time.perf_counter()
        await socket.write_message('{"type": "ping", "id": "p"}')
        while payload := await socket.read_message():
            if orjson.loads(payload).get("id") == "p":
                break
        longest_ms = max(longest_ms, (time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.001)
    return longest_ms


async def put_to_sleep(port: int) -> None:
    """Have the server forget the sessions that nobody is connected to."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await AsyncHTTPClient().fetch(
                f"http://127.0.0.1:{port}/api/v1/sessions/cleanup", method="POST", body=""
            )
            if orjson.loads(answer.body)["cleaned_count"]:
                return
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
