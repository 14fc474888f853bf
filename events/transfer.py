"""A session's events as lines of JSON, to be taken to another log.

The first line says what follows, then comes one line for each event in the order of the log, and
the last line has the count and a checksum, so that a file that was cut is recognised:

    {"format": "lorewire-export", "version": 1, "epoch": ..., "session_id": ..., "events": 2}
    {"position": 17, "recorded_at": ..., "stream": ..., "version": 1, "topic": ..., "state": {...}}
    {"position": 21, ...}
    {"events": 2, "sha256": "..."}  (hexadecimal, of all bytes before this line)
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal, TypeVar
from uuid import UUID

import orjson
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import Mapper, MapperDeserialisationError, StoredEvent
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from events.aggregate import SessionAggregate, TopicMap
from events.connection import Connection
from events.knowledge import Knowledge, knowledge_id
from events.session import Session

MAX_LINE_BYTES = 64 * 1024**2  # an event has some kilobytes; a file without lines is no export
MAX_POSITION = 2**62  # leaves room for moving all of them up

# The fields that hold positions of the log. They move with the events when positions are taken.
POSITION_FIELDS: Mapping[type[SessionAggregate.Event], tuple[str, ...]] = {
    Session.ReplyCompleted: ("memory_position", "graph_position"),
    Knowledge.KnowledgeExtracted: ("source_position",),
    Connection.MemorySearched: ("as_of", "view_position"),
    Connection.MemoryRead: ("as_of", "view_position"),
    Connection.GraphRead: ("as_of", "view_position"),
}


class TransferError(Exception):
    """A file that can't be imported, or a session that can't be exported; the text says why."""


class Header(BaseModel):
    """The first line."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["lorewire-export"] = "lorewire-export"
    version: Literal[1] = 1
    epoch: str  # of the log that the events come from
    session_id: UUID
    events: int = Field(ge=1)


class EventLine(BaseModel):
    """One event."""

    model_config = ConfigDict(extra="forbid")

    position: int = Field(ge=1, le=MAX_POSITION)
    recorded_at: AwareDatetime
    stream: UUID
    version: int = Field(ge=1)
    topic: str
    state: dict[str, Any]  # as stored


class Footer(BaseModel):
    """The last line."""

    model_config = ConfigDict(extra="forbid")

    events: int
    sha256: str


Line = TypeVar("Line", Header, EventLine, Footer)


@dataclass(frozen=True)
class ExportedEvent:
    """A stored event on its way from one log to another."""

    position: int
    recorded_at: datetime
    stream: UUID
    version: int
    topic: str
    state: bytes

    def without_positions(self) -> tuple[bytes, dict[str, int | None]]:
        """The state without the fields that hold positions, and these by themselves."""
        fields = POSITION_FIELDS.get(TopicMap.classes[self.topic], ())
        state = orjson.loads(self.state)
        found = {name: state.pop(name) for name in fields if name in state}
        return orjson.dumps(state), found


def write_export(header: Header, events: Iterable[ExportedEvent]) -> Iterator[bytes]:
    """The lines of a file, each with its end. Raises TransferError for a state that is not JSON."""
    digest = hashlib.sha256()
    line = orjson.dumps(header.model_dump()) + b"\n"
    count = 0
    digest.update(line)
    yield line
    for event in events:
        try:
            state = orjson.loads(event.state)
        except orjson.JSONDecodeError as error:
            raise TransferError(
                f"The event at position {event.position} can't be exported, "
                f"since its state is not JSON: {error}."
            ) from None
        line = orjson.dumps({**vars(event), "state": state}) + b"\n"
        count += 1
        digest.update(line)
        yield line
    yield orjson.dumps({"events": count, "sha256": digest.hexdigest()}) + b"\n"


