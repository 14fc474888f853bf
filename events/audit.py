"""The audit view: stored events as plain data, and how they hang together."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from events.aggregate import TopicMap
from events.connection import Connection
from events.knowledge import Knowledge
from events.log import Recorded, Unreadable
from events.mapper import topic_of
from events.session import Session

# Fields that every event has; what is left is the event's own.
_COMMON = frozenset({"originator_id", "originator_version", "originator_topic", "timestamp"})

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ABOUT = re.compile(
    rf"(?P<entry>[qr])-(?P<entry_turn>{_UUID})|s-(?P<seed>\d{{1,6}})"
    rf"|(?P<statement>(?:{_UUID}|seed):\d{{1,6}})|(?P<turn>{_UUID})"
)


@dataclass(frozen=True)
class About:
    """What an audit asks for: a turn, an entry of memory, a statement or a merge, by its id."""

    id: str

    def __post_init__(self) -> None:
        """Raises ValueError where there can't be such an id."""
        if _ABOUT.fullmatch(self.id) is None:
            raise ValueError(
                "must be the id of a turn, of a memory entry (q-, r- or s-), of a statement or of a"
                " merge"
            )

    @property
    def words(self) -> bytes:
        """What stands in the stored state of every event that this is about, but for `makers`."""
        found = self._parts
        if found["seed"]:
            return f'"{self.id}"'.encode()  # as events list it
        return (found["entry_turn"] or self.id).encode()

    @property
    def makers(self) -> list[str]:
        """The kinds of events that may have made it without saying its id."""
        return ["SessionOpened"] if self._parts["seed"] else []

    def matches(self, event: object) -> bool:
        """Whether an event made it, tells of it, or rests on it."""
        return self.id in made_by(event) or self.id in rests_on(event) or self._is_told_by(event)

    @property
    def _parts(self) -> Mapping[str, str | None]:
        found = _ABOUT.fullmatch(self.id)
        assert found is not None, "it was checked"
        return found.groupdict()

    def _is_told_by(self, event: object) -> bool:
        if isinstance(event, Connection.MemorySearched):
            return self.id in event.results
        if isinstance(event, Knowledge.StatementRetracted):
            return self.id == event.statement_id
        if self._parts["turn"] is None:
            return False
        return self.id in (str(getattr(event, name, None)) for name in ("turn_id", "merge_id"))


def known_types() -> list[str]:
    """The names of all events."""
    return sorted(TopicMap.classes)


def made_by(event: object) -> list[str]:
    """The ids of the memory entries and statements that come from an event."""
    match event:
        case Session.SessionOpened():
            return [f"s-{number}" for number in range(len(event.seed))]
        case Session.QueryAsked():
            return [f"q-{event.turn_id}"]
        case Session.ReplyCompleted() | Session.ReplyFailed() | Session.ReplyCancelled():
            return [f"r-{event.turn_id}"] if event.text else []
        case Knowledge.KnowledgeExtracted():
            return [statement.statement_id for statement in event.statements]
    return []


def rests_on(event: object) -> list[str]:
    """The ids of what a model was given for a reply, and of the words behind statements."""
    match event:
        case Session.ReplyCompleted():
            return [*event.recalled, *event.facts]
        case Knowledge.KnowledgeExtracted() if event.turn_id is not None:
            return [f"q-{event.turn_id}", f"r-{event.turn_id}"]
    return []


def as_dict(
    one: Recorded | Unreadable, positions: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """One stored event: `{position, type, stream, version, timestamp, cause, data, links}`.

    `positions` says where the events are that made what this one rests on. An event that can't be
    read has `error` in place of what could not be read.
    """
    if isinstance(one, Unreadable):
        return {"position": one.position, "type": one.topic, "error": one.error}
    event = one.event
    data = {name: value for name, value in vars(event).items() if name not in _COMMON}
    known = positions or {}
    return {
        "position": one.position,
        "type": topic_of(event),
        "session_id": data.pop("session_id"),
        "stream": event.originator_id,
        "version": event.originator_version,
        "timestamp": event.timestamp,
        "cause": data.pop("cause"),
        "data": data,
        "links": {
            "made": made_by(event),
            "rests_on": [{"id": id, "position": known.get(id)} for id in rests_on(event)],
        },
    }


def ids_rested_on(events: Iterable[Recorded | Unreadable]) -> set[str]:
    """All ids of which the positions are wanted."""
    return {id for one in events if isinstance(one, Recorded) for id in rests_on(one.event)}


def is_entry(id: str) -> bool:
    """Whether an id is that of a memory entry, and not of a statement."""
    return id[:2] in ("q-", "r-", "s-")
