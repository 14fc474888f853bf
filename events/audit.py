"""The audit view: stored events as plain data, for people and for scripts."""

from typing import Any

from events.log import Recorded, Unreadable
from events.mapper import topic_of

# Fields that every event has; what is left is the event's own.
_COMMON = frozenset({"originator_id", "originator_version", "originator_topic", "timestamp"})


def as_dict(one: Recorded | Unreadable) -> dict[str, Any]:
    """One stored event: `{position, type, stream, version, timestamp, cause, data}`.

    An event that can't be read has `error` in place of what could not be read.
    """
    if isinstance(one, Unreadable):
        return {"position": one.position, "type": one.topic, "error": one.error}
    event = one.event
    data = {name: value for name, value in vars(event).items() if name not in _COMMON}
    return {
        "position": one.position,
        "type": topic_of(event),
        "session_id": data.pop("session_id"),
        "stream": event.originator_id,
        "version": event.originator_version,
        "timestamp": event.timestamp,
        "cause": data.pop("cause"),
        "data": data,
    }
