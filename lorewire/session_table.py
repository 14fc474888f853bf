"""The sessions of a server, as a table in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lorewire.client import Client
from lorewire.terminal import printable


async def print_sessions(url: str, *, q: str | None, limit: int) -> None:
    """Print the sessions whose titles match, those with the newest activity first."""
    async with Client(url) as client:
        page = await client.sessions(limit=limit, q=q)
    table = Table("Session", "Title", "Domain", "User", "Status", "Last activity", box=None)
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
    console = Console()
    console.print(table)
    if page["total"] > len(page["sessions"]):
        console.print(f"{len(page['sessions'])} of {page['total']} sessions.")
