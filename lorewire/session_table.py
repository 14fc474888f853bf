"""The sessions of a server, as a table in the terminal."""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lorewire.client import Client
from lorewire.terminal import printable

PIPED_WIDTH = 240  # characters; wide enough to keep every session on one line


async def print_sessions(url: str, *, q: str | None, limit: int) -> None:
    """Print the sessions whose titles match, those with the newest activity first."""
    async with Client(url) as client:
        page = await client.sessions(limit=limit, q=q)
    table = Table(box=None)
    table.add_column("Session", no_wrap=True)
    for name in ("Title", "Domain", "User", "Status", "Last activity"):
        table.add_column(name)
    for session in page["sessions"]:
        values = (
            session["session_id"],
            session["title"],
            session["config"]["domain"],
            session["user_id"],
            session["status"],
            session["last_activity"],
        )
        table.add_row(*(escape(printable(str(value))) for value in values))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    if page["total"] > len(page["sessions"]):
        console.print(f"{len(page['sessions'])} of {page['total']} sessions.")