class ExportReader:
    """Reads a file once, line by line, and checks everything on the way."""

    def __init__(self, file: BinaryIO, mapper: Mapper[UUID]) -> None:
        """Read the first line; raises TransferError where it is not that of an export."""
        self._file = file
        self._mapper = mapper
        self._digest = hashlib.sha256()
        self._number = 0  # of the line that was read last, from 1
        self._position = 0
        self._versions: dict[UUID, int] = {}  # the newest of each stream
        self.header = self._parse(Header, self._read_line())

    def __iter__(self) -> Iterator[ExportedEvent]:
        """The events, in order. Raises TransferError at the first line that is wrong, and in the
        end where the file is not whole: until then nothing is to be trusted.
        """
        for _ in range(self.header.events):
            line = self._parse(EventLine, self._read_line())
            event = ExportedEvent(**{**vars(line), "state": orjson.dumps(line.state)})
            self._check(event, line.state)
            yield event
        digest = self._digest.hexdigest()
        footer = self._parse(Footer, self._read_line())
        if footer.events != self.header.events or footer.sha256 != digest:
            raise self._error("the checksum is another one: the file was changed on the way")
        if self._file.read(1):
            self._number += 1
            raise self._error("the export ended before this line")

    def _check(self, event: ExportedEvent, state: dict[str, Any]) -> None:
        """Whether an event can be what follows in this session. Raises TransferError."""
        if event.position <= self._position:
            raise self._error(f"position {event.position} does not follow {self._position}")
        self._position = event.position
        expected = self._versions.get(event.stream, 0) + 1
        if event.version != expected:
            raise self._error(
                f"stream {event.stream} continues with version {expected}, not {event.version}"
            )
        self._versions[event.stream] = event.version
        # Before the mapper: a topic of another form would make the library import a module.
        event_class = TopicMap.classes.get(event.topic)
        if event_class is None:
            raise self._error(f"there is no event {event.topic[:64]!r} in this version of Lorewire")
        if state.get("class_version", 1) > getattr(event_class, "class_version", 1):
            raise self._error(f"its {event.topic} was written by a newer version of Lorewire")
        try:
            decoded: Any = self._mapper.to_domain_event(
                StoredEvent(event.stream, event.version, event.topic, event.state)
            )
        except (MapperDeserialisationError, ValueError, TypeError, KeyError) as error:
            raise self._error(_unreadable(error)) from None
        session_id = self.header.session_id
        if decoded.session_id != session_id:
            raise self._error(f"the event is of session {decoded.session_id}, not {session_id}")
        aggregate = aggregate_of(event_class)
        if not _may_hold(event.stream, aggregate, session_id):
            raise self._error(f"a {event.topic} can't be in stream {event.stream}")
        is_first = issubclass(event_class, Aggregate.Created)
        if is_first != (event.version == 1):
            raise self._error(f"a {event.topic} can't be version {event.version} of a stream")
        if is_first and decoded.originator_topic != aggregate.__name__:
            raise self._error(f"`originator_topic` must be {aggregate.__name__}")

    def _read_line(self) -> bytes:
        self._number += 1
        line = self._file.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            if len(line) == MAX_LINE_BYTES:
                raise self._error(f"it has more than {MAX_LINE_BYTES:,} bytes")
            raise self._error("the file ends too early: it is not whole")
        return line

    def _parse(self, line_class: type[Line], line: bytes) -> Line:
        self._digest.update(line)
        try:
            return line_class.model_validate(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise self._error(f"this is not JSON: {error}") from None
        except ValidationError as error:
            raise self._error(_first_error(line_class, error)) from None

    def _error(self, reason: str) -> TransferError:
        return TransferError(f"Line {self._number} can't be imported: {reason}.")


def aggregate_of(event_class: type[Any]) -> type[SessionAggregate]:
    """The aggregate in which an event class is nested."""
    for aggregate in (Session, Connection, Knowledge):
        if getattr(aggregate, event_class.__name__, None) is event_class:
            return aggregate
    raise TypeError(f"{event_class.__name__} is not an event of an aggregate")


def _may_hold(stream: UUID, aggregate: type[SessionAggregate], session_id: UUID) -> bool:
    """Whether a stream with this id may be that of such an aggregate."""
    own = {session_id: Session, knowledge_id(session_id): Knowledge}
    return own.get(stream, Connection) is aggregate


def _first_error(line_class: type[BaseModel], error: ValidationError) -> str:
    name, reason = _first(error)
    kind = {Header: "header", EventLine: "event", Footer: "last line"}[line_class]
    return f"`{name}` of the {kind}: {reason}" if name else f"not the {kind} of an export: {reason}"


def _unreadable(error: Exception) -> str:
    """Why a state does not fit its event, in one line."""
    if isinstance(error.__cause__, ValidationError):
        name, reason = _first(error.__cause__)
        return f"`state.{name}` of the event: {reason}" if name else f"`state`: {reason}"
    return str(error)


def _first(error: ValidationError) -> tuple[str, str]:
    """The field that is wrong, and what was expected."""
    first = error.errors(include_url=False)[0]
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return ".".join(str(part) for part in first["loc"]), reason
