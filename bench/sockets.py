"""WebSockets: pings, idle connections, one message to many; against stock Tornado and FastAPI.

    python -m bench.sockets [--rounds 5]

Server on one core, client (picows, a process of its own) on another. Lorewire's pings go through
the session's actor, its idle connections each have a session and its actor.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.common import (
    PEERS_PYTHON,
    SERVER_CORE,
    client,
    free_port,
    hold_connections,
    install_peers,
    instant_model,
    lorewire,
    median,
    open_session,
    postgres,
    process,
    pss_kib,
    ratio,
    rounds_of,
    table,
    wait_for_http,
)

PING_SECONDS = 1.0
IDLE_CONNECTIONS = 10_000
IDLE_SESSIONS = 1_000  # opened over HTTP; ten connections each
FANOUT_CONNECTIONS = 1_000
FANOUT_MESSAGES = 100
UNLIMITED: Mapping[str, int] = {
    "max_connections": 20_000,
    "max_connections_per_user": 20_000,
    "max_connections_per_session": 20_000,
    "messages_per_s": 1_000_000,
    "queries_per_s": 1_000_000,
}
READERS = 100
SLOW_QUERIES = 150  # of 20 kB: those who have stopped are closed on the way


@dataclass(frozen=True)
class Target:
    """A server that runs."""

    port: int
    pid: int


@contextmanager
def peer(module: str) -> Iterator[Target]:
    """One of the peers, freshly started."""
    port = free_port()
    with process(
        PEERS_PYTHON, "-m", f"bench.peers.{module}", str(port), core=SERVER_CORE
    ) as server:
        wait_for_http(f"http://127.0.0.1:{port}/")
        yield Target(port, server.pid)


def pings(rounds: int, ours: Target) -> None:
    """Round trips."""
    path = session_path(open_session(ours.port))
    figures: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    with peer("tornado_server") as tornado, peer("fastapi_server") as fastapi:
        targets = {
            "Lorewire": (ours, path),
            "stock Tornado": (tornado, "/ping"),
            "FastAPI + uvicorn": (fastapi, "/ping"),
        }
        for connections in (1, 100, 1_000):
            for _ in range(rounds):
                for name, (target, where) in targets.items():
                    measured = client(
                        "ping", target.port, where, connections, PING_SECONDS, target.pid
                    )
                    figures[connections, name].append(measured)
    rows = []
    for (connections, name), taken in figures.items():
        stock = figures[connections, "stock Tornado"]
        per_cpu = [one["per_cpu_s"] for one in taken]
        rows.append(
            (
                connections,
                name,
                median([one["per_s"] for one in taken]),
                median(per_cpu),
                median([one["p50_us"] for one in taken]),
                median([one["p99_us"] for one in taken]),
                ratio(per_cpu, [one["per_cpu_s"] for one in stock]),
            )
        )
    table(
        "Ping round trips",
        ("connections", "server", "per s", "per server-CPU-s", "p50 us", "p99 us", "of Tornado"),
        rows,
    )


def fanout(rounds: int, ours: Target) -> None:
    """One message to many connections of one session."""
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        path = session_path(open_session(ours.port))
        with peer("tornado_server") as tornado:
            for name, target, where in (
                ("Lorewire", ours, path),
                ("stock Tornado, write_message in a loop", tornado, "/loop"),
                ("Tornado, framed once, stream.write", tornado, "/framed"),
            ):
                measured = client(
                    "fanout", target.port, where, FANOUT_CONNECTIONS, FANOUT_MESSAGES, target.pid
                )
                figures[name].append(measured["per_cpu_s"])
    _, stock, framed = figures.values()
    table(
        f"One message to {FANOUT_CONNECTIONS:,} connections",
        ("server", "deliveries per server-CPU-s", "of write_message", "of framed once"),
        [
            (name, median(measured), ratio(measured, stock), ratio(measured, framed))
            for name, measured in figures.items()
        ],
    )


def slow_readers(rounds: int, database_url: str, model_url: str) -> None:
    """What connections that have stopped reading cost those who read, and the server's memory."""
    figures: dict[int, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for stopped in (0, 1, 1_000):
            with lorewire(
                database_url,
                model_url,
                **UNLIMITED,
            ) as (port, server):
                path = session_path(open_session(port))
                figures[stopped].append(
                    client("slow", port, path, READERS, stopped, SLOW_QUERIES, server.pid)
                )
    nobody = [one["per_cpu_s"] for one in figures[0]]
    table(
        f"{READERS} readers of large messages, beside some that have stopped reading",
        ("have stopped", "deliveries per server-CPU-s", "of nobody", "memory gained, MiB"),
        [
            (
                stopped,
                median([one["per_cpu_s"] for one in measured]),
                ratio([one["per_cpu_s"] for one in measured], nobody),
                median([one["memory_mib"] for one in measured]),
            )
            for stopped, measured in figures.items()
        ],
    )


def idle(rounds: int, database_url: str, model_url: str) -> None:
    """Memory of idle connections."""
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        with peer("tornado_server") as tornado:
            figures["stock Tornado"].append(_idle_kib(tornado, ["/ping"]))
        with peer("fastapi_server") as fastapi:
            figures["FastAPI + uvicorn"].append(_idle_kib(fastapi, ["/ping"]))
        with lorewire(database_url, model_url, **UNLIMITED) as (port, server):
            paths = [session_path(open_session(port)) for _ in range(IDLE_SESSIONS)]
            figures["Lorewire"].append(_idle_kib(Target(port, server.pid), paths))
    stock = figures["stock Tornado"]
    table(
        f"Memory of {IDLE_CONNECTIONS:,} idle connections",
        ("server", "PSS KiB a connection", "of Tornado"),
        [(name, median(kib), ratio(kib, stock)) for name, kib in figures.items()],
    )


def _idle_kib(target: Target, paths: list[str]) -> float:
    before = pss_kib(target.pid)
    with hold_connections(target.port, IDLE_CONNECTIONS, paths):
        return (pss_kib(target.pid) - before) / IDLE_CONNECTIONS


def session_path(session_id: str) -> str:
    """Where a session's socket is."""
    return f"/api/v1/ws/sessions/{session_id}"


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    install_peers()
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres())
        model_url = stack.enter_context(instant_model())
        with lorewire(database_url, model_url, **UNLIMITED) as (port, server):
            pings(rounds, Target(port, server.pid))
            fanout(rounds, Target(port, server.pid))
        slow_readers(rounds, database_url, model_url)
        idle(rounds, database_url, model_url)


if __name__ == "__main__":
    main()
