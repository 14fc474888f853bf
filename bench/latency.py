"""From a commit to `memory_updated` at a client, on an idle machine.

    python -m bench.latency [--rounds 200]

A reply is told to clients when it is committed, so the clock runs from the final `query_response`
to the `memory_updated` that carries the reply's entry, on the same socket. Between them are a
NOTIFY, the projector's transaction (with the embedding), another NOTIFY, and a read of the view.
"""

import asyncio
import time

import orjson
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from bench.common import instant_model, lorewire, open_session, postgres, rounds_of, table
from bench.sockets import session_path

PAUSE_S = 0.05  # between turns, so that each one finds everybody idle
WARM_UP_TURNS = 20
TURNS = 200


def main() -> None:
    """Measure, with the embedder that comes with the program and without one."""
    turns = rounds_of(__doc__ or "", TURNS)
    rows = []
    for embedder in ("wordllama", "none"):
        with (
            postgres() as url,
            instant_model() as model_url,
            lorewire(url, model_url, core=None, embedder=embedder) as (port, _),
        ):
            path = session_path(open_session(port))
            measured = IOLoop.current().run_sync(lambda: _measure(port, path, turns))  # noqa: B023
        rows.append((embedder, *(measured[len(measured) * p // 100] * 1e3 for p in (50, 95, 99))))
    table("Commit to memory_updated", ("embedder", "p50 ms", "p95 ms", "p99 ms"), rows)


async def _measure(port: int, path: str, turns: int) -> list[float]:
    socket = await websocket_connect(f"ws://127.0.0.1:{port}{path}")
    for _ in range(WARM_UP_TURNS):
        await _turn(socket)
    return sorted([await _turn(socket) for _ in range(turns)])


async def _turn(socket: WebSocketClientConnection) -> float:
    """One turn; the seconds from its reply to the reply's memory entry."""
    await asyncio.sleep(PAUSE_S)
    data = {"message": "What does the harbour watch know about Kira?", "stream": False}
    await socket.write_message(orjson.dumps({"type": "query", "data": data}))
    replied_at = None
    while payload := await socket.read_message():
        message = orjson.loads(payload)
        if message["type"] == "query_response" and not message["data"]["partial"]:
            replied_at = time.perf_counter()
        if message["type"] == "memory_updated" and any(
            entry["role"] == "agent" for entry in message["data"]["entries"]
        ):
            assert replied_at is not None
            return time.perf_counter() - replied_at
    raise ConnectionError("The server closed the connection.")


if __name__ == "__main__":
    main()
