"""The load client: a process of its own, fast enough not to be what is measured.

    python -m bench.client ping   ROUNDS CONNECTIONS SECONDS  PORT PATH SERVER_PID [...]
    python -m bench.client fanout ROUNDS CONNECTIONS MESSAGES PORT PATH SERVER_PID [...]
    python -m bench.client slow   PORT PATH READERS STOPPED QUERIES SERVER_PID
    python -m bench.client idle   PORT CONNECTIONS PATH [PATH ...]
    python -m bench.client turns  PORT SECONDS PATH [PATH ...]
    python -m bench.client commands PORT SECONDS PATH [PATH ...]

Runs in the environment of the peers. Prints one JSON object; of `ping` and `fanout` it has a list
for each server, which take turns, and all of which have their connections from the start.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.common import cpu_s, percentile, pss_kib

PING = orjson.dumps(
    {
        "type": "ping",
        "id": "7",
        "data": {"message": "is anybody there", "timestamp": "2026-01-01T00:00:00.000Z"},
    }
)
CONNECTS_AT_ONCE = 64
SETTLE_S = 0.1  # until the last pongs are there
REST_S = 0.3  # until a server is idle again
LARGE_CHARS = 30_000
HELD = "Wait: hold"  # no answer comes
QUESTION = "What does the harbour watch know about Kira?"


class Kept(WSListener):
    """A connection that is kept."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep it."""
        self.transport = transport


class Pinger(Kept):
    """Keeps one ping in flight."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.is_running = False

    def send(self) -> None:
        """Ping."""
        self._sent_at = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, PING)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """The next ping follows the pong."""
        if self.is_running and frame.msg_type == WSMsgType.TEXT:
            self.times_s.append(time.perf_counter() - self._sent_at)
            self.send()


class Counter(Kept):
    """Counts what comes."""

    def __init__(self) -> None:
        self.count = 0
        self.finals = 0  # whole replies among them

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One more."""
        if frame.msg_type == WSMsgType.TEXT:
            self.count += 1
            if b'"partial":false' in frame.get_payload_as_bytes():
                self.finals += 1


class Talker(Kept):
    """Asks the next query when the reply to the last one is there."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.is_running = False

    def ask(self) -> None:
        """Ask."""
        data = {"message": f"{QUESTION} {len(self.times_s)}", "stream": False}
        self._asked_at = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, orjson.dumps({"type": "query", "data": data}))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Note when a query was answered."""
        if not self.is_running or frame.msg_type != WSMsgType.TEXT:
            return
        start = frame.get_payload_as_bytes()[:40]
        if b'"query_response"' in start:
            self.times_s.append(time.perf_counter() - self._asked_at)
            self.ask()
        elif b'"error"' in start:
            raise RuntimeError(frame.get_payload_as_utf8_text())


class Commander(Kept):
    """Asks, and takes the query back as soon as it is accepted, while the model is busy."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.is_running = False
        self._running_turn: str | None = None  # which the model never answers

    def begin(self) -> None:
        """Have the model busy."""
        self._query(HELD)

    def end(self) -> None:
        """Let it be free again."""
        self._cancel(self._running_turn)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Each command follows the answer to the one before it."""
        if frame.msg_type != WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        start = payload[:40]
        if b'"query_received"' in start:
            turn_id = orjson.loads(payload)["data"]["turn_id"]
            if self._running_turn is None:
                self._running_turn = turn_id
            else:
                self._note()
                self._cancel(turn_id)
        elif b'"cancel_response"' in start:
            self._note()
            if self.is_running:
                self._query(QUESTION)
        elif b'"error"' in start:
            raise RuntimeError(frame.get_payload_as_utf8_text())

    def go(self) -> None:
        """The first command."""
        self.is_running = True
        self._query(QUESTION)

    def _note(self) -> None:
        self.times_s.append(time.perf_counter() - self._asked_at)

    def _query(self, message: str) -> None:
        self._send("query", {"message": message, "stream": False})

    def _cancel(self, turn_id: str | None) -> None:
        self._send("cancel", {"turn_id": turn_id})

    def _send(self, type_: str, data: dict[str, Any]) -> None:
        self._asked_at = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, orjson.dumps({"type": type_, "data": data}))


