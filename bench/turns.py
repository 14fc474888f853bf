"""Durable commands and whole turns, against LangGraph, FastAPI with SQLAlchemy, and the ceiling.

    python -m bench.turns [--rounds 5]

Commands are queries that wait because the model is busy, each taken back as soon as it is accepted:
both are committed before they are answered. The ceiling is one psycopg writer that stores events of
the same size, in batches as large as the server's were.

Whole turns have a model that answers at once. Every server has both cores: Lorewire's projector and
PostgreSQL work beside its web process, as they do in production. A turn of Lorewire is recalled
for, found by search and read into the graph; with nothing learned, it has no graph. The others
store the messages, and show the model the last ones. Behind the turns the projector reads on: how
long it then takes until all is learned is in the table, too. The last table says where the CPU
time of a turn goes, and so what a core is the limit of.
"""

import itertools
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psutil
import psycopg

from bench.common import (
    PEERS_PYTHON,
    client,
    cpu_s,
    free_port,
    install_peers,
    instant_model,
    lorewire,
    median,
    new_database,
    open_session,
    postgres,
    process,
    ratio,
    rounds_of,
    table,
    worker,
)
from bench.sockets import UNLIMITED, session_path
from lorewire.database import migrate

SECONDS = 1.0
WRITER_SECONDS = 0.3
SESSIONS_OF_COMMANDS = (1, 16, 256)
SESSIONS_OF_TURNS = (1, 64)
COMMAND_FIGURES = ("per_s", "p50_ms", "p99_ms", "batch")
LOREWIRE, PLAIN = "Lorewire", "Lorewire, nothing learned"
FASTAPI, LANGGRAPH = "FastAPI + SQLAlchemy", "LangGraph + PostgreSQL"
CPU_FIGURES = ("server_ms", "projector_ms", "database_ms")
STATE = b'{"text":"' + b"x" * 380 + b'"}'  # what an event of a conversation has, in bytes

EventKey = tuple[UUID, int, UUID | None]  # of an event: its stream, its version, its session


@dataclass(frozen=True)
class Server:
    """A server that runs, and the PostgreSQL behind it."""

    port: int
    pid: int
    database_pid: int

    def turns(self, paths: Sequence[str]) -> dict[str, float]:
        """The client's figures of whole turns, with the CPU milliseconds of one."""
        before = self._cpu_s()
        measured: dict[str, float] = client("turns", self.port, SECONDS, *paths)
        used_s = [now - then for now, then in zip(self._cpu_s(), before, strict=True)]
        return measured | {
            name: 1000 * s / measured["count"] for name, s in zip(CPU_FIGURES, used_s, strict=True)
        }

    def _cpu_s(self) -> tuple[float, float, float]:
        return cpu_s(self.pid), _children_cpu_s(self.pid), _children_cpu_s(self.database_pid)


def commands(rounds: int, database_url: str, port: int) -> None:
    """Commands of clients that are committed before they are answered."""
    figures: dict[int, list[dict[str, float]]] = defaultdict(list)
    for sessions in SESSIONS_OF_COMMANDS:
        paths = [session_path(open_session(port)) for _ in range(sessions)]
        for _ in range(rounds):
            before = committed(port)
            measured = client("commands", port, SECONDS, *paths)
            events, commits = (
                now - then for now, then in zip(committed(port), before, strict=True)
            )
            measured["batch"] = events / max(1, commits)
            figures[sessions].append(measured | one_writer(database_url, measured["batch"]))
    table(
        "Durable commands over the socket, while the model is busy",
        (
            *("sessions", "commands per s", "p50 ms", "p99 ms", "events a commit"),
            *("of one writer in equal batches", "of one transaction each"),
        ),
        [
            (
                sessions,
                *(median([one[name] for one in measured]) for name in COMMAND_FIGURES),
                ratio([m["per_s"] for m in measured], [m["ceiling"] for m in measured]),
                ratio([m["per_s"] for m in measured], [m["one_each"] for m in measured]),
            )
            for sessions, measured in figures.items()
        ],
    )


def appends(rounds: int, database_url: str) -> None:
    """Commands without a socket: an aggregate decides, the journal commits."""
    figures: dict[int, list[dict[str, float]]] = defaultdict(list)
    with worker(sys.executable, "-m", "bench.appends", database_url) as measure:
        for writers in SESSIONS_OF_COMMANDS:
            for _ in range(rounds):
                measured: dict[str, float] = measure(f"{writers} {SECONDS}")
                figures[writers].append(measured | one_writer(database_url, measured["batch"]))
    table(
        "Durable commands without a socket: decided by an aggregate, committed by the journal",
        (
            *("sessions", "commands per s", "events a commit"),
            *("of one writer in equal batches", "of one transaction each"),
        ),
        [
            (
                writers,
                *(median([one[name] for one in measured]) for name in ("per_s", "batch")),
                ratio([m["per_s"] for m in measured], [m["ceiling"] for m in measured]),
                ratio([m["per_s"] for m in measured], [m["one_each"] for m in measured]),
            )
            for writers, measured in figures.items()
        ],
    )


def one_writer(database_url: str, batch: float) -> dict[str, float]:
    """What one writer stores in batches of so many events, and in single ones."""
    return {
        "ceiling": writer(database_url, max(1, round(batch))),
        "one_each": writer(database_url, 1),
    }


