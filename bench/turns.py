"""Durable commands and whole turns, against LangGraph, FastAPI with SQLAlchemy, and the ceiling.

    python -m bench.turns [--rounds 5]

Commands are queries that wait because the model is busy, each taken back as soon as it is accepted:
both are committed before they are answered. The ceiling is one psycopg writer that stores events of
the same size, in batches as large as the server's were.

Whole turns have a model that answers at once. Every server has both cores: Lorewire's projector and
PostgreSQL work beside its web process, as they do in production. A turn of Lorewire is recalled
for, found by search and read into the graph; with nothing learned, it has no graph. The others
store the messages, and show the model the last ones.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psycopg

from bench.common import (
    PEERS_PYTHON,
    ROOT,
    client,
    free_port,
    install_peers,
    instant_model,
    lorewire,
    median,
    open_session,
    postgres,
    process,
    ratio,
    rounds_of,
    table,
)
from bench.sockets import UNLIMITED, session_path
from lorewire.database import migrate

SECONDS = 1.5
WRITER_SECONDS = 0.4
SESSIONS_OF_COMMANDS = (1, 16, 256)
SESSIONS_OF_TURNS = (1, 64)
COMMAND_FIGURES = ("per_s", "p50_ms", "p99_ms", "batch")
LOREWIRE = "Lorewire"
STATE = b'{"text":"' + b"x" * 380 + b'"}'  # what an event of a conversation has, in bytes


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
    for writers in SESSIONS_OF_COMMANDS:
        for _ in range(rounds):
            done = subprocess.run(
                [sys.executable, "-m", "bench.appends", database_url, str(writers), str(SECONDS)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                check=True,
            )
            measured: dict[str, float] = json.loads(done.stdout)
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


def writer(database_url: str, batch: int) -> float:
    """Events a second that one psycopg writer stores through the log's own function."""
    commits = 0
    with psycopg.connect(database_url, autocommit=True) as conn:
        _append(conn, batch)  # which prepares the statement
        started = time.perf_counter()
        while time.perf_counter() - started < WRITER_SECONDS:
            _append(conn, batch)
            commits += 1
        elapsed_s = time.perf_counter() - started
    return commits * batch / elapsed_s


def _append(conn: psycopg.Connection[Any], events: int) -> None:
    conn.execute(
        "SELECT lorewire_append(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::uuid[])",
        (
            [uuid4() for _ in range(events)],
            [1] * events,
            ["Ceiling"] * events,
            [STATE] * events,
            [None] * events,
        ),
        prepare=True,
    )


def turns(rounds: int, database_url: str, model_url: str, port: int) -> None:
    """Whole turns with an instant model."""
    figures: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        peers_url = _new_database(database_url, "peers")
        chat_port = free_port()
        stack.enter_context(
            process(
                *(PEERS_PYTHON, "-m", "bench.peers.fastapi_server", str(chat_port)),
                *(peers_url.replace("postgresql://", "postgresql+psycopg://"), model_url),
                core=None,
            )
        )
        for sessions in SESSIONS_OF_TURNS:
            ours = [session_path(open_session(port)) for _ in range(sessions)]
            graphless = {"enable_graph": False}
            plain = [session_path(open_session(port, config=graphless)) for _ in range(sessions)]
            for _ in range(rounds):
                chats = [f"/chat/{uuid4()}" for _ in range(sessions)]
                for name, paths in ((LOREWIRE, ours), (f"{LOREWIRE}, nothing learned", plain)):
                    figures[sessions, name].append(client("turns", port, SECONDS, *paths))
                    settle(port)
                figures[sessions, "FastAPI + SQLAlchemy"].append(
                    client("turns", chat_port, SECONDS, *chats)
                )
                figures[sessions, "LangGraph + PostgreSQL"].append(
                    langgraph(peers_url, model_url, sessions)
                )
    rows = [
        (
            *(sessions, name),
            median([one["per_s"] for one in measured]),
            median([one["p50_ms"] for one in measured]),
            median([one["p99_ms"] for one in measured]),
            ratio(
                [one["per_s"] for one in figures[sessions, LOREWIRE]],
                [one["per_s"] for one in measured],
            ),
        )
        for (sessions, name), measured in figures.items()
    ]
    table(
        "Whole turns",
        ("sessions", "server", "turns per s", "p50 ms", "p99 ms", "Lorewire does so many times"),
        rows,
    )


def langgraph(database_url: str, model_url: str, sessions: int) -> dict[str, float]:
    """LangGraph's figures."""
    done = subprocess.run(
        [
            *(PEERS_PYTHON, "-m", "bench.peers.langgraph_turns", database_url, model_url),
            *(str(sessions), str(SECONDS)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _new_database(database_url: str, name: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
        return str(database_url.replace(f"/{conn.info.dbname}", f"/{name}", 1))


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    install_peers()
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres())
        ceiling_url = _new_database(database_url, "ceiling")
        migrate(ceiling_url)
        appends(rounds, ceiling_url)
        model_url = stack.enter_context(instant_model())
        with lorewire(database_url, model_url, core=None, **UNLIMITED) as (port, _):
            commands(rounds, ceiling_url, port)
        turns_url = _new_database(database_url, "turns")  # where no commands are left to be read
        with lorewire(turns_url, model_url, core=None, **UNLIMITED) as (port, _):
            turns(rounds, database_url, model_url, port)


if __name__ == "__main__":
    main()
