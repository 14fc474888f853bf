"""The terminal client: `lorewire chat`."""

import asyncio
import io
import sys
import threading
from collections.abc import AsyncIterator

from rich.console import Console
from rich.markup import escape

from lorewire.client import (
    Client,
    ClientError,
    Connection,
    ConnectionLostError,
    Message,
    RequestRefusedError,
)
from lorewire.terminal import printable

HELP = "/search WORDS, /graph, /status, /quit; everything else is asked."
MAX_EDGES = 40  # of the graph, in a terminal
STATUS_FIELDS = ("title", "status", "model", "connections", "turns_total", "memory_entries")


async def chat(
    url: str,
    *,
    session_id: str | None = None,
    domain: str | None = None,
    title: str | None = None,
    user_id: str | None = None,
) -> int:
    """Talk to a session's agent until /quit or the end of the input; opens one where none is given.

    Returns the exit status: 1 where a query got no whole reply. Raises ClientError.
    """
    async with Client(url) as client:
        if session_id is None:
            session_id = await client.open_session(domain=domain, title=title, user_id=user_id)
        async with client.connect(session_id, user_id=user_id) as connection:
            talk = Talk(connection, is_interactive=sys.stdin.isatty())
            return await talk.run()


class Talk:
    """One person at a terminal, in a session."""

    def __init__(self, connection: Connection, *, is_interactive: bool) -> None:
        self._connection = connection
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(highlight=False, soft_wrap=True, stderr=True)
        self._is_interactive = is_interactive
        self._names: dict[str, str] = {}  # of the users of other connections
        self._status = 0

    async def run(self) -> int:
        """Read lines and answer them, one after the other; returns the exit status."""
        watching = asyncio.create_task(self._watch())
        if self._is_interactive:
            self._note(f"Session {self._connection.session_id}. {HELP}")
        try:
            self._prompt()
            async for line in _lines():
                if line == "/quit":
                    break
                if line:
                    await self._answer(line)
                self._prompt()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        return self._status

    async def _answer(self, line: str) -> None:
        try:
            if line.startswith("/"):
                await self._command(line)
            else:
                await self._ask(line)
        except RequestRefusedError as error:
            self._fail(f"{error.code}: {error}")
        except ConnectionLostError as error:
            self._fail(f"{error} It is opened again. Ask again.")

    async def _ask(self, text: str) -> None:
        reply = await self._connection.ask(text, on_piece=self._write)
        if reply.failed:
            self._write("\n")
            self._fail(reply.error or "The reply failed.")
        else:
            self._write(" (cancelled)\n" if reply.cancelled else "\n")

    async def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        match name:
            case "/search":
                await self._search(rest.strip())
            case "/graph":
                await self._graph()
            case "/status":
                await self._show_status()
            case _:
                self._fail(f"{name} is not known. {HELP}")

    async def _search(self, query: str) -> None:
        found = await self._connection.search(query)
        for result in found["results"]:
            self._write(f"{result['relevance_score']:.2f} {result['role']}: {result['text']}\n")
        if not found["results"]:
            self._note("Nothing found.")

    async def _graph(self) -> None:
        graph = (await self._connection.graph())["graph_data"]
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        for edge in graph["edges"][:MAX_EDGES]:
            source, target = names.get(edge["source"]), names.get(edge["target"])
            self._write(f"{source} -[{edge['type']}]-> {target}\n")
        self._note(f"{len(graph['nodes'])} entities, {len(graph['edges'])} statements.")

    async def _show_status(self) -> None:
        status = await self._connection.status()
        for name in STATUS_FIELDS:
            if name in status:
                self._write(f"{name}: {status[name]}\n")

    async def _watch(self) -> None:
        """Show what others say and do; one's own turns are shown where they were asked."""
        try:
            async for message in self._connection:
                if self._is_interactive and message.id is None:
                    self._show(message)
        except ClientError as error:
            self._fail(str(error))

    def _show(self, message: Message) -> None:
        data = message.data
        match message.type:
            case "query_received":
                name = self._names.get(str(data["connection_id"]), "someone")
                self._write(f"\n{name}: {data['message']}\n")
            case "query_response" if not data["partial"]:
                self._write(f"\nagent: {data['message'] or data.get('error', '')}\n")
            case "connection_joined":
                self._names[data["connection_id"]] = data["user_id"]
                self._note(f"{data['user_id']} joined.")
            case "connection_left":
                self._note(f"{data['user_id']} left.")

    def _prompt(self) -> None:
        if self._is_interactive:
            self._out.print("[bold]>[/] ", end="")

    def _write(self, text: str) -> None:
        self._out.out(printable(text), end="", highlight=False)

    def _note(self, text: str) -> None:
        if self._is_interactive:
            self._out.print(f"[dim]{escape(printable(text))}[/]")

    def _fail(self, text: str) -> None:
        self._status = 1
        self._err.print(f"[red]{escape(printable(text))}[/]")


async def _lines() -> AsyncIterator[str]:
    """The lines of the standard input, stripped, until it ends."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        # Raw: a buffered reader has a lock, which Python's exit would wait for while we read.
        with io.FileIO(0, closefd=False) as stdin:
            for line in stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace").strip())
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line
