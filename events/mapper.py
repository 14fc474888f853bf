"""Domain events as stored bytes: plain JSON on disk, the types of the class when read."""

from dataclasses import fields
from typing import Any, cast, get_type_hints
from uuid import UUID

import orjson
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    Mapper,
    MapperDeserialisationError,
    StoredEvent,
    Transcoder,
)
from eventsourcing.utils import get_topic, resolve_topic
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from events.aggregate import SessionAggregate

# These two are columns of their own, not part of the JSON.
_COLUMNS = frozenset({"originator_id", "originator_version"})

_adapters: dict[type[Any], TypeAdapter[dict[str, Any]]] = {}


class SessionStoredEvent(StoredEvent):
    """A stored event that knows its session, which is a column of the log."""

    session_id: UUID

    def __init__(
        self,
        originator_id: UUID | str,
        originator_version: int,
        topic: str,
        state: bytes,
        session_id: UUID,
    ) -> None:
        # All at once: a frozen dataclass sets each by a call of its own.
        vars(self).update(
            originator_id=originator_id,
            originator_version=originator_version,
            topic=topic,
            state=state,
            session_id=session_id,
        )


class OrjsonTranscoder(Transcoder):
    """Plain JSON: UUIDs and times as strings, tuples as lists, dataclasses as objects.

    A stored state starts with `{`; another first byte is free for another format.
    """

    def encode(self, obj: Any) -> bytes:
        """Write an event's state."""
        return orjson.dumps(obj, option=orjson.OPT_NON_STR_KEYS)

    def decode(self, data: bytes) -> Any:
        """Read a state without its types."""
        return orjson.loads(data)


class TypedMapper(Mapper[UUID]):
    """Restores every field to the type that its event class declares.

    Plain JSON keeps neither UUIDs nor times nor tuples; the class knows what they were.
    """

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """Write a domain event as bytes: what the library's does, with the session beside it."""
        if not isinstance(domain_event, SessionAggregate.Event):
            return super().to_stored_event(domain_event)  # a snapshot
        state = dict(vars(domain_event))
        stream_id = state.pop("originator_id")
        version = state.pop("originator_version")
        class_version = getattr(domain_event, "class_version", 1)
        if class_version > 1:
            state["class_version"] = class_version
        return SessionStoredEvent(
            stream_id,
            version,
            topic_of(domain_event),
            orjson.dumps(state),  # all keys are strings, and looking for others takes as long again
            state["session_id"],
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Read a domain event; raises MapperDeserialisationError where its bytes do not fit it."""
        cls = resolve_topic(stored_event.topic)
        try:
            state = self._typed_state(cls, stored_event.state)
        except (ValidationError, ValueError, KeyError) as error:
            raise MapperDeserialisationError(
                f"{stored_event.topic} at version {stored_event.originator_version} of stream "
                f"{stored_event.originator_id} can't be read: {error}"
            ) from error
        state["originator_id"] = stored_event.originator_id
        state["originator_version"] = stored_event.originator_version
        event: DomainEventProtocol[UUID] = object.__new__(cls)
        object.__setattr__(event, "__dict__", state)
        return event

    def _typed_state(self, cls: type[Any], data: bytes) -> dict[str, Any]:
        class_version = getattr(cls, "class_version", 1)
        if class_version == 1:
            return state_adapter(cls).validate_json(data)
        state = self.transcoder.decode(data)
        for version in range(state.pop("class_version", 1), class_version):
            getattr(cls, f"upcast_v{version}_v{version + 1}")(state)
        return state_adapter(cls).validate_python(state)


def state_adapter(cls: type[Any]) -> TypeAdapter[dict[str, Any]]:
    """What turns the JSON of one event class into typed fields; made once for each class."""
    adapter = _adapters.get(cls)
    if adapter is None:
        hints = get_type_hints(cls)
        names = [field.name for field in fields(cls) if field.name not in _COLUMNS]
        state = TypedDict(f"{cls.__name__}State", {name: hints[name] for name in names})  # type: ignore[misc]
        adapter = _adapters[cls] = cast(TypeAdapter[dict[str, Any]], TypeAdapter(state))
    return adapter


def topic_of(event: object) -> str:
    """The name under which an event is stored, as `QueryAsked`."""
    return get_topic(type(event))
