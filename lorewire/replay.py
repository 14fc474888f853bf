"""What happened in a session, as lines that a person can read."""

from datetime import UTC, datetime
from typing import Any

from lorewire.client import Client
from lorewire.terminal import printable

PAGE = 500  # events for each request
MAX_TEXT_CHARS = 200  # of what was said, in one line


async def replay(url: str, session_id: str, *, after: int = 0) -> None:
    """Print every stored event of a session after a position, in order."""
    async with Client(url) as client:
        has_more = True
        while has_more:
            page = await client.events(session_id, after=after, limit=PAGE)
            for event in page["events"]:
                print(line_of(event))
                after = event["position"]
            has_more = page["has_more"]


def line_of(event: dict[str, Any]) -> str:
    """One event as `position  time  type  by whom: what`."""
    position = f"{event['position']:>8}"
    if "error" in event:
        return f"{position}  {event['type']} can't be read: {event['error']}"
    moment = datetime.fromisoformat(event["timestamp"]).astimezone(UTC)
    time = moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    who = event["cause"].get("user_id")
    what = _describe(event["type"], event["data"])
    return f"{position}  {time}  {event['type']:<20} {who or 'server'}: {what}".rstrip(": ")


def _describe(type_: str, data: dict[str, Any]) -> str:
    match type_:
        case "SessionOpened":
            return _shorten(f"{data['title']} ({data['config']['domain']})")
        case "SessionReconfigured":
            return f"changed {', '.join(data['changed'])}"
        case "QueryAsked":
            return _shorten(data["message"])
        case "ReplyCompleted":
            seconds = data["duration_ms"] / 1000
            recalled = len(data["recalled"])
            return f"{_shorten(data['text'])} ({seconds:.1f} s, {recalled} memories recalled)"
        case "ReplyFailed":
            return _shorten(f"{data['code']}: {data['error']}")
        case "ReplyCancelled":
            return _shorten(data["text"])
        case "KnowledgeExtracted":
            statements = [
                f"{one['subject']} {one['predicate']} {one['object']}" for one in data["statements"]
            ]
            return _shorten(data["error"] or "; ".join(statements) or "nothing new")
        case "MemorySearched":
            return _shorten(f"{data['query']!r}, {len(data['results'])} found")
        case "ConnectionClosed":
            code = f"{data['code']} {data['reason']}".strip()
            return f"{code}, after {data['duration_ms'] / 1000:.1f} s"
        case _:
            values = (f"{name}={value}" for name, value in data.items() if value is not None)
            return _shorten(", ".join(values))


def _shorten(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_TEXT_CHARS else line[: MAX_TEXT_CHARS - 1] + "…"
