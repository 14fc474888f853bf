"""The memory: one entry for each thing said in a session, ready to be listed and searched."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any, Literal
from uuid import UUID

import numpy as np
from psycopg import Cursor
from psycopg.rows import DictRow, class_row, dict_row, tuple_row
from psycopg_pool import AsyncConnectionPool

from events.log import Log, Recorded
from events.session import Session, SessionConfig
from language.domains import Domain
from language.embedding import Embedder, EmbeddingUnavailableError
from language.passages import Span, split_into_passages
from language.recent import Recent
from language.stems import content_stems
from projections import positions
from projections.follower import NotYetError
from projections.positions import LIVE_VERSION, POSITION_OF, ViewAt, view_at
from projections.reading import snapshot

logger = logging.getLogger(__name__)

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
    """An entry with what a search needs. A long one has several passages, each indexed by itself.

    What is indexed of a passage is "(date) Speaker: passage".
    """

    entry: MemoryEntry
    stems: str  # in order, with repeats, separated by spaces; a line for each passage
    embedding: bytes | None  # one vector after the other, float32, little-endian; None: no vectors
    passages: tuple[Span, ...] = ()  # parts of the text; none: the whole is one


@dataclass(frozen=True)
class IndexedUpTo:
    """What an index has taken in."""

    generation: int  # of the view; another one has other rows
    position: int


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

# What events give again replaces what they gave before. By position, too, so that every index that
# may be chosen finds the one row, and none walks through the session.
_DELETE = """
    DELETE FROM memory_entries AS old
    USING unnest(%s::uuid[], %s::text[], %s::bigint[]) AS new (session_id, entry_id, position)
    WHERE old.version = %s AND old.session_id = new.session_id AND old.entry_id = new.entry_id
        AND old.position = new.position
"""
_COPY = (
    f"COPY memory_entries (version, session_id, {_COLUMNS}, passages, stems, embedding) FROM STDIN"
)

# One statement, so that rows and the view's position belong together.
_READ_INDEXED = f"""
    SELECT view.position, view.version, view.generation, view.rebuilt_position, view.made_with,
        {", ".join(f"entries.{name}" for name in _COLUMNS.split(", "))}, passages, stems,
        CASE WHEN made_with = %(embedder)s THEN embedding END
    FROM (
        SELECT {POSITION_OF.replace("%s", "'memory'")} AS position,
            version, generation, rebuilt_position, made_with
        FROM lorewire_views WHERE name = 'memory'
    ) AS view
    LEFT JOIN memory_entries AS entries
        ON entries.version = view.version AND session_id = %(session_id)s
        AND entries.position > CASE WHEN generation = %(generation)s THEN %(after)s ELSE 0 END
        -- A shard may be ahead of the view's slowest: its newest entries come next time.
        AND entries.position <= view.position
    ORDER BY entries.position, length(entry_id), entry_id