def committed(port: int) -> tuple[float, float]:
    """Events and commits of the server so far."""
    figures = _metrics(port)
    return (
        figures["lorewire_events_committed_total"],
        figures["lorewire_journal_batch_events_count"],
    )


def settle(port: int) -> None:
    """Return when the projector has nothing left to do, so that it takes nothing from others."""
    while any(lag for name, lag in _metrics(port).items() if name.startswith("lorewire_view_lag")):
        time.sleep(0.1)


def _metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    named = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(figure) for name, figure in named}


def writer(database_url: str, batch: int, events: Iterator[EventKey] | None = None) -> float:
    """Events a second that one psycopg writer stores through the log's own function.

    `events` None: each begins a stream of its own, in no session.
    """
    commits = 0
    keys = events or ((uuid4(), 1, None) for _ in itertools.count())
    with psycopg.connect(database_url, autocommit=True) as conn:
        _append(conn, list(itertools.islice(keys, batch)))  # which prepares the statement
        started = time.perf_counter()
        while time.perf_counter() - started < WRITER_SECONDS:
            _append(conn, list(itertools.islice(keys, batch)))
            commits += 1
        elapsed_s = time.perf_counter() - started
    return commits * batch / elapsed_s


def _append(conn: psycopg.Connection[Any], events: Sequence[EventKey]) -> None:
    streams, versions, sessions = map(list, zip(*events, strict=True))
    conn.execute(
        "SELECT lorewire_append(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::uuid[])",
        (streams, versions, ["Ceiling"] * len(events), [STATE] * len(events), sessions),
        prepare=True,
    )


def turns(rounds: int, database_url: str, model_url: str, ours: Server) -> None:
    """Whole turns with an instant model."""
    figures: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        peers_url = new_database(database_url, "peers")
        chat_port = free_port()
        chat = stack.enter_context(
            process(
                *(PEERS_PYTHON, "-m", "bench.peers.fastapi_server", str(chat_port)),
                *(peers_url.replace("postgresql://", "postgresql+psycopg://"), model_url),
                core=None,
            )
        )
        theirs = Server(chat_port, chat.pid, ours.database_pid)
        langgraph = stack.enter_context(
            worker(PEERS_PYTHON, "-m", "bench.peers.langgraph_turns", peers_url, model_url)
        )
        for sessions in SESSIONS_OF_TURNS:
            graphless = {"enable_graph": False}
            ways = {
                LOREWIRE: [session_path(open_session(ours.port)) for _ in range(sessions)],
                PLAIN: [
                    session_path(open_session(ours.port, config=graphless)) for _ in range(sessions)
                ],
            }
            settle(ours.port)
            for _ in range(rounds):
                for name, paths in ways.items():
                    measured = ours.turns(paths)
                    ended = time.perf_counter()
                    settle(ours.port)
                    measured["behind_s"] = time.perf_counter() - ended
                    figures[sessions, name].append(measured)
                chats = [f"/chat/{uuid4()}" for _ in range(sessions)]
                figures[sessions, FASTAPI].append(theirs.turns(chats))
                figures[sessions, LANGGRAPH].append(langgraph(f"{sessions} {SECONDS}"))
    table(
        "Whole turns",
        (
            *("sessions", "server", "turns per s", "p50 ms", "p99 ms", "all learned after, s"),
            *("Lorewire does so many times", "with nothing learned"),
        ),
        [
            (
                *(sessions, name),
                *(median([one[key] for one in measured]) for key in ("per_s", "p50_ms", "p99_ms")),
                median([one["behind_s"] for one in measured]) if name in ways else "-",
                *(
                    ratio(
                        [one["per_s"] for one in figures[sessions, our_way]],
                        [one["per_s"] for one in measured],
                    )
                    for our_way in ways
                ),
            )
            for (sessions, name), measured in figures.items()
        ],
    )
    table(
        "CPU time of a turn, in milliseconds",
        ("sessions", "server", "the server", "its projector", "PostgreSQL"),
        [
            (sessions, name, *(_median_of(measured, key) for key in CPU_FIGURES))
            for (sessions, name), measured in figures.items()
            if name != LANGGRAPH
        ],
    )


def _median_of(measured: list[dict[str, float]], key: str) -> float | str:
    return median([one[key] for one in measured]) or "-"


def _children_cpu_s(pid: int) -> float:
    """CPU time that a process's children have used, those that have ended included, in seconds."""
    process = psutil.Process(pid)
    ended = process.cpu_times()
    used_s: float = ended.children_user + ended.children_system
    for child in process.children():
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            used_s += cpu_s(child.pid) + _children_cpu_s(child.pid)
    return used_s


def _postmaster_of(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        postmaster: int = psutil.Process(conn.info.backend_pid).ppid()
    return postmaster


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    install_peers()
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres())
        ceiling_url = new_database(database_url, "ceiling")
        migrate(ceiling_url)
        appends(rounds, ceiling_url)
        model_url = stack.enter_context(instant_model())
        with lorewire(database_url, model_url, core=None, **UNLIMITED) as (port, _):
            commands(rounds, ceiling_url, port)
        turns_url = new_database(database_url, "turns")  # where no commands are left to be read
        with lorewire(turns_url, model_url, core=None, **UNLIMITED) as (port, server):
            ours = Server(port, server.pid, _postmaster_of(database_url))
            turns(rounds, database_url, model_url, ours)


if __name__ == "__main__":
    main()
