"""Life signs: who is there stays, who is not is found, and a server that slept blames none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.websocket import websocket_connect

from tests.harness import PATIENCE_S, Server, Socket, running_server
from web.life import Pulse

QUICK: dict[str, Any] = {
    "heartbeat_interval_s": 0.2,
    "pong_timeout_s": 0.2,
    "heartbeat_timeout_s": 60,
}
SLOW: dict[str, Any] = {
    "heartbeat_interval_s": 600,
    "pong_timeout_s": 600,
    "heartbeat_timeout_s": 600,
}


class Clock:
    """A time that a test sets."""

    now = 5_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """What a pulse looks after; `answers` says whether it is there."""

    heard_at = 0.0

    def __init__(self, pulse: Pulse, *, answers: bool, is_behind: bool = False) -> None:
        self._pulse = pulse
        self.answers = answers
        self.is_behind = is_behind
        self.pinged_at: list[float] = []
        self.closed_at: float | None = None
        pulse.join(self)

    def send_ping(self) -> None:
        self.pinged_at.append(self._pulse.now)
        if self.answers:
            self.heard_at = self._pulse.now

    def on_silence(self, silent_s: float) -> None:
        self.closed_at = self._pulse.now


def pass_time(pulse: Pulse, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1
        pulse.look()


def the_pulse(clock: Clock) -> Pulse:
    return Pulse(interval_s=25, pong_timeout_s=8, silence_s=60, clock=clock)


async def test_everybody_is_pinged_and_only_the_silent_are_closed() -> None:
    clock = Clock()
    pulse = the_pulse(clock)
    lively, dead = Client(pulse, answers=True), Client(pulse, answers=False)

    pass_time(pulse, clock, 100)

    assert lively.pinged_at == [25, 50, 75, 100]
    assert lively.closed_at is None
    assert dead.pinged_at == [25]
    assert dead.closed_at == 33
    assert len(pulse) == 1


async def test_any_frame_counts_as_life() -> None:
    clock = Clock()
    pulse = the_pulse(clock)
    speaks = Client(pulse, answers=False)

    for _ in range(10):
        pass_time(pulse, clock, 25)
        speaks.heard_at = pulse.now

    assert speaks.closed_at is None
    pass_time(pulse, clock, 33)
    assert speaks.closed_at == 283


async def test_who_has_much_to_read_first_has_longer() -> None:
    clock = Clock()
    pulse = the_pulse(clock)
    stuck = Client(pulse, answers=False, is_behind=True)
    reads = Client(pulse, answers=False, is_behind=True)

    pass_time(pulse, clock, 49)
    reads.is_behind = False
    pass_time(pulse, clock, 2)
    reads.heard_at = pulse.now
    pass_time(pulse, clock, 20)

    assert stuck.closed_at == 60
    assert reads.closed_at is None


async def test_a_server_that_stood_still_gives_everybody_a_fresh_period() -> None:
    clock = Clock()
    pulse = the_pulse(clock)
    lively, dead = Client(pulse, answers=True), Client(pulse, answers=False)
    pass_time(pulse, clock, 30)

    clock.now += 3_600
    pulse.look()
    assert (lively.closed_at, dead.closed_at) == (None, None)

    pass_time(pulse, clock, 60)
    assert lively.closed_at is None
    assert dead.closed_at == 31 + 33


async def test_an_hour_that_was_lived_through_closes_the_silent() -> None:
    """The twin: the same hour, second by second."""
    clock = Clock()
    pulse = the_pulse(clock)
    dead = Client(pulse, answers=False)

    pass_time(pulse, clock, 3_600)

    assert dead.closed_at == 33


class Tunnel:
    """A proxy that can begin to swallow everything, as a network does that has lost its way."""

    def __init__(self) -> None:
        self.is_open = True

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.is_open:
                    writer.write(data)
        writer.close()


@asynccontextmanager
async def through_a_tunnel(server: Server, path: str) -> AsyncIterator[tuple[Socket, Tunnel]]:
    """A client that reaches the server through a tunnel."""
    tunnel = Tunnel()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(tunnel.pump(reader, there[1]), tunnel.pump(there[0], writer))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with proxy:
        port = proxy.sockets[0].getsockname()[1]
        socket = Socket(await websocket_connect(f"ws://127.0.0.1:{port}{path}"))
        try:
            yield socket, tunnel
        finally:
            socket.cut()
            socket.close()


async def closed_events(server: Server, session_id: object) -> list[dict[str, Any]]:
    _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?limit=1000")
    return [event for event in answer["events"] if event["type"] == "ConnectionClosed"]


async def is_found(server: Server, session_id: object) -> dict[str, Any]:
    """The event that says that a connection of the session was closed, when it is there."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await closed_events(server, session_id)):
            await asyncio.sleep(0.05)
    return found[0]


async def test_a_half_open_connection_is_found_and_without_pings_it_is_not(
    migrated_database_url: str,
) -> None:
    async with (
        running_server(migrated_database_url, **QUICK) as quick,
        running_server(migrated_database_url, with_projector=False, **SLOW) as slow,
    ):
        watched, unwatched = await quick.open_session(), await slow.open_session()
        path = "/api/v1/ws/sessions/{}"
        async with (
            through_a_tunnel(quick, path.format(watched)) as (found, first_tunnel),
            through_a_tunnel(slow, path.format(unwatched)) as (kept, second_tunnel),
        ):
            for socket in (found, kept):
                await socket.until("connection_established")
            bystander = await quick.connect(watched)
            first_tunnel.is_open = second_tunnel.is_open = False

            left = await bystander.until("connection_left")
            closed = await is_found(quick, watched)

            assert left["data"]["connection_id"] == found.seen[0]["data"]["connection_id"]
            assert closed["data"]["code"] == 4008
            assert closed["data"]["reason"].startswith("heartbeat timeout")
            assert await closed_events(slow, unwatched) == []
            assert (await bystander.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("path", ["/api/v1/ws/sessions/{}", "/api/v1/ws/monitor"])
async def test_a_client_that_reads_and_never_answers_is_closed_with_4008(
    migrated_database_url: str, path: str
) -> None:
    async with running_server(migrated_database_url, **QUICK) as server:
        session_id = await server.open_session()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"GET {path.format(session_id)} HTTP/1.1\r\nHost: localhost\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

        async with asyncio.timeout(PATIENCE_S):
            received = b""
            while b"heartbeat timeout" not in received:
                received += await reader.read(65536)

        assert b"\x89\x00" in received  # a ping
        assert (4008).to_bytes(2, "big") + b"heartbeat timeout" in received
        writer.close()
