import asyncio
import json
import os
import pty
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest_asyncio
from tornado.testing import bind_unused_port

from tests.lorewire.small_server import SmallServer, small_server


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int | None
    out: str
    err: str


async def lorewire(*arguments: str, url: str | None = None, lines: str = "") -> Ran:
    """Run a command with `lines` as its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lorewire",
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "LOREWIRE_URL": url or "http://127.0.0.1:1"},
    )
    out, err = await process.communicate(lines.encode())
    return Ran(process.returncode, out.decode(), err.decode())


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SmallServer]:
    async with small_server() as server:
        yield server


async def test_help_names_every_command() -> None:
    ran = await lorewire("--help")

    assert ran.status == 0
    for command in ("serve", "project", "migrate", "doctor", "chat", "sessions", "replay"):
        assert command in ran.out


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numpy", "openai", "psycopg", "pydantic", "spacy", "tornado", "wordllama")
    script = f"import sys, lorewire.cli; print([m for m in {heavy} if m in sys.modules])"

    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

    assert said.stdout.decode().strip() == "[]"


async def test_replay_prints_every_event_in_order_one_on_a_line(server: SmallServer) -> None:
    ran = await lorewire("replay", "s1", url=server.url)
    lines = ran.out.splitlines()

    assert ran.status == 0
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert "2026-01-31 12:00:02.250Z  QueryAsked" in lines[1]
    assert "ada: Who lives in the mist?" in lines[1]
    assert "A witch. (1.5 s, 1 memories and 2 facts recalled)" in lines[2]
    assert "can't be read" in lines[3]
    assert "how=strange" in lines[4]


async def test_replay_can_be_cut_to_positions_and_be_json(server: SmallServer) -> None:
    ran = await lorewire(
        "replay", "s1", "--from", "2", "--to", "3", "--format", "jsonl", url=server.url
    )

    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["position"] for event in events] == [2, 3]
    assert events[0]["type"] == "QueryAsked"


async def test_replay_can_go_at_the_pace_at_which_it_happened(server: SmallServer) -> None:
    ran = await lorewire("replay", "s1", "--to", "3", "--speed", "100x", url=server.url)
    wrong = await lorewire("replay", "s1", "--speed", "fast", url=server.url)

    assert len(ran.out.splitlines()) == 3
    assert wrong.status == 2
    assert "10x" in wrong.err


async def test_replay_of_an_unknown_session_is_one_line_and_a_failure(
    server: SmallServer,
) -> None:
    ran = await lorewire("replay", "gone", "--from", "2", url=f"{server.url}/elsewhere")

    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1


async def test_sessions_are_listed_on_a_line_each(server: SmallServer) -> None:
    ran = await lorewire("sessions", url=server.url)

    assert ran.status == 0
    assert ran.out.splitlines()[1].split() == [
        "s1",
        "A",
        "test",
        "dnd",
        "ada",
        "active",
        "2026-01-31T12:30:00.000Z",
    ]


async def test_chat_asks_each_line_of_a_pipe_and_prints_the_replies(server: SmallServer) -> None:
    ran = await lorewire("chat", "--domain", "dnd", url=server.url, lines="hello\n\nwho\x1b[2J?")

    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "You said hello\nYou said who[2J?\n"
    assert server.bodies == [{"config": {"domain": "dnd"}}]


async def test_chat_knows_commands(server: SmallServer) -> None:
    lines = "/graph\n/status\n/search \n/dance\n/quit\nnever asked\n"

    ran = await lorewire("chat", "s1", url=server.url, lines=lines)

    assert ran.status == 1  # for what was refused
    assert ran.out.splitlines()[0] == "Ada -[knows]-> Babbage"
    assert "title: A test" in ran.out
    assert "`query` is empty" in ran.err
    assert "/dance is not known" in ran.err
    assert [one["type"] for one in server.received] == ["get_graph", "get_status", "search_memory"]


async def test_chat_gets_its_reply_although_the_connection_is_lost(server: SmallServer) -> None:
    ran = await lorewire("chat", "s1", url=server.url, lines="go away\nhello\n")

    assert ran.status == 0
    assert ran.out == "You said go away\nYou said hello\n"


async def test_chat_in_a_terminal_shows_what_others_say(server: SmallServer) -> None:
    terminal, inside = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "lorewire", "chat", "s1", "--url", server.url),
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    seen = await shown(terminal, until="/quit")
    other: dict[str, Any] = {"connection_id": "c2", "user_id": "bob"}
    server.sockets[0].tell("connection_joined", connections=2, **other)
    server.sockets[0].tell("query_received", connection_id="c2", message="I open the door.")
    server.sockets[0].tell("query_response", message="It creaks.", partial=False)
    seen += await shown(terminal, until="creaks")
    os.write(terminal, b"hello\n")
    seen += await shown(terminal, until="You said hello")
    os.write(terminal, b"\x04")  # the end of the input
    status = await process.wait()
    os.close(terminal)

    assert status == 0
    assert "bob joined." in seen
    assert "bob: I open the door." in seen
    assert "agent: It creaks." in seen


async def test_without_a_server_a_command_says_so_on_one_line() -> None:
    socket, port = bind_unused_port()
    socket.close()

    ran = await lorewire("chat", url=f"http://127.0.0.1:{port}")

    assert ran.status == 1
    assert ran.err.startswith(f"No Lorewire server answers at http://127.0.0.1:{port}")
    assert len(ran.err.splitlines()) == 1


async def shown(terminal: int, *, until: str) -> str:
    """What a terminal shows until some text has appeared."""
    seen = ""
    async with asyncio.timeout(10):
        while until not in seen:
            seen += (await asyncio.to_thread(os.read, terminal, 4096)).decode()
    return seen
