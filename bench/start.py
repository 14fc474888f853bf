"""Cold start to the first token, and waking a session that has a long history.

    python -m bench.start [--rounds 5]

The start is `lorewire serve` with everything embedded on an empty data folder, the model included.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import orjson
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

from bench.common import (
    add_turns,
    instant_model,
    lorewire,
    median,
    open_session,
    postgres,
    rounds_of,
    table,
)
from bench.search import put_to_sleep
from bench.sockets import session_path
from bench.turns import settle

HISTORY_TURNS = 3_333
HISTORY_EVENTS = 3 * HISTORY_TURNS + 1


def cold_start_s() -> float:
    """From the command to the first piece of a reply."""
    folder = Path(tempfile.mkdtemp(prefix="lorewire-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    env = {"LOREWIRE_DATA_DIR": str(folder), "LOREWIRE_PORT": "0", "LOREWIRE_LOG_LEVEL": "error"}
    started = time.perf_counter()
    command = [sys.executable, "-m", "lorewire", "serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
    try:
        assert server.stdout is not None
        url = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        port = int(url.rstrip(".").rpartition(":")[2])
        IOLoop.current().run_sync(lambda: _first_piece(port, open_session(port)))
        return time.perf_counter() - started
    finally:
        server.terminate()
        server.wait(30)
        subprocess.run(["rm", "-rf", folder], check=True)


async def _first_piece(port: int, session_id: str) -> None:
    socket = await websocket_connect(f"ws://127.0.0.1:{port}{session_path(session_id)}")
    await socket.write_message(orjson.dumps({"type": "query", "data": {"message": "Who is Kira?"}}))
    while payload := await socket.read_message():
        if orjson.loads(payload)["type"] == "query_response":
            break
    socket.close()


def wakes_ms(rounds: int) -> list[float]:
    """From the handshake to `get_status`, of a session that sleeps."""
    with postgres() as database_url, instant_model() as model_url:
        with lorewire(database_url, model_url, core=None) as (port, _):
            session_id = open_session(port, config={"enable_graph": False})
        add_turns(database_url, session_id, [("Who is Kira?", "A ranger.")] * HISTORY_TURNS)
        times_ms = []
        with lorewire(database_url, model_url, core=None) as (port, _):
            settle(port)
            # Another one comes first, so that what is first in the process has been done.
            for each in [open_session(port), *[session_id] * rounds]:
                times_ms.append(IOLoop.current().run_sync(partial(_wake, port, each)))
                IOLoop.current().run_sync(partial(put_to_sleep, port))
        return times_ms[1:]


async def _wake(port: int, session_id: str) -> float:
    started = time.perf_counter()
    socket = await websocket_connect(f"ws://127.0.0.1:{port}{session_path(session_id)}")
    await socket.write_message(orjson.dumps({"type": "get_status", "id": "1"}))
    while payload := await socket.read_message():
        if orjson.loads(payload)["type"] == "status_response":
            break
    elapsed_ms = (time.perf_counter() - started) * 1000
    socket.close()
    return elapsed_ms


def main() -> None:
    """Measure and print."""
    rounds = rounds_of(__doc__ or "")
    cold = [cold_start_s() for _ in range(rounds)]
    wakes = wakes_ms(rounds)
    table(
        "Starting",
        ("what", "median", "slowest"),
        [
            ("cold start to the first piece of a reply, s", median(cold), max(cold)),
            (f"wake of a session with {HISTORY_EVENTS:,} events, ms", median(wakes), max(wakes)),
        ],
    )


if __name__ == "__main__":
    main()
