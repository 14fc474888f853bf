"""What a session has learned: statements, where they come from, and what people corrected."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from eventsourcing import domain
from eventsourcing.domain import Aggregate
from typing_extensions import TypedDict

from events.aggregate import Cause, SessionAggregate, stable_topics

LEARNING = Cause(user_id="lorewire:learning")  # the policy that reads what was said


def knowledge_id(session_id: UUID) -> UUID:
    """The id of a session's knowledge stream, derived from the session's own."""
    return uuid5(session_id, "knowledge")


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


class KnowledgeState(TypedDict):
    """What a snapshot of a session's knowledge holds."""

    _created_on: datetime
    _modified_on: datetime
    session_id: UUID


@stable_topics
class Knowledge(SessionAggregate):
    """What one session has learned. Its stream is written by the learning policy."""

    class KnowledgeOpened(SessionAggregate.Event, Aggregate.Created):
        """The learning policy saw the session for the first time."""

    class KnowledgeExtracted(SessionAggregate.Event):
        """An extractor read one turn (or the seed of the domain) and found these statements."""

        turn_id: UUID | None  # None: the domain's seed knowledge
        source_position: int  # of the event that ended the turn, or opened the session
        extractor: str  # name and version, as "spacy-rules/1"
        statements: tuple[Statement, ...]
        error: str | None  # why nothing could be read; a replay does not ask again

    class Snapshot(domain.Snapshot):
        """A session's knowledge as it was at one version."""

        state: KnowledgeState  # type: ignore[assignment]

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id

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
    ) -> None:
        """Keep what an extractor found in one turn; an empty result is worth knowing, too."""
        self.trigger_event(
            self.KnowledgeExtracted,
            turn_id=turn_id,
            source_position=source_position,
            extractor=extractor,
            statements=statements,
            error=error,
            cause=LEARNING,
        )
