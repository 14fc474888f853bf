"""The wire between a browser and a server, which can be cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 64 * 1024


class Wire:
    """Passes on what comes to a port of its own."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where browsers come in."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection without a goodbye; new ones end at once, until `mend`."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through."""
        self._is_cut = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called for each new connection."""
        if self._is_cut:
            writer.transport.abort()
            return
        there, to_there = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, to_there), (there, writer)):
            self._writers.add(sink)
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def end(self) -> None:
        """Cut everything, and wait until it is gone."""
        self.cut()
        await asyncio.gather(*self._pumps)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(CHUNK_BYTES):
                sink.write(chunk)
                await sink.drain()
        self._writers.discard(sink)
        sink.close()
        with suppress(ConnectionError):
            await sink.wait_closed()


@asynccontextmanager
async def wired_to(port: int) -> AsyncIterator[Wire]:
    """A wire to a server's port on loopback."""
    wire = Wire(port)
    listener = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        await wire.end()
