"""Learning: from a reply to `memory_updated` and `graph_updated` at a client, on an idle machine.

    python -m bench.latency [--rounds 5]

A reply is told to clients when it is committed, so the clock runs from the final `query_response`
to the `memory_updated` that carries the reply's entry, and to the `graph_updated` that carries what
the query has said, on the same socket. Between them are a NOTIFY, the projector's transactions
(embedding and extraction included), another NOTIFY, and a read of the view. CPU is that of the
projector, for a turn of two messages: memory, sessions, extraction and graph; it asks no model.

Graphiti learns from a message by asking a language model, which costs more than a machine like this
has, so it is not measured here. Its maintainers call
[about 12 seconds a message](https://github.com/getzep/graphiti/issues/186) what one has to expect;
a user counted [ten calls of the model](https://github.com/getzep/graphiti/issues/467) for a message
of 150 to 250 words, in its three most frequent kinds of call alone.
"""

import asyncio
import itertools
import time
from functools import partial

import orjson
import psutil
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from bench.common import (
    cpu_s,
    instant_model,
    lorewire,
    median,
    open_session,
    percentile,
    postgres,
    rounds_of,
    table,
)
from bench.sockets import UNLIMITED, session_path

PAUSE_S = 0.05  # between turns, so that each one finds everybody idle
PATIENCE_S = 30.0
WARM_UP_TURNS = 20
TURNS = 10  # of each round
GIVEN = ("Anna", "David", "Elena", "George", "Helen", "James", "Laura", "Mark", "Peter", "Sarah")
FAMILY = (
    *("Adams", "Baker", "Carter", "Davis", "Edwards", "Foster", "Green", "Harris", "Jackson"),
    *("King", "Lewis", "Mitchell", "Nelson", "Parker"),
)
MEMORY, GRAPH = "memory_updated", "graph_updated"


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    with (
        postgres() as url,
        instant_model() as model_url,
        lorewire(url, model_url, core=None, **UNLIMITED) as (port, server),
    ):
        path = session_path(open_session(port))
        talk = Talk(_projector(server.pid))
        IOLoop.current().run_sync(partial(talk.run, port, path, rounds))
    cells = [
        percentile(times_s, percent) * 1e3
        for times_s in (talk.memory_s, talk.graph_s)
        for percent in (50, 99)
    ]
    table(
        "From a reply to what was learned",
        (
            *("turns", "memory p50 ms", "memory p99 ms", "graph p50 ms", "graph p99 ms"),
            "CPU of the projector a turn, ms",
        ),
        [(rounds * TURNS, *cells, median(talk.cpu_ms))],
    )


class Talk:
    """Turns one after the other, and what they took."""

    def __init__(self, projector: psutil.Process) -> None:
        self.memory_s: list[float] = []
        self.graph_s: list[float] = []
        self.cpu_ms: list[float] = []  # a turn, of each round
        self._projector = projector
        self._names = map(" ".join, itertools.product(GIVEN, FAMILY))

    async def run(self, port: int, path: str, rounds: int) -> None:
        """All rounds."""
        socket = await websocket_connect(f"ws://127.0.0.1:{port}{path}")
        for _ in range(WARM_UP_TURNS):
            await self._turn(socket)
        for _ in range(rounds):
            before_s = cpu_s(self._projector.pid)
            for _ in range(TURNS):
                took_s = await self._turn(socket)
                self.memory_s.append(took_s[MEMORY])
                self.graph_s.append(took_s[GRAPH])
            self.cpu_ms.append((cpu_s(self._projector.pid) - before_s) * 1000 / TURNS)
        socket.close()

    async def _turn(self, socket: WebSocketClientConnection) -> dict[str, float]:
        """One turn; the seconds from its reply to either update."""
        await asyncio.sleep(PAUSE_S)
        name = next(self._names)
        data = {"message": f"{name} lives in Rivermoor.", "stream": False}
        await socket.write_message(orjson.dumps({"type": "query", "data": data}))
        replied_at = None
        took_s: dict[str, float] = {}
        async with asyncio.timeout(PATIENCE_S):
            while payload := await socket.read_message():
                message = orjson.loads(payload)
                kind = message["type"]
                if kind == "query_response" and not message["data"]["partial"]:
                    replied_at = time.perf_counter()
                elif (
                    kind == MEMORY
                    and any(entry["role"] == "agent" for entry in message["data"]["entries"])
                ) or (kind == GRAPH and name in str(message["data"])):
                    assert replied_at is not None
                    took_s.setdefault(kind, time.perf_counter() - replied_at)
                if len(took_s) == 2:
                    return took_s
        raise ConnectionError("The server closed the connection.")


def _projector(server_pid: int) -> psutil.Process:
    children = psutil.Process(server_pid).children()
    return next(child for child in children if "project" in child.cmdline())


if __name__ == "__main__":
    main()
