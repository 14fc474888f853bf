"""The log: every domain event in one order, on the eventsourcing library and PostgreSQL."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, Snapshot
from eventsourcing.persistence import (
    InfrastructureFactory,
    IntegrityError,
    Mapper,
    MapperDeserialisationError,
    StoredEvent,
    Transcoder,
)
from eventsourcing.utils import Environment
from psycopg.rows import tuple_row

from events import connection, knowledge, session
from events.aggregate import SessionAggregate
from events.mapper import OrjsonTranscoder, TypedMapper
from events.recorder import LogFactory, LogRecorder, retry_read
from events.shards import WHOLE, Shard

AGGREGATES = (session.Session, connection.Connection, knowledge.Knowledge)  # all that it may hold

CHANNEL = "lorewire_events"  # notified once for each append

AggregateType = TypeVar("AggregateType", bound=Aggregate)

# A turn that waits for 16 others sees the events of all of them before its own end.
MAX_EVENTS_WITHIN_A_TURN = 100

_TURN_TOPICS = ("QueryAsked", "ReplyCompleted", "ReplyFailed", "ReplyCancelled")
_COLUMNS = "notification_id, originator_id, originator_version, topic, state, session_id"

# How far a batch of some events goes, and those up to there, from one snapshot: so a position can
# move over the events of other shards or kinds, and none that is committed meanwhile falls between.
_READ_PART = f"""
    SELECT last.position, own.* FROM (
        SELECT max(notification_id) AS position FROM (
            SELECT notification_id FROM lorewire_events
            WHERE notification_id > %(after)s AND notification_id <= %(upto)s
            ORDER BY notification_id LIMIT %(limit)s
        ) AS next
    ) AS last LEFT JOIN LATERAL (
        SELECT {_COLUMNS} FROM lorewire_events
        WHERE notification_id > %(after)s AND notification_id <= last.position AND {{condition}}
        ORDER BY notification_id LIMIT %(limit)s
    ) AS own ON true ORDER BY own.notification_id
"""
_READ_NEWER = """
    SELECT originator_id, originator_version, topic, state FROM lorewire_events
    JOIN unnest(%s::uuid[], %s::bigint[]) AS known (id, version)
        ON originator_id = known.id AND originator_version > known.version
    ORDER BY originator_id, originator_version
"""
_IS_UNCLOSED = """
    topic = 'ConnectionOpened' AND notification_id > %s AND NOT EXISTS (
        SELECT FROM lorewire_events AS later
        WHERE later.originator_id = lorewire_events.originator_id
        AND later.topic = 'ConnectionClosed'
    )
