"""The whole server is stopped for a while, as a laptop is that sleeps, and goes on."""

import asyncio
import os
import signal
from typing import Any

import psutil

from tests.faults.world import Database, serving
from tests.scripted_model import ScriptedModel

LIFE: dict[str, Any] = {
    "heartbeat_interval_s": "0.5",
    "pong_timeout_s": "0.5",
    "heartbeat_timeout_s": "1",
}
STOPPED_S = 3.0  # longer than anybody may be silent


async def test_nobody_is_closed_because_the_server_stood_still(
    database: Database, model: ScriptedModel
) -> None:
    async with serving(database.url, model.url, **LIFE) as server:
        session_id = await server.open_session()
        sockets = [await server.dial(session_id, user_id="ada") for _ in range(5)]
        for socket in sockets:
            await socket.until("connection_established")

        os.kill(server.process.pid, signal.SIGSTOP)
        while psutil.Process(server.process.pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.01)
        await asyncio.sleep(STOPPED_S)
        os.kill(server.process.pid, signal.SIGCONT)

        answers = [await socket.ask("ping", {"message": "still there"}) for socket in sockets]
        assert [answer["type"] for answer in answers] == ["pong"] * 5
        for socket in sockets:
            socket.close()
