"""WebSockets: pings, idle connections, one message to many; against stock Tornado and FastAPI.

    python -m bench.sockets [--rounds 5]

Server on one core, client (picows, a process of its own) on another. Lorewire's pings go through
the session's actor; of its idle connections, ten each belong to a session with its actor, and have
been noted in the log.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

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
    new_database,
    open_session,
    postgres,
    process,
    pss_kib,
    ratio,
    rounds_of,
    table,
    wait_for_http,
)

PING_SECONDS = 0.5
IDLE_CONNECTIONS = 10_000
IDLE_SESSIONS = 1_000  # opened over HTTP; ten connections each
OPENED_AT_ONCE = 8
FANOUT_CONNECTIONS = 1_000
FANOUT_MESSAGES = 50
UNLIMITED: Mapping[str, int] = {
    "max_connections": 20_000,
    "max_connections_per_user": 20_000,
    "max_connections_per_session": 20_000,
    "messages_per_s": 1_000_000,
    "queries_per_s": 1_000_000,
}


@dataclass(frozen=True)
class Target:
    """A server that runs."""

    port: int
    pid: int


@contextmanager
def peer(module: str, *, core: int | None = SERVER_CORE) -> Iterator[Target]:
    """One of the peers, freshly started."""
    port = free_port()
    with process(PEERS_PYTHON, "-m", f"bench.peers.{module}", str(port), core=core) as server:
        wait_for_http(f"http://127.0.0.1:{port}/")
        yield Target(port, server.pid)


def pings(rounds: int, ours: Target) -> None:
    """Round trips."""
    path = session_path(open_session(ours.port))
    figures: dict[tuple[int, str], list[dict[str, float]]] = {}
    with peer("tornado_server") as tornado, peer("fastapi_server") as fastapi:
        targets = {
            "Lorewire": (ours, path),
            "stock Tornado": (tornado, "/ping"),
            "FastAPI + uvicorn": (fastapi, "/ping"),
        }
        for connections in (1, 100, 1_000):
            measured = client("ping", rounds, connections, PING_SECONDS, *_servers(targets))
            for name, taken in zip(targets, measured, strict=True):
                figures[connections, name] = taken
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
    with peer("tornado_server") as tornado:
        targets = {
            "Lorewire": (ours, session_path(open_session(ours.port))),
            "stock Tornado, write_message in a loop": (tornado, "/loop"),
            "Tornado, framed once, stream.write": (tornado, "/framed"),
        }
        measured = client("fanout", rounds, FANOUT_CONNECTIONS, FANOUT_MESSAGES, *_servers(targets))
    figures = {
        name: [one["per_cpu_s"] for one in taken]
        for name, taken in zip(targets, measured, strict=True)
    }
    _, stock, framed = figures.values()
    table(
        f"One message to {FANOUT_CONNECTIONS:,} connections",
        ("server", "deliveries per server-CPU-s", "of write_message", "of framed once"),
        [
            (name, median(measured), ratio(measured, stock), ratio(measured, framed))
            for name, measured in figures.items()
        ],
    )


def _servers(targets: Mapping[str, tuple[Target, str]]) -> Iterator[object]:
    for target, path in targets.values():
        yield from (target.port, path, target.pid)


def idle(rounds: int, database_url: str, model_url: str) -> None:
    """Memory of idle connections. Two rounds at once, as it is no time that is measured."""
    urls = [new_database(database_url, f"idle_{number}") for number in range(rounds)]
    with ThreadPoolExecutor(2) as at_once:
        measured = list(at_once.map(partial(_idle_round, model_url), urls))
    figures = {name: [kib[name] for kib in measured] for name in measured[0]}
    stock = figures["stock Tornado"]
    table(
        f"Memory of {IDLE_CONNECTIONS:,} idle connections",
        ("server", "PSS KiB a connection", "of Tornado"),
        [(name, median(kib), ratio(kib, stock)) for name, kib in figures.items()],
    )


def _idle_round(model_url: str, database_url: str) -> dict[str, float]:
    """KiB of a connection, of each server."""
    with (
        peer("tornado_server", core=None) as tornado,
        peer("fastapi_server", core=None) as fastapi,
        lorewire(database_url, model_url, core=None, **UNLIMITED) as (port, server),
        ThreadPoolExecutor() as at_once,
    ):
        measured = {
            "stock Tornado": at_once.submit(_idle_kib, tornado),
            "FastAPI + uvicorn": at_once.submit(_idle_kib, fastapi),
            "Lorewire": at_once.submit(_idle_kib, Target(port, server.pid), IDLE_SESSIONS),
        }
        return {name: kib.result() for name, kib in measured.items()}


def _idle_kib(target: Target, sessions: int = 0) -> float:
    """Of one connection, with its share of the sessions, which are Lorewire's."""
    before = pss_kib(target.pid)
    with ThreadPoolExecutor(OPENED_AT_ONCE) as opening:
        opened = opening.map(lambda _: session_path(open_session(target.port)), range(sessions))
        paths = list(opened) or ["/ping"]
    with hold_connections(target.port, IDLE_CONNECTIONS, paths, core=None):
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
        idle(rounds, database_url, model_url)


if __name__ == "__main__":
    main()
