"""Cold start to the first token, and waking a session that has a long history.

    python -m bench.start [--rounds 5]

The start is `lorewire serve` with everything embedded on an empty data folder, the model included.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

from bench.common import (
    instant_model,
    lorewire,
    median,
    open_session,
    postgres,
    rounds_of,
    table,
)
from bench.sockets import session_path

HISTORY_EVENTS = 10_000


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
    """From the handshake to `get_status`, of a session that nobody has touched since the start."""
    with postgres() as database_url, instant_model() as model_url:
        with lorewire(database_url, model_url, core=None) as (port, _):
            session_id = open_session(port)
        _write_history(database_url, session_id)
        times_ms = []
        for _ in range(rounds):
            with lorewire(database_url, model_url, core=None) as (port, _):
                open_session(port)  # so that what is first in the process has been done
                time.sleep(2.0)
                times_ms.append(
                    IOLoop.current().run_sync(lambda port=port: _wake(port, session_id))
                )
        return times_ms


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


def _write_history(database_url: str, session_id: str) -> None:
    """Append turns to a session through its aggregate, with the snapshots that an actor takes."""
    from uuid import UUID

    from actors.live_session import SNAPSHOT_EVERY
    from events.aggregate import Cause
    from events.log import Log
    from events.session import Session

    log = Log(database_url)
    session: Any = log.load(Session, UUID(session_id))
    while session.version < HISTORY_EVENTS:
        before = session.version
        turn_id = uuid4()
        session.ask_query(turn_id, "Who is Kira?", {}, stream=True, cause=Cause("ada"))
        session.start_reply()
        session.complete_reply(
            turn_id, text="A ranger.", recalled=(), facts=(), model="m", usage=None, duration_ms=1
        )
        log.events.put(session.collect_events())
        if before // SNAPSHOT_EVERY != session.version // SNAPSHOT_EVERY:
            log.put_snapshot(Session.Snapshot.take(session))
    log.close()


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
