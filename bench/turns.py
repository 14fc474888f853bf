"""Durable commands and whole turns, against LangGraph, FastAPI with SQLAlchemy, and the ceiling.

    python -m bench.turns [--rounds 5]

A model that answers at once. Every server has both cores: Lorewire's projector and PostgreSQL work
beside its web process, as they do in production.
"""

import json
import subprocess
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack
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

SECONDS = 4.0
STATE = b'{"text":"' + b"x" * 380 + b'"}'  # what an event of a conversation has, in bytes


def commands(rounds: int, database_url: str, port: int) -> None:
    """Queries accepted and replies stored, and what one writer could do with the same events."""
    database_url = _new_database(database_url, "ceiling")
    migrate(database_url)
    figures: dict[int, list[dict[str, float]]] = defaultdict(list)
    for sessions in (1, 16, 256):
        paths = [session_path(open_session(port)) for _ in range(sessions)]
        for _ in range(rounds):
            before, batches_before = committed(port)
            measured = client("turns", port, SECONDS, *paths)
            after, batches_after = committed(port)
            batch = max(1, round((after - before) / max(1, batches_after - batches_before)))
            # The load runs for a quarter longer than it is measured.
            measured["events_per_s"] = (after - before) / (SECONDS * 1.25)
            measured["batch"] = batch
            measured["ceiling"] = writer(database_url, batch)
            measured["one_each"] = writer(database_url, 1)
            figures[sessions].append(measured)
    rows = [
        (
            sessions,
            median([one["turns_per_s"] for one in measured]),
            median([one["accept_p50_ms"] for one in measured]),
            median([one["accept_p99_ms"] for one in measured]),
            median([one["events_per_s"] for one in measured]),
            median([one["batch"] for one in measured]),
            ratio([m["events_per_s"] for m in measured], [m["ceiling"] for m in measured]),
            ratio([m["events_per_s"] for m in measured], [m["one_each"] for m in measured]),
        )
        for sessions, measured in figures.items()
    ]
    table(
        "Durable commands",
        (
            *("sessions", "queries accepted per s", "accept p50 ms", "accept p99 ms"),
            *("events stored per s", "events a commit", "of one writer in equal batches"),
            "of one transaction each",
        ),
        rows,
    )


def committed(port: int) -> tuple[float, float]:
    """Events and commits of the server so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return (
        float(figures["lorewire_events_committed_total"]),
        float(figures["lorewire_journal_batch_events_count"]),
    )


def writer(database_url: str, batch: int) -> float:
    """Events a second that one psycopg writer stores through the log's own function."""
    stored = 0
    with psycopg.connect(database_url, autocommit=True) as conn:
        started = time.perf_counter()
        while time.perf_counter() - started < SECONDS / 4:
            conn.execute(
                "SELECT lorewire_append(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[],"
                " %b::uuid[])",
                (
                    [uuid4() for _ in range(batch)],
                    [1] * batch,
                    ["Ceiling"] * batch,
                    [STATE] * batch,
                    [None] * batch,
                ),
                prepare=True,
            )
            stored += batch
        elapsed_s = time.perf_counter() - started
    return stored / elapsed_s


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
        for sessions in (1, 16, 64):
            ours = [session_path(open_session(port)) for _ in range(sessions)]
            for _ in range(rounds):
                chats = [f"/chat/{uuid4()}" for _ in range(sessions)]
                figures[sessions, "Lorewire"].append(client("turns", port, SECONDS, *ours))
                figures[sessions, "FastAPI + SQLAlchemy"].append(
                    client("turns", chat_port, SECONDS, *chats)
                )
                figures[sessions, "LangGraph + PostgreSQL"].append(
                    langgraph(peers_url, model_url, sessions)
                )
    rows = [
        (
            *(sessions, name),
            median([one["turns_per_s"] for one in measured]),
            median([one["turn_p50_ms"] for one in measured]),
            median([one["turn_p99_ms"] for one in measured]),
            ratio(
                [one["turns_per_s"] for one in figures[sessions, "Lorewire"]],
                [one["turns_per_s"] for one in measured],
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
        model_url = stack.enter_context(instant_model())
        port, _ = stack.enter_context(lorewire(database_url, model_url, core=None, **UNLIMITED))
        commands(rounds, database_url, port)
        turns(rounds, database_url, model_url, port)


if __name__ == "__main__":
    main()