"""
MAX_POSITION = 2**63 - 1


@dataclass(frozen=True)
class Recorded:
    """A domain event and its place in the log."""

    position: int
    event: SessionAggregate.Event


@dataclass(frozen=True)
class Unreadable:
    """A stored event whose bytes do not fit its class, in the place of a `Recorded`."""

    position: int
    topic: str
    error: str
    session_id: UUID | None = None


@dataclass(frozen=True)
class Batch:
    """Events that follow a position, in order; all there are of one shard up to `upto`."""

    after: int
    upto: int  # the same as `after`: there is nothing new
    events: Sequence[Recorded | Unreadable]


class Log(Application[UUID]):
    """Stores and reads domain events. Blocking: never called on an event loop's thread."""

    name = "lorewire"
    is_snapshotting_enabled = True

    recorder: LogRecorder

    def __init__(self, database_url: str, *, pool_size: int = 4) -> None:
        """Open a log whose tables exist (see `migrations/`); connects when first used."""
        self.database_url = database_url
        super().__init__(
            env={
                "DATABASE_URL": database_url,
                "CREATE_TABLE": "no",  # Alembic owns the schema
                "POSTGRES_ENABLE_DB_FUNCTIONS": "no",  # the library's function loses events
                "POSTGRES_POOL_SIZE": "1",
                "POSTGRES_MAX_OVERFLOW": str(pool_size - 1),
                "POSTGRES_CONNECT_TIMEOUT": "1",  # seconds, for a connection of the pool
                "IS_SNAPSHOTTING_ENABLED": "y",
            }
        )

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Our recorders, on one pool of connections."""
        return LogFactory(env)

    def construct_transcoder(self) -> Transcoder:
        """Plain JSON."""
        return OrjsonTranscoder()

    def construct_mapper(self) -> Mapper[UUID]:
        """Typed decoding."""
        return TypedMapper(self.construct_transcoder())

    def construct_recorder(self) -> LogRecorder:
        """One recorder for events and for the tracking of policies."""
        return cast(LogRecorder, self.factory.process_recorder())

    def load(self, aggregate_class: type[AggregateType], stream_id: UUID) -> AggregateType | None:
        """The aggregate as it is now, or None where its stream is empty.

        A snapshot that can't be read is passed over: the events tell the same.
        """
        try:
            return cast(AggregateType, self.repository.get(stream_id))
        except AggregateNotFoundError:
            return None
        except MapperDeserialisationError:
            return cast(AggregateType, self._load_without_snapshot(stream_id))

    def catch_up(self, *aggregates: SessionAggregate) -> None:
        """Bring loaded aggregates to where they are now, by the events that they have not seen.

        All by one read. Where this raises, they are of no use any more.
        """
        if not aggregates:
            return
        by_id = {aggregate.id: aggregate for aggregate in aggregates}
        versions = [aggregate.version for aggregate in by_id.values()]
        for stored in self._select(_READ_NEWER, (list(by_id), versions)):
            event = self.mapper.to_domain_event(StoredEvent(*stored))
            event.mutate(by_id[event.originator_id])  # type: ignore[attr-defined]

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep an aggregate as it was taken, so that loading it stays short."""
        assert self.snapshots is not None
        with contextlib.suppress(IntegrityError):  # another node has taken the same one
            self.snapshots.put([snapshot])

    def epoch(self) -> str:
        """The name of this log; positions mean nothing in another one."""
        return cast(str, self._select("SELECT epoch FROM lorewire_epoch", ())[0][0])

    def head(self) -> int:
        """The newest position, 0 in an empty log."""
        return self.recorder.max_notification_id() or 0

    def session_head(self, session_id: UUID) -> int:
        """The newest position of one session, 0 where it has no events."""
        rows = self._select(
            "SELECT max(notification_id) FROM lorewire_events WHERE session_id = %s", (session_id,)
        )
        return rows[0][0] or 0

    def read(self, *, after: int, limit: int) -> list[Recorded | Unreadable]:
        """Events after a position, in order, at most `limit`."""
        return self._read("notification_id > %s", (after,), limit)

    def read_batch(
        self,
        *,
        after: int,
        limit: int,
        shard: Shard = WHOLE,
        upto: int = MAX_POSITION,
        topics: Sequence[str] | None = None,
    ) -> Batch:
        """What comes after a position and not after `upto`: of at most `limit` events for each
        shard that there is, those of this one, and of these kinds; `topics` None: of all.
        """
        if shard.count == 1 and topics is None:
            condition = "notification_id > %s AND notification_id <= %s"
            events = self._read(condition, (after, upto), limit)
            return Batch(after, events[-1].position if events else after, events)
        condition = shard.condition if shard.count > 1 else "true"
        if topics is not None:
            condition += " AND topic = ANY(%(topics)s)"
        parameters = {"after": after, "upto": upto, "limit": limit * shard.count}
        rows = self._select(
            _READ_PART.format(condition=condition), {**parameters, "topics": list(topics or ())}
        )
        events = [self._decode(*row[1:]) for row in rows if row[1] is not None]
        return Batch(after, rows[0][0] or after, events)

    def read_session(
        self, session_id: UUID, *, after: int = 0, limit: int
    ) -> list[Recorded | Unreadable]:
        """Events of one session after a position, of all its streams, in order."""
        return self._read("session_id = %s AND notification_id > %s", (session_id, after), limit)

    def read_topics(
        self, session_id: UUID, topics: Sequence[str], *, after: int, limit: int
    ) -> list[Recorded | Unreadable]:
        """Events of one session after a position, of some kinds only, in order."""
        return self._read(
            "session_id = %s AND notification_id > %s AND topic = ANY(%s)",
            (session_id, after, list(topics)),
            limit,
        )

    def read_unclosed(self, *, after: int, limit: int) -> list[Recorded | Unreadable]:
        """`ConnectionOpened` of connections that are open, or whose server has died, in order."""
        return self._read(_IS_UNCLOSED, (after,), limit)

    def read_mentions(
        self,
        session_id: UUID,
        words: bytes,
        topics: Sequence[str],
        *,
        always: Sequence[str] = (),
        after: int,
        limit: int,
    ) -> list[Recorded | Unreadable]:
        """Events of one session after a position, of some kinds, whose stored state has these words
        in it, and those of kinds in `always` whatever they say; in order. The database looks into
        each event of the session on the way.
        """
        return self._read(
            "session_id = %s AND notification_id > %s AND topic = ANY(%s)"
            " AND (topic = ANY(%s) OR position(%s::bytea IN state) > 0)",
            (session_id, after, list(topics), list(always), words),
            limit,
        )

    def read_stream_backwards(self, stream_id: UUID, *, limit: int) -> Iterator[Any]:
        """The newest events of one stream, newest first."""
        return self.events.get(stream_id, desc=True, limit=limit)

    def read_one(self, stream_id: UUID, version: int) -> Any:
        """One event of one stream; raises KeyError where there is none."""
        for event in self.events.get(stream_id, gt=version - 1, lte=version):
            return event
        raise KeyError(f"Stream {stream_id} has no version {version}.")

    def read_turn(self, session_id: UUID, version: int, turn_id: UUID) -> list[Recorded]:
        """A query (by its version in the session's stream) and, where it has ended, its end."""
        rows = self._select(
            f"SELECT {_COLUMNS} FROM lorewire_events"
            " WHERE originator_id = %s AND originator_version >= %s AND topic = ANY(%s)"
            " ORDER BY originator_version LIMIT %s",
            (session_id, version, list(_TURN_TOPICS), MAX_EVENTS_WITHIN_A_TURN),
        )
        recorded = [self._decode(*row) for row in rows]
        return [
            one
            for one in recorded
            if isinstance(one, Recorded) and getattr(one.event, "turn_id", None) == turn_id
        ]

    def _read(
        self, condition: str, parameters: tuple[Any, ...], limit: int
    ) -> list[Recorded | Unreadable]:
        rows = self._select(
            f"SELECT {_COLUMNS} FROM lorewire_events WHERE {condition}"
            " ORDER BY notification_id LIMIT %s",
            (*parameters, limit),
        )
        return [self._decode(*row) for row in rows]

    def _decode(
        self,
        position: int,
        stream_id: UUID,
        version: int,
        topic: str,
        state: bytes,
        session_id: UUID | None,
    ) -> Recorded | Unreadable:
        try:
            event = self.mapper.to_domain_event(StoredEvent(stream_id, version, topic, state))
        except Exception as error:  # any byte may be wrong, and one event must not stop a reader
            return Unreadable(position, topic, str(error), session_id)
        return Recorded(position, cast(SessionAggregate.Event, event))

    @retry_read
    def _select(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        with (
            self.recorder.datastore.get_connection() as conn,
            conn.cursor(row_factory=tuple_row, binary=True) as curs,
        ):
            return curs.execute(query, parameters, prepare=True).fetchall()

    def _load_without_snapshot(self, stream_id: UUID) -> Any:
        aggregate = None
        for event in self.events.get(stream_id):
            aggregate = event.mutate(aggregate)  # type: ignore[attr-defined]
        return aggregate