async def _connect(factory: Any, port: int, paths: Sequence[str]) -> list[Any]:
    gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def one(path: str) -> Any:
        async with gate:
            _, listener = await ws_connect(factory, f"ws://127.0.0.1:{port}{path}")
            return listener

    return list(await asyncio.gather(*(one(path) for path in paths)))


@dataclass(frozen=True)
class Target:
    """A server, and who is connected to it."""

    connections: list[Any]
    pid: int


async def _targets(factory: Any, connections: int, servers: Sequence[str]) -> list[Target]:
    return [
        Target(await _connect(factory, int(port), [path] * connections), int(pid))
        for port, path, pid in zip(*[iter(servers)] * 3, strict=True)
    ]


async def ping(
    rounds: int, connections: int, seconds: float, servers: Sequence[str]
) -> list[list[dict[str, float]]]:
    """Round trips with one ping in flight on each connection; for each server, of every round."""
    targets = await _targets(Pinger, connections, servers)
    await asyncio.sleep(0.3)
    rows = [[await _ping(target, seconds) for target in targets] for _ in range(rounds)]
    return [list(column) for column in zip(*rows, strict=True)]


async def _ping(target: Target, seconds: float) -> dict[str, float]:
    pingers: list[Pinger] = target.connections
    used_s, started = cpu_s(target.pid), time.perf_counter()
    for pinger in pingers:
        pinger.times_s.clear()
        pinger.is_running = True
        pinger.send()
    await asyncio.sleep(seconds)
    for pinger in pingers:
        pinger.is_running = False
    elapsed_s, used_s = time.perf_counter() - started, cpu_s(target.pid) - used_s
    times_s = [time_s for pinger in pingers for time_s in pinger.times_s]
    await asyncio.sleep(SETTLE_S)
    return {
        "per_s": len(times_s) / elapsed_s,
        "per_cpu_s": len(times_s) / used_s,
        "p50_us": percentile(times_s, 50) * 1e6,
        "p99_us": percentile(times_s, 99) * 1e6,
    }


async def fanout(
    rounds: int, connections: int, messages: int, servers: Sequence[str]
) -> list[list[dict[str, float]]]:
    """Deliveries of messages that one connection asks for; for each server, of every round."""
    targets = await _targets(Counter, connections, servers)
    await _quiet([counter for target in targets for counter in target.connections])
    rows = [[await _fanout(target, messages) for target in targets] for _ in range(rounds)]
    return [list(column) for column in zip(*rows, strict=True)]


async def _fanout(target: Target, messages: int) -> dict[str, float]:
    counters: list[Counter] = target.connections
    for counter in counters:
        counter.count = 0
    used_s, started = cpu_s(target.pid), time.perf_counter()
    data = {"message": f"Say a lot: pieces={messages}"}
    counters[0].transport.send(WSMsgType.TEXT, orjson.dumps({"type": "query", "data": data}))
    while min(counter.count for counter in counters) < messages:
        await asyncio.sleep(0.01)
    elapsed_s, used_s = time.perf_counter() - started, cpu_s(target.pid) - used_s
    deliveries = sum(counter.count for counter in counters)
    await _quiet(counters)
    return {"per_s": deliveries / elapsed_s, "per_cpu_s": deliveries / used_s}


async def _quiet(counters: list[Any]) -> None:
    """Wait until nothing comes any more."""
    total = -1
    while total != (total := sum(counter.count for counter in counters)):
        await asyncio.sleep(0.5)


