"""What a session has learned: statements, where they come from, and what people corrected."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid5

from eventsourcing import domain
from eventsourcing.domain import Aggregate
from typing_extensions import TypedDict

from events.aggregate import Cause, SessionAggregate, stable_topics

LEARNING = Cause(user_id="lorewire:learning")  # the policy that reads what was said
MAX_MERGES = 1000  # that stand in one session: snapshots stay under 200 kB


def knowledge_id(session_id: UUID) -> UUID:
    """The id of a session's knowledge stream, derived from the session's own."""
    return uuid5(session_id, "knowledge")


class CurationError(Exception):
    """A correction that the session's knowledge refuses; the text is a sentence for the client."""


class SameEntityError(CurationError):
    """Both are one entity already."""

    def __init__(self, kept: str, merged: str) -> None:
        super().__init__(f"{kept!r} and {merged!r} are one entity already: nothing to merge.")


class TooManyMergesError(CurationError):
    """So many merges stand that another is refused."""

    def __init__(self) -> None:
        super().__init__(f"The session has {MAX_MERGES} merges already, which is all it may have.")


class MergeIsSplitError(CurationError):
    """The merge was taken back before."""

    def __init__(self, merge_id: UUID) -> None:
        super().__init__(f"Merge {merge_id} is split already.")


@dataclass(frozen=True)
class Statement:
    """One thing that somebody said: subject, predicate, object, and how it was meant."""

    statement_id: str  # unique in the session
    subject: str
    subject_type: str | None
    predicate: str
    object: str
    object_type: str | None
    object_is_literal: bool  # True: a date, a number, a text; no entity of its own
    quote: str  # the words it rests on, exactly as they were said
    speaker: str
    polarity: Literal["yes", "no"]
    modality: Literal["fact", "plan", "wish", "possible", "reported"]
    said_by: str | None  # whose words the speaker reported
    valid_from: str | None  # when it holds in the world, in the words that were used
    valid_to: str | None
    confidence: float  # 0..1, the extractor's own
    replaces: str | None = None  # what it says was so before, in the extractor's words


class KnowledgeState(TypedDict):
    """What a snapshot of a session's knowledge holds."""

    _created_on: datetime
    _modified_on: datetime
    session_id: UUID
    merges: dict[UUID, tuple[str, str]]
    learned_upto: int


@stable_topics
class Knowledge(SessionAggregate):
    """What one session has learned, and how people corrected it.

    Its stream is written by the learning policy, and by the session's actor for people. Statements
    are not kept here: whether there is one, the graph view knows.
    """

    class KnowledgeOpened(SessionAggregate.Event, Aggregate.Created):
        """The learning policy saw the session for the first time."""

    class KnowledgeExtracted(SessionAggregate.Event):
        """An extractor read one turn (or the seed of the domain) and found these statements."""

        turn_id: UUID | None  # None: the domain's seed knowledge
        source_position: int  # of the event that ended the turn, or opened the session
        extractor: str  # name and version, as "spacy-rules/2"
        statements: tuple[Statement, ...]
        error: str | None  # why not, or not as the domain wants; a replay does not ask again
        said_at: datetime | None  # the time of the source event; None in events from before

        class_version = 2

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            """Version 1 did not say when the words were said."""
            state["said_at"] = None

        def apply(self, knowledge: "Knowledge") -> None:
            """Remember how far was learned."""
            knowledge.learned_upto = max(knowledge.learned_upto, self.source_position)

    class StatementRetracted(SessionAggregate.Event):
        """A person said that a statement was never right."""

        statement_id: str
        reason: str | None

    class EntitiesMerged(SessionAggregate.Event):
        """A person said that two entities are one. From now on they are shown as the kept one."""

        merge_id: UUID
        kept_id: str
        merged_id: str
        kept_name: str  # as they were called on that day
        merged_name: str

        def apply(self, knowledge: "Knowledge") -> None:
            """Remember that the merge stands."""
            knowledge.merges[self.merge_id] = self.kept_id, self.merged_id

    class EntitiesSplit(SessionAggregate.Event):
        """A person took a merge back, another person's or one that the graph had made by itself."""

        merge_id: UUID

        def apply(self, knowledge: "Knowledge") -> None:
            """Remember that the merge does not stand any more."""
            knowledge.merges.pop(self.merge_id, None)

    class Snapshot(domain.Snapshot):
        """A session's knowledge as it was at one version."""

        class_version = 3
        state: KnowledgeState  # type: ignore[assignment]

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            """Version 1 knew no merges."""
            state["state"]["merges"] = {}

        @staticmethod
        def upcast_v2_v3(state: dict[str, Any]) -> None:
            """Version 2 did not say how far was learned: what has come since then says it."""
            state["state"]["learned_upto"] = 0

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.merges: dict[UUID, tuple[str, str]] = {}  # that stand: kept and merged entity
        self.learned_upto = 0  # the highest position of an event that was learned from

    @classmethod
    def open(cls, session_id: UUID) -> "Knowledge":
        """Start the knowledge of a session."""
        return cls._create(
            cls.KnowledgeOpened, id=knowledge_id(session_id), session_id=session_id, cause=LEARNING
        )

    def learn(
        self,
        *,
        turn_id: UUID | None,
        source_position: int,
        extractor: str,
        statements: tuple[Statement, ...],
        error: str | None = None,
        said_at: datetime | None = None,
    ) -> None:
        """Keep what an extractor found in one turn; an empty result is worth knowing, too."""
        self.trigger_event(
            self.KnowledgeExtracted,
            turn_id=turn_id,
            source_position=source_position,
            extractor=extractor,
            statements=statements,
            error=error,
            said_at=said_at,
            cause=LEARNING,
        )

    def retract_statement(self, statement_id: str, *, reason: str | None, cause: Cause) -> None:
        """Say that a statement was never right. That there is one, the caller has looked up."""
        self.trigger_event(
            self.StatementRetracted, statement_id=statement_id, reason=reason, cause=cause
        )

    def merge_entities(
        self,
        merge_id: UUID,
        *,
        kept_id: str,
        merged_id: str,
        kept_name: str,
        merged_name: str,
        cause: Cause,
    ) -> None:
        """Say that two entities are one, which is from now on called what the kept one is.

        Raises SameEntityError and TooManyMergesError.
        """
        if self._are_one(kept_id, merged_id):
            raise SameEntityError(kept_name, merged_name)
        if len(self.merges) >= MAX_MERGES:
            raise TooManyMergesError
        self.trigger_event(
            self.EntitiesMerged,
            merge_id=merge_id,
            kept_id=kept_id,
            merged_id=merged_id,
            kept_name=kept_name,
            merged_name=merged_name,
            cause=cause,
        )

    def split_entities(self, merge_id: UUID, *, is_automatic: bool, cause: Cause) -> None:
        """Take a merge back. That there was one, and whose, the caller has looked up.

        `is_automatic`: the graph had made it by its rules, which no event tells of. Raises
        MergeIsSplitError.
        """
        if not is_automatic and merge_id not in self.merges:
            raise MergeIsSplitError(merge_id)
        self.trigger_event(self.EntitiesSplit, merge_id=merge_id, cause=cause)

    def _are_one(self, one: str, other: str) -> bool:
        """Whether the merges that stand join two entities, whatever lies between them."""
        joined = {one}
        size = 0
        while len(joined) > size:
            size = len(joined)
            for pair in self.merges.values():
                if not joined.isdisjoint(pair):
                    joined.update(pair)
        return other in joined