"""


def indexed_text(entry: MemoryEntry, passage: Span | None = None) -> str:
    """What is searched: "(8 May 2023) Kira: text", or a passage of the text.

    With names and dates a search finds a tenth more of what it should than with bare texts.
    """
    text = entry.text if passage is None else entry.text[slice(*passage)].strip()
    return f"({entry.said_at.day} {entry.said_at:%B %Y}) {entry.speaker}: {text}"


class MemoryProjection:
    """Writes the entries of all sessions, with their stems and embeddings."""

    name = positions.MEMORY
    tables = ("memory_entries",)
    topics = (
        *("SessionOpened", "SessionReconfigured", "QueryAsked"),
        *("ReplyCompleted", "ReplyFailed", "ReplyCancelled"),
    )

    def __init__(self, log: Log, domains: Mapping[str, Domain], embedder: Embedder | None) -> None:
        self._domains = domains
        self._embedder = embedder
        self._configs = _Configurations(log)
        self._has_warned = False

    @property
    def made_with(self) -> str | None:
        """The embedder of the vectors in a version that this projection fills alone."""
        return self._embedder.name if self._embedder else None

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Add what was said in these events.

        Raises NotYetError where the embedder does not answer.
        """
        said = {
            (one.event.session_id, entry.entry_id): entry
            for one in recorded
            for entry in self._entries_of(one)
        }
        if not said:
            return False
        passages = [_passages_of(entry.text) for entry in said.values()]
        texts = [
            [indexed_text(entry, span) for span in spans] if spans else [indexed_text(entry)]
            for entry, spans in zip(said.values(), passages, strict=True)
        ]
        embeddings = self._embed(curs, texts, version)
        keys = [k for k, _ in said], [k for _, k in said], [e.position for e in said.values()]
        curs.execute(_DELETE, (*keys, version), prepare=True)
        with curs.copy(_COPY) as copy:
            for (session_id, _), entry, spans, parts, embedding in zip(
                said, said.values(), passages, texts, embeddings, strict=True
            ):
                copy.write_row(
                    (
                        *(version, session_id, *(vars(entry).values())),
                        [end for span in spans for end in span] or None,
                        "\n".join(" ".join(content_stems(part)) for part in parts),
                        embedding,
                    )
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

    def _embed(
        self, curs: Cursor[DictRow], texts: Sequence[Sequence[str]], version: int
    ) -> list[bytes | None]:
        """The vectors of each entry's passages, where the version is to have ours."""
        if self._embedder is None or not self._may_embed(curs, self._embedder.name, version):
            return [None] * len(texts)
        try:
            vectors = self._embedder.embed([part for parts in texts for part in parts])
        except EmbeddingUnavailableError as error:
            raise NotYetError(str(error)) from error
        data, width = np.ascontiguousarray(vectors, "<f4").tobytes(), 4 * self._embedder.dimensions
        ends = list(accumulate((width * len(parts) for parts in texts), initial=0))
        return [data[start:end] for start, end in pairwise(ends)]

    def _may_embed(self, curs: Cursor[DictRow], name: str, version: int) -> bool:
        """Whether the version's vectors are this embedder's; its first entries make them so."""
        curs.execute(
            "UPDATE lorewire_views AS view SET made_with = %s"
            " WHERE name = 'memory' AND version = %s AND made_with IS NULL"
            " AND NOT EXISTS (SELECT FROM memory_entries WHERE version = view.version)",
            (name, version),
        )
        curs.execute("SELECT version, made_with FROM lorewire_views WHERE name = 'memory'")
        row = curs.fetchone()
        assert row is not None, "every view has its row since the migration that made it"
        if row["version"] != version or row["made_with"] == name:
            return True  # a version that is not read yet is filled by one rebuild, from its start
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The vectors in memory were made with %s, and the embedder is %s now. What is said "
                "from now on gets no vector, and search goes by words alone, until somebody runs "
                "`lorewire rebuild memory`.",
                *(row["made_with"] or "no embedder", name),
            )
        return False


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

    async def entries_between(
        self, session_ids: Sequence[UUID], after: int, upto: int
    ) -> dict[UUID, list[MemoryEntry]]:
        """What was said after one position up to another in each of the sessions, oldest first."""
        found: dict[UUID, list[MemoryEntry]] = {session_id: [] for session_id in session_ids}
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=tuple_row) as curs,
        ):
            await curs.execute(
                f"SELECT session_id, {_COLUMNS} FROM memory_entries"
                f" WHERE {_IS_LIVE} AND session_id = ANY(%s) AND position > %s AND position <= %s"
                f" ORDER BY {_OLDEST_FIRST}",
                (list(session_ids), after, upto),
            )
            for session_id, *entry in await curs.fetchall():
                found[session_id].append(MemoryEntry(*entry))
        return found

    async def positions_of(self, session_id: UUID, entry_ids: Sequence[str]) -> dict[str, int]:
        """The positions of the events that entries come from; without those that are not there."""
        async with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as curs:
            await curs.execute(
                "SELECT entry_id, position FROM memory_entries"
                f" WHERE {_IS_LIVE} AND session_id = %s AND entry_id = ANY(%s)",
                (session_id, list(entry_ids)),
            )
            return {row["entry_id"]: row["position"] for row in await curs.fetchall()}

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
        after: IndexedUpTo | None,
        take_in: Callable[[ViewAt, list[IndexedEntry]], Awaitable[None]],
        *,
        embedder: str | None,
    ) -> ViewAt:
        """Hand over the entries that an index lacks, oldest first, in batches that may be empty.

        Where the view has another generation than the index, all of them. Vectors come with them
        if they were made with `embedder`. Returns where the view is: there are no others up to it.
        """
        parameters = {
            "session_id": session_id,
            "generation": after.generation if after else None,
            "after": after.position if after else 0,
            "embedder": embedder,
        }
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=tuple_row) as curs,
        ):
            view: ViewAt | None = None
            if after is None:
                # In parts, while the server is still reading: its answer is never held whole.
                batch: list[IndexedEntry] = []
                async with aclosing(
                    curs.stream(_READ_INDEXED, parameters, binary=True, size=BATCH_ENTRIES)
                ) as rows:
                    async for row in rows:
                        view = view or ViewAt(*row[:5])
                        if row[5] is not None:
                            batch.append(_indexed_entry(row))
                        if len(batch) == BATCH_ENTRIES:
                            await take_in(view, batch)
                            batch = []
                assert view is not None, "every view has its row"
                await take_in(view, batch)
                return view
            await curs.execute(_READ_INDEXED, parameters, binary=True, prepare=True)
            while some := await curs.fetchmany(BATCH_ENTRIES):
                view = ViewAt(*some[0][:5])
                await take_in(view, [_indexed_entry(row) for row in some if row[5] is not None])
        assert view is not None, "every view has its row"
        return view


def _passages_of(text: str) -> tuple[Span, ...]:
    """The passages of a long text; none: it is short."""
    passages = split_into_passages(text)
    return tuple(passages) if len(passages) > 1 else ()


def _indexed_entry(row: Sequence[Any]) -> IndexedEntry:
    ends, stems, embedding = row[12:]
    passages = tuple(zip(ends[::2], ends[1::2], strict=True)) if ends else ()
    return IndexedEntry(MemoryEntry(*row[5:12]), stems, embedding, passages)


class _Configurations:
    """How sessions were configured at an event, the most recently used ones kept at hand."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: Recent[UUID, tuple[int, SessionConfig]] = Recent(MAX_KNOWN_SESSIONS)

    def put(self, event: Session.Event, config: SessionConfig) -> None:
        """The session is configured like this from this event on."""
        self._known[event.session_id] = event.originator_version, config

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
