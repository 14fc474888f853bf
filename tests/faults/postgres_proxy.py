"""A proxy before PostgreSQL that holds answers back, cuts connections, or loses notifications."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

SOCKET = ".s.PGSQL.5432"
NOTIFICATION = b"A"[0]
HEADER_BYTES = 5  # of a message of the server: its type, and its length without the type


class PostgresProxy(threading.Thread):
    """Stands on a Unix socket of its own, before another one.

    A thread with a loop of its own: what is tested may block the test's.
    """

    def __init__(self, target: str, folder: Path, url: str) -> None:
        super().__init__(name="postgres-proxy", daemon=True)
        self.url = url
        self.is_deaf = False  # notifications do not come through
        self._target = target
        self._socket = folder / SOCKET
        self._loop = asyncio.new_event_loop()
        self._is_serving = threading.Event()
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Serve until the end."""
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def serve(self) -> None:
        """Return when clients may come."""
        self.start()
        self._is_serving.wait()

    def hold_answers(self) -> None:
        """From now on clients hear nothing; what they send still arrives."""
        self._call(self._may_answer.clear)

    def cut(self) -> None:
        """Close every connection, whatever was on its way; new ones are served again."""
        self._call(self._cut)

    def end(self) -> None:
        """Cut everything and wait until it is gone."""
        self._call(self._ended.set)
        self.join()

    def _call(self, act: Callable[[], object]) -> None:
        """Do something on the proxy's loop, and return when it is done."""
        is_done = threading.Event()

        def do() -> None:
            act()
            is_done.set()

        self._loop.call_soon_threadsafe(do)
        is_done.wait()

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        self._may_answer.set()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_unix_server(self._accept, self._socket)
        self._is_serving.set()
        await self._ended.wait()
        server.close()
        self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, server_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, server_writer))
                group.create_task(self._answer(server_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers -= {writer, server_writer}
            writer.close()
            server_writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            header = await reader.readexactly(HEADER_BYTES)
            body = await reader.readexactly(int.from_bytes(header[1:], "big") - 4)
            await self._may_answer.wait()
            if not (self.is_deaf and header[0] == NOTIFICATION):
                writer.write(header + body)
                await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


@contextmanager
def proxied(database_url: str) -> Iterator[PostgresProxy]:
    """A proxy before the database of a URL that names a folder with a Unix socket."""
    info = conninfo_to_dict(database_url)
    folder = Path(tempfile.mkdtemp(prefix="lw-proxy-", dir="/tmp"))  # a socket's path is short
    url = f"postgresql://{info['user']}@/{info['dbname']}?host={quote(str(folder), safe='')}"
    proxy = PostgresProxy(f"{info['host']}/{SOCKET}", folder, url)
    proxy.serve()
    try:
        yield proxy
    finally:
        proxy.end()
        shutil.rmtree(folder)
