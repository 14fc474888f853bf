"""The memory: one entry for each thing said in a session, ready to be listed and searched."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import numpy as np
from psycopg import Cursor
from psycopg.rows import DictRow, class_row, dict_row
from psycopg_pool import AsyncConnectionPool

from events.log import Log, Recorded
from events.session import Session, SessionConfig
from language.domains import Domain
from language.embedding import Embedder
from language.stems import content_stems
from projections import positions
from projections.positions import LIVE_VERSION, POSITION_OF, view_at
from projections.reading import snapshot

UNKNOWN_AGENT = "Agent"  # where the domain's file is gone
MAX_KNOWN_SESSIONS = 10_000  # configurations kept in the projector, some 500 bytes each
BATCH_ENTRIES = 500  # taken into an index in some 5 ms

Role = Literal["user", "agent", "seed"]


@dataclass(frozen=True)
class MemoryEntry:
    """One thing said, or one paragraph of the domain's seed knowledge."""

    entry_id: str  # q-<turn>, r-<turn> or s-<n>
    role: Role
    speaker: str
    text: str
    turn_id: UUID | None  # None: seed knowledge
    position: int  # of the event that it comes from
    said_at: datetime


@dataclass(frozen=True)
class IndexedEntry:
    """An entry with what a search needs."""

    entry: MemoryEntry
    stems: str  # of the indexed text, in order, with repeats, separated by spaces
    embedding: bytes | None  # float32, little-endian; None: no embedder


@dataclass(frozen=True)
class EntryPage:
    """Part of a session's memory, newest first."""

    entries: list[MemoryEntry]
    total: int
    view_position: int


@dataclass(frozen=True)
class MemoryStats:
    """How much a session remembers."""

    entry_count: int
    conversation_count: int  # entries that somebody said: all but the seed
    text_bytes: int  # UTF-8


_COLUMNS = "entry_id, role, speaker, text, turn_id, position, said_at"
_IS_LIVE = f"version = {LIVE_VERSION.format(positions.MEMORY)}"
# The entries of one position are the paragraphs s-0, s-1, ..., s-10 of a seed.
_OLDEST_FIRST = "position, length(entry_id), entry_id"
_NEWEST_FIRST = "position DESC, length(entry_id) DESC, entry_id DESC"

_UPSERT = """
    INSERT INTO memory_entries (
        version, session_id, entry_id, position, turn_id, role, speaker, text, said_at, stems,
        embedding
    ) VALUES (
        %(version)s, %(session_id)s, %(entry_id)s, %(position)s, %(turn_id)s, %(role)s,
        %(speaker)s, %(text)s, %(said_at)s, %(stems)s, %(embedding)s
    ) ON CONFLICT (version, session_id, entry_id) DO UPDATE SET
        position = excluded.position, turn_id = excluded.turn_id, role = excluded.role,
        speaker = excluded.speaker, text = excluded.text, said_at = excluded.said_at,
        stems = excluded.stems, embedding = excluded.embedding
"""


def indexed_text(entry: MemoryEntry) -> str:
    """What is searched: "(8 May 2023) Kira: text".

    With names and dates a search finds a tenth more of what it should than with bare texts.
    """
    return f"({entry.said_at.day} {entry.said_at:%B %Y}) {entry.speaker}: {entry.text}"


