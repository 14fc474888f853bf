"""Slow readers: what connections that have stopped reading cost those who read, and the memory.

    python -m bench.slow_readers [--rounds 5]

They have stopped for good: the server keeps 1 MiB at most for each, then closes it. Server on one
core, client on another.
"""

from collections import defaultdict
from contextlib import ExitStack

from bench.common import (
    client,
    install_peers,
    instant_model,
    lorewire,
    median,
    open_session,
    postgres,
    ratio,
    rounds_of,
    table,
)
from bench.sockets import UNLIMITED, Target, session_path

READERS = 100
STOPPED = 500
SLOW_QUERIES = 50  # of 30 kB: those who have stopped are closed on the way


def slow_readers(rounds: int, ours: Target, database_url: str, model_url: str) -> None:
    """What connections that have stopped reading cost those who read, and the server's memory."""
    figures: dict[int, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for stopped in (0, 1):
            figures[stopped].append(_slow(ours, stopped))
        with lorewire(database_url, model_url, **UNLIMITED) as (port, server):
            fresh = Target(port, server.pid)  # which has no memory left to take again
            figures[STOPPED].append(_slow(fresh, STOPPED))
    nobody = [one["per_cpu_s"] for one in figures[0]]
    table(
        f"{READERS} readers of large messages, beside some that have stopped reading",
        ("have stopped", "deliveries per server-CPU-s", "of nobody", "memory gained, MiB"),
        [
            (
                stopped,
                median([one["per_cpu_s"] for one in measured]),
                ratio([one["per_cpu_s"] for one in measured], nobody),
                median([one["memory_mib"] for one in measured]) if stopped == STOPPED else "-",
            )
            for stopped, measured in figures.items()
        ],
    )


def _slow(target: Target, stopped: int) -> dict[str, float]:
    path = session_path(open_session(target.port))
    figures: dict[str, float] = client(
        "slow", target.port, path, READERS, stopped, SLOW_QUERIES, target.pid
    )
    return figures


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    install_peers()
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres())
        model_url = stack.enter_context(instant_model())
        port, server = stack.enter_context(lorewire(database_url, model_url, **UNLIMITED))
        slow_readers(rounds, Target(port, server.pid), database_url, model_url)


if __name__ == "__main__":
    main()