async def slow(
    port: int, path: str, readers: int, stopped: int, queries: int, pid: int
) -> dict[str, Any]:
    """Deliveries to those who read, beside connections of the same session that do not."""
    counters = await _connect(Counter, port, [path] * readers)
    deaf = [await _deaf(port, path) for _ in range(stopped)]
    await _quiet(counters)
    for counter in counters:
        counter.count = 0
    kib = highest_kib = pss_kib(pid)
    used_s, started = cpu_s(pid), time.perf_counter()
    for number in range(1, queries + 1):
        data = {"message": f"{number} {QUESTION} " + "x" * LARGE_CHARS}
        counters[0].transport.send(WSMsgType.TEXT, orjson.dumps({"type": "query", "data": data}))
        while min(counter.finals for counter in counters) < number:
            await asyncio.sleep(0.002)
        if number % 10 == 0:
            highest_kib = max(highest_kib, pss_kib(pid))
    elapsed_s, used_s = time.perf_counter() - started, cpu_s(pid) - used_s
    for sock in deaf:
        sock.close()
    deliveries = sum(counter.count for counter in counters)
    return {
        "per_s": deliveries / elapsed_s,
        "per_cpu_s": deliveries / used_s,
        "memory_mib": (highest_kib - kib) / 1024,
    }


async def _deaf(port: int, path: str) -> socket.socket:
    """A connection that has shaken hands and never reads."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n"
    )
    await loop.sock_sendall(sock, head.encode())
    await loop.sock_recv(sock, 16)
    return sock


async def idle(port: int, connections: int, paths: Sequence[str]) -> dict[str, Any]:
    """Hold connections until standard input ends."""
    started = time.perf_counter()
    used = [paths[number % len(paths)] for number in range(connections)]
    counters = await _connect(Counter, port, used)
    print(json.dumps({"connect_s": time.perf_counter() - started}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return {"alive": len(counters)}


async def turns(port: int, seconds: float, paths: Sequence[str]) -> dict[str, Any]:
    """Whole turns, one after the other on each connection."""
    talkers = await _connect(Talker, port, paths)
    await asyncio.sleep(REST_S)
    for talker in talkers:
        talker.is_running = True
        talker.ask()
    return await _steadily(talkers, seconds)


async def commands(port: int, seconds: float, paths: Sequence[str]) -> dict[str, Any]:
    """Durable commands, one after the other on each connection, while the model is busy."""
    commanders = await _connect(Commander, port, paths)
    for commander in commanders:
        commander.begin()
    await asyncio.sleep(REST_S)
    for commander in commanders:
        commander.go()
    figures = await _steadily(commanders, seconds)
    await asyncio.sleep(REST_S)
    for commander in commanders:
        commander.end()
    await asyncio.sleep(REST_S)
    return figures


async def _steadily(connections: Sequence[Any], seconds: float) -> dict[str, float]:
    """What connections that are at it do when they run evenly; then they stop."""
    await asyncio.sleep(seconds / 4)
    before = [len(connection.times_s) for connection in connections]
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed_s = time.perf_counter() - started
    times_s = [
        time_s
        for connection, n in zip(connections, before, strict=True)
        for time_s in connection.times_s[n:]
    ]
    for connection in connections:
        connection.is_running = False
    return {
        "count": sum(len(connection.times_s) for connection in connections),  # from the first
        "per_s": len(times_s) / elapsed_s,
        "p50_ms": percentile(times_s, 50) * 1e3,
        "p99_ms": percentile(times_s, 99) * 1e3,
    }


async def main(mode: str, *arguments: str) -> Any:
    """Run one mode."""
    match mode, arguments:
        case "ping", (rounds, connections, seconds, *servers):
            return await ping(int(rounds), int(connections), float(seconds), servers)
        case "fanout", (rounds, connections, messages, *servers):
            return await fanout(int(rounds), int(connections), int(messages), servers)
        case "slow", (port, path, readers, stopped, queries, pid):
            return await slow(int(port), path, int(readers), int(stopped), int(queries), int(pid))
        case "idle", (port, connections, *paths):
            return await idle(int(port), int(connections), paths)
        case "commands", (port, seconds, *paths):
            return await commands(int(port), float(seconds), paths)
        case "turns", (port, seconds, *paths):
            return await turns(int(port), float(seconds), paths)
    raise SystemExit(__doc__)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(*sys.argv[1:]))))
