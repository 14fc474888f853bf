"""The whole program as a user starts it: a process, the real model, and a kill in mid-turn."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from tests.harness import Socket

START_S = 60.0  # on a machine that runs the other tests besides
POLL_S = 0.05  # of asking again over a socket: far below what a user may ask in a second


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder that PostgreSQL's own user can reach, where it is started as root."""
    folder = Path(tempfile.mkdtemp(prefix="lorewire-serve-", dir="/tmp"))
    yield folder
    for process in _processes_of(folder):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


class Running:
    """A `lorewire serve` process."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self.sockets: list[Socket] = []

    async def http(self, method: str, path: str, body: Any = None) -> Any:
        response = await AsyncHTTPClient().fetch(
            self.url + path,
            method=method,
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
        )
        return orjson.loads(response.body)

    async def connect(self, session_id: str, **parameters: str) -> Socket:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        url = self.url.replace("http", "ws", 1)
        connection = await websocket_connect(f"{url}/api/v1/ws/sessions/{session_id}?{query}")
        socket = Socket(connection)
        self.sockets.append(socket)
        await socket.until("connection_established")
        return socket


@asynccontextmanager
async def serving(data_dir: Path) -> AsyncIterator[Running]:
    """Start `lorewire serve` with everything embedded; kills it where a test has not ended it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOREWIRE_")}
    environment.pop("DATABASE_URL", None)
    environment |= {"LOREWIRE_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lorewire", "serve", "--port", "0", env=environment, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        running = Running(process, found.group())
        try:
            yield running
        finally:
            for socket in running.sockets:
                socket.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_whole_program_survives_being_killed_in_mid_turn(data_dir: Path) -> None:
    async with serving(data_dir) as server:
        opened = await server.http(
            "POST", "/api/v1/sessions", {"config": {"domain": "dnd"}, "user_id": "ada"}
        )
        session_id = opened["session_id"]
        ada = await server.connect(session_id, user_id="ada")
        bob = await server.connect(session_id, user_id="bob")

        # A turn with the real model, which both see as it streams.
        await ada.send("query", {"message": "Captain Sara Holt owns the Silver Horn."}, id="q1")
        reply, _ = await asyncio.gather(  # one who does not read does not answer pings either
            *(socket.until("query_response", partial=False) for socket in (ada, bob))
        )
        for socket in (ada, bob):
            pieces = [m for m in socket.seen if m["data"].get("partial")]
            assert "".join(m["data"]["message"] for m in pieces) == reply["data"]["message"]
            assert len(pieces) > 3
        assert reply["data"]["model"]

        # What was said is found, and what was learned is in the graph.
        async with asyncio.timeout(30):
            found: dict[str, Any] = {"total_results": 0}
            while not any("Silver Horn" in hit["text"] for hit in found.get("results", ())):
                await asyncio.sleep(POLL_S)
                found = (await ada.ask("search_memory", {"query": "Silver Horn"}, "s"))["data"]
            edges: list[str] = []
            while not any("Silver Horn" in edge for edge in edges):
                await asyncio.sleep(POLL_S)
                graph = (await ada.ask("get_graph", {}, "g"))["data"]["graph_data"]
                edges = [edge["description"] for edge in graph["edges"]]
        assert found["results"][0]["ranks"]["semantic"] is not None

        # Killed while the model writes.
        await ada.send("query", {"message": "Tell me a very long story about a dragon."}, id="q2")
        await ada.until("query_response", partial=True)
        acknowledged = [m for s in (ada, bob) for m in s.seen if "position" in m]
        server.process.send_signal(signal.SIGKILL)
        await server.process.wait()
    assert await _wait_until_gone(data_dir, keeps={"postgres"})

    async with serving(data_dir) as server:
        ada = await server.connect(session_id, user_id="ada")
        async with asyncio.timeout(30):
            events: list[dict[str, Any]] = []
            while not any(e["type"] == "ReplyFailed" for e in events):
                answer = await server.http(
                    "GET", f"/api/v1/sessions/{session_id}/events?limit=1000"
                )
                events = answer["events"]

        # Everything that was acknowledged is there once.
        positions = [event["position"] for event in events]
        assert positions == sorted(set(positions))
        stored = {event["position"]: event for event in events}
        for message in acknowledged:
            assert message["position"] in stored
            if message["type"] == "query_received":
                event = stored[message["position"]]
                assert event["data"]["message"] == message["data"]["message"]
        turns = [e["data"]["turn_id"] for e in events if e["type"] == "QueryAsked"]
        assert len(turns) == len(set(turns)) == 2
        ends = {
            e["data"]["turn_id"]: e["type"]
            for e in events
            if e["type"] in ("ReplyCompleted", "ReplyFailed")
        }
        assert [ends[turn] for turn in turns] == ["ReplyCompleted", "ReplyFailed"]

        # The session lives on, and remembers.
        reply = await ada.query("Who owns the Silver Horn?")
        assert reply["data"]["message"]
        assert any(entry.startswith(("q-", "r-", "s-")) for entry in reply["data"]["recalled"])
        sessions = await server.http("GET", "/api/v1/sessions")
        assert [one["session_id"] for one in sessions["sessions"]] == [session_id]

        # Ctrl-C stops every process that was started.
        server.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await server.process.wait() == 0
    assert await _wait_until_gone(data_dir)


async def test_a_port_in_use_is_said_in_one_sentence(data_dir: Path) -> None:
    async with serving(data_dir) as server:
        port = server.url.rpartition(":")[2]
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lorewire", "serve", "--port", port),
            env={**os.environ, "LOREWIRE_DATA_DIR": str(data_dir)},
            stdout=PIPE,
            stderr=PIPE,
        )
        _, err = await second.communicate()

        assert second.returncode == 1
        assert b"Traceback" not in err
        assert b"in use" in err
        server.process.terminate()
        assert await server.process.wait() == 0


def _processes_of(data_dir: Path) -> list[psutil.Process]:
    """The processes that a server on this data folder has started, and the server."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            command = process.cmdline()
        except psutil.Error:
            continue
        is_ours = environment.get("LOREWIRE_DATA_DIR") == str(data_dir) or any(
            str(data_dir) in argument for argument in command
        )
        if is_ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


async def _wait_until_gone(
    data_dir: Path, *, keeps: frozenset[str] | set[str] = frozenset()
) -> bool:
    """Whether only processes of these names are left, soon."""
    for _ in range(100):
        left = {process.name() for process in _processes_of(data_dir)}
        if left <= set(keeps):
            return True
        await asyncio.sleep(0.1)
    return False
