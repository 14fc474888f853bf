"""Garbage collection: what looking for cycles costs a server while connections come.

    python -m bench.collecting [--rounds 5]

Each server gets 200 sessions and 800 connections. Once it collects as Python does by itself, and
once as `lorewire serve` does it: what was there at its start is left alone, and cycles are looked
for less often.
"""

import gc
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.common import (
    SERVER_CORE,
    free_port,
    hold_connections,
    instant_model,
    median,
    open_session,
    postgres,
    process,
    ratio,
    rounds_of,
    settings_of,
    table,
)
from bench.sockets import UNLIMITED, session_path
from lorewire import app

SESSIONS = 200
CONNECTIONS = 800
WAYS: dict[str, Callable[[], None]] = {
    "as Python does": lambda: None,
    "as `lorewire serve` does": app.collect_rarely,
}


def figures_of(way: str, database_url: str, model_url: str) -> dict[str, Any]:
    """What one server has spent."""
    port = free_port()
    env = settings_of(database_url, model_url, port, **UNLIMITED)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = (sys.executable, "-m", "bench.collecting", "serve", way, file)
        with process(*command, core=SERVER_CORE, env=env):
            paths = [session_path(open_session(port)) for _ in range(SESSIONS)]
            with hold_connections(port, CONNECTIONS, paths):
                pass
        figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def serve(way: str, file: str) -> None:
    """`lorewire serve` that collects in one of the ways; writes its figures when it ends."""
    from lorewire.cli import app as commands

    pauses: list[float] = []
    started: dict[str, float] = {}

    def note(phase: str, _info: object) -> None:
        if phase == "start":
            started["pause"] = time.thread_time()
        else:
            pauses.append(time.thread_time() - started["pause"])

    def begin() -> None:
        WAYS[way]()
        gc.callbacks.append(note)
        started["serving"] = time.process_time()

    app.collect_rarely = begin
    try:
        commands(["serve"])
    finally:
        gc.callbacks.remove(note)
        cpu_s = time.process_time() - started["serving"]
        figures = {"cpu_s": cpu_s, "pauses_s": sum(pauses), "longest_ms": max(pauses) * 1000}
        Path(file).write_text(json.dumps(figures))


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    figures: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with postgres() as database_url, instant_model() as model_url:
        for _ in range(rounds):
            for way in WAYS:
                figures[way].append(figures_of(way, database_url, model_url))
    alone = [one["cpu_s"] for one in next(iter(figures.values()))]
    table(
        f"Collecting while {CONNECTIONS:,} connections come",
        ("collecting", "CPU s of the server", "of as Python does", "in it, s", "longest pause, ms"),
        [
            (
                way,
                median([one["cpu_s"] for one in measured]),
                ratio([one["cpu_s"] for one in measured], alone),
                median([one["pauses_s"] for one in measured]),
                median([one["longest_ms"] for one in measured]),
            )
            for way, measured in figures.items()
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