class MemoryProjection:
    """Writes the entries of all sessions, with their stems and embeddings."""

    name = positions.MEMORY
    tables = ("memory_entries",)

    def __init__(self, log: Log, domains: Mapping[str, Domain], embedder: Embedder | None) -> None:
        self._domains = domains
        self._embedder = embedder
        self._configs = _Configurations(log)

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Add what was said in these events."""
        entries = [
            (one.event.session_id, entry) for one in recorded for entry in self._entries_of(one)
        ]
        if not entries:
            return False
        texts = [indexed_text(entry) for _, entry in entries]
        embeddings = self._embed(texts)
        curs.executemany(
            _UPSERT,
            [
                vars(entry)
                | {
                    "version": version,
                    "session_id": session_id,
                    "stems": content_stems(text),
                    "embedding": embedding,
                }
                for (session_id, entry), text, embedding in zip(
                    entries, texts, embeddings, strict=True
                )
            ],
        )
        return True

    def _entries_of(self, one: Recorded) -> list[MemoryEntry]:
        event = one.event
        match event:
            case Session.SessionOpened():
                self._configs.put(event, event.config)
                title = self._title_of(event.config)
                return [
                    MemoryEntry(f"s-{n}", "seed", title, text, None, one.position, event.timestamp)
                    for n, text in enumerate(event.seed)
                ]
            case Session.SessionReconfigured():
                self._configs.put(event, event.config)
            case Session.QueryAsked():
                return [self._said(one, "user", event.cause.user_id, event.message, event.turn_id)]
            case Session.ReplyCompleted() | Session.ReplyFailed() | Session.ReplyCancelled():
                if event.text.strip():
                    agent = self._agent_of(self._configs.at(event))
                    return [self._said(one, "agent", agent, event.text, event.turn_id)]
        return []

    def _said(
        self, one: Recorded, role: Role, speaker: str, text: str, turn_id: UUID
    ) -> MemoryEntry:
        entry_id = f"{'q' if role == 'user' else 'r'}-{turn_id}"
        return MemoryEntry(
            entry_id, role, speaker, text, turn_id, one.position, one.event.timestamp
        )

    def _title_of(self, config: SessionConfig) -> str:
        domain = self._domains.get(config.domain)
        return domain.title if domain else config.domain

    def _agent_of(self, config: SessionConfig) -> str:
        domain = self._domains.get(config.domain)
        return domain.agent_name if domain else UNKNOWN_AGENT

    def _embed(self, texts: Sequence[str]) -> list[bytes | None]:
        if self._embedder is None:
            return [None] * len(texts)
        vectors = np.asarray(self._embedder.embed(texts), dtype="<f4")
        return [vector.tobytes() for vector in vectors]


class MemoryView:
    """Reads memories. Every method is for an event loop."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def entries(
        self, session_id: UUID, *, limit: int, offset: int = 0, as_of: int | None = None
    ) -> EntryPage:
        """A page of what was said, newest first; `as_of` is the position at which to look."""
        condition = f"{_IS_LIVE} AND session_id = %(session_id)s"
        if as_of is not None:
            condition += " AND position <= %(as_of)s"
        parameters = {"session_id": session_id, "as_of": as_of, "limit": limit, "offset": offset}
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.MEMORY)
            await curs.execute(
                f"SELECT count(*) AS total FROM memory_entries WHERE {condition}", parameters
            )
            total = await curs.fetchone()
            await curs.execute(
                f"SELECT {_COLUMNS} FROM memory_entries WHERE {condition}"
                f" ORDER BY {_NEWEST_FIRST} LIMIT %(limit)s OFFSET %(offset)s",
                parameters,
            )
            entries = [MemoryEntry(**row) for row in await curs.fetchall()]
        assert total is not None
        return EntryPage(entries, total["total"], view.position)

    async def entries_between(self, session_id: UUID, after: int, upto: int) -> list[MemoryEntry]:
        """What was said after one position up to another, oldest first."""
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(MemoryEntry)) as curs,
        ):
            await curs.execute(
                f"SELECT {_COLUMNS} FROM memory_entries"
                f" WHERE {_IS_LIVE} AND session_id = %s AND position > %s AND position <= %s"
                f" ORDER BY {_OLDEST_FIRST}",
                (session_id, after, upto),
            )
            entries: list[MemoryEntry] = await curs.fetchall()
        return entries

    async def moved_since(self, position: int) -> dict[UUID, int]:
        """The sessions with entries newer than a position, and the position of their newest."""
        async with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as curs:
            await curs.execute(
                "SELECT session_id, max(position) AS position FROM memory_entries"
                f" WHERE {_IS_LIVE} AND position > %s GROUP BY session_id",
                (position,),
            )
            return {row["session_id"]: row["position"] for row in await curs.fetchall()}

    async def stats(self, session_id: UUID) -> MemoryStats:
        """Counts of one session's entries."""
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(MemoryStats)) as curs,
        ):
            await curs.execute(
                "SELECT count(*) AS entry_count,"
                " count(*) FILTER (WHERE role <> 'seed') AS conversation_count,"
                " coalesce(sum(octet_length(text)), 0)::bigint AS text_bytes"
                f" FROM memory_entries WHERE {_IS_LIVE} AND session_id = %s",
                (session_id,),
            )
            stats: MemoryStats | None = await curs.fetchone()
        assert stats is not None
        return stats

    async def read_indexed(
        self,
        session_id: UUID,
        after: int,
        take_in: Callable[[list[IndexedEntry]], Awaitable[None]],
    ) -> int:
        """Hand over the entries after a position, oldest first, in batches that may be empty.

        Returns how far the view had read: these are all entries up to there.
        """
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=dict_row) as curs,
        ):
            batch: list[IndexedEntry] = []
            position = 0
            # Stems are joined by the server: decoding arrays would hold up the event loop.
            async for row in curs.stream(
                f"SELECT view_position, {_COLUMNS}, stems, embedding"
                f" FROM (SELECT {POSITION_OF} AS view_position) AS view LEFT JOIN ("
                f"  SELECT {_COLUMNS}, array_to_string(stems, ' ') AS stems, embedding"
                f"   FROM memory_entries WHERE {_IS_LIVE} AND session_id = %s AND position > %s"
                f") AS entries ON true ORDER BY {_OLDEST_FIRST}",
                (positions.MEMORY, session_id, after),
                binary=True,
            ):
                position = row["view_position"]
                if row["entry_id"] is not None:
                    batch.append(_indexed_entry(row))
                if len(batch) == BATCH_ENTRIES:
                    await take_in(batch)
                    batch = []
            await take_in(batch)
        return position


def _indexed_entry(row: dict[str, Any]) -> IndexedEntry:
    entry = MemoryEntry(
        row["entry_id"],
        row["role"],
        row["speaker"],
        row["text"],
        row["turn_id"],
        row["position"],
        row["said_at"],
    )
    return IndexedEntry(entry, row["stems"], row["embedding"])


class _Configurations:
    """How sessions were configured at an event, the most recently used ones kept at hand."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: OrderedDict[UUID, tuple[int, SessionConfig]] = OrderedDict()

    def put(self, event: Session.Event, config: SessionConfig) -> None:
        """The session is configured like this from this event on."""
        self._known[event.session_id] = event.originator_version, config
        self._known.move_to_end(event.session_id)
        if len(self._known) > MAX_KNOWN_SESSIONS:
            self._known.popitem(last=False)

    def at(self, event: Session.Event) -> SessionConfig:
        """The configuration that was in force when the event was stored."""
        version, config = self._known.get(event.session_id, (None, None))
        if version is None or config is None or version > event.originator_version:
            session: Session = self._log.repository.get(
                event.session_id, version=event.originator_version
            )
            config = session.config
            self.put(event, config)
        return config
