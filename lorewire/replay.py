"""What happened in a session, as lines that a person can read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson

from lorewire.client import Client
from lorewire.terminal import printable

NEVER = "1970-01-01T00:00:00+00:00"  # the time of an event that can't be read
PAGE = 500  # events for each request
MAX_TEXT_CHARS = 200  # of what was said, in one line


async def replay(
    url: str,
    session_id: str,
    *,
    first: int = 0,
    last: int | None = None,
    as_json: bool = False,
    speed: float | None = None,
    about: str | None = None,
) -> None:
    """Print every stored event of a session between two positions (both included), in order.

    `about` leaves only those that made a turn, memory entry or statement, tell of it or rest on it.
    As one line for people, or as one JSON object a line. `speed` 1.0 takes the time that it took,
    10.0 a tenth of it; None does not wait.
    """
    told_at: datetime | None = None
    async with Client(url) as client:
        async for event in _events(client, session_id, first, last, about):
            happened_at = datetime.fromisoformat(event.get("timestamp", NEVER))
            if speed is not None and told_at is not None:
                await asyncio.sleep(max(0.0, (happened_at - told_at).total_seconds() / speed))
            told_at = happened_at
            print(orjson.dumps(event).decode() if as_json else line_of(event), flush=True)


async def _events(
    client: Client, session_id: str, first: int, last: int | None, about: str | None
) -> AsyncIterator[dict[str, Any]]:
    after = first - 1
    has_more = True
    while has_more:
        page = await client.events(session_id, after=max(after, 0), limit=PAGE, about=about)
        for event in page["events"]:
            after = event["position"]
            if last is not None and after > last:
                return
            yield event
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
            given = f"{len(data['recalled'])} memories and {len(data['facts'])} facts recalled"
            return f"{_shorten(data['text'])} ({seconds:.1f} s, {given})"
        case "ReplyFailed":
            return _shorten(f"{data['code']}: {data['error']}")
        case "ReplyCancelled":
            return _shorten(data["text"])
        case "KnowledgeExtracted":
            statements = [
                f"{one['subject']} {one['predicate']} {one['object']}" for one in data["statements"]
            ]
            return _shorten(data["error"] or "; ".join(statements) or "nothing new")
        case "StatementRetracted":
            return _shorten(f"{data['statement_id']} {data['reason'] or ''}")
        case "EntitiesMerged":
            return _shorten(f"{data['merged_name']} is {data['kept_name']} ({data['merge_id']})")
        case "EntitiesSplit":
            return f"takes back {data['merge_id']}"
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
