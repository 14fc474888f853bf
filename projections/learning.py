"""The learning policy: what was said becomes statements, exactly once."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from uuid import UUID

from eventsourcing.persistence import IntegrityError, Tracking

from events.knowledge import Knowledge, Statement, knowledge_id
from events.log import Log, Recorded
from events.session import Session
from language.domains import Domain
from language.extraction import Extractor
from language.statements import ExtractedStatement
from projections import positions
from projections.follower import stored_position

logger = logging.getLogger(__name__)

MAX_KNOWLEDGE = 1000  # aggregates kept at hand, under 1 kB each
SNAPSHOT_EVENTS = 100  # so many are loaded in some 5 ms
MAX_CONFLICTS = 5  # the stream has hardly another writer
MAX_ERROR_CHARACTERS = 500

TurnEnded = Session.ReplyCompleted | Session.ReplyFailed | Session.ReplyCancelled

# What an extractor tells of a statement; the policy adds its id and the speaker.
_EXTRACTED = [field.name for field in fields(ExtractedStatement)]


@dataclass(frozen=True)
class Passage:
    """What one participant said to another."""

    text: str
    speaker: str
    addressee: str | None  # None: said to nobody in particular


class LearningPolicy:
    """The work of the follower that has every turn read by its domain's extractor.

    One KnowledgeExtracted for each ended turn and for each seed, stored in one transaction with the
    position of the event that it answers: whatever dies when, a turn is neither left out nor
    learned twice.
    """

    name = positions.LEARNING

    def __init__(
        self,
        log: Log,
        domains: Mapping[str, Domain],
        extractors: Mapping[str, Extractor | None],
    ) -> None:
        """`extractors` by the names that domains give them; None: the domain learns nothing."""
        self._log = log
        self._domains = domains
        self._extractors = extractors
        self._knowledge: OrderedDict[UUID, Knowledge] = OrderedDict()

    def advance(self, after: int, recorded: Sequence[Recorded]) -> None:
        """Learn from these events. Each commits for itself, since reading one takes time."""
        position = after
        for one in recorded:
            if self._learn_from(one):
                position = one.position
        if position < recorded[-1].position:
            recorder = self._log.recorder
            with recorder.datastore.transaction(commit=True) as curs:
                recorder._insert_tracking(curs, Tracking(self.name, recorded[-1].position))

    def _learn_from(self, one: Recorded) -> bool:
        """Store what one event teaches, and the position; False where it is not one to read."""
        event = one.event
        if not isinstance(event, TurnEnded | Session.SessionOpened):
            return False
        session = self._log.load(Session, event.session_id)
        if session is None or session.is_deleted or not session.config.enable_graph:
            return False
        domain = self._domains.get(session.config.domain)
        extractor = self._extractors.get(domain.extractor) if domain else None
        if domain is None or extractor is None:
            return False
        if isinstance(event, Session.SessionOpened):
            passages = [Passage(text, domain.title, None) for text in event.seed]
            turn_id = None
        else:
            passages = self._passages_of(event, domain.agent_name)
            turn_id = event.turn_id
        if not passages:
            return False
        statements, error = _extract(extractor, passages, turn_id, one)
        self._store(one, turn_id, f"{extractor.name}/{extractor.version}", statements, error)
        return True

    def _passages_of(self, event: TurnEnded, agent_name: str) -> list[Passage]:
        query: Session.QueryAsked = self._log.read_one(event.session_id, event.query_version)
        user_id = query.cause.user_id
        passages = [Passage(query.message, user_id, agent_name)]
        if event.text.strip():
            passages.append(Passage(event.text, agent_name, user_id))
        return passages

    def _store(
        self,
        one: Recorded,
        turn_id: UUID | None,
        extractor: str,
        statements: tuple[Statement, ...],
        error: str | None,
    ) -> None:
        """Append to the knowledge of the session; on a conflict, load it again and once more."""
        session_id = one.event.session_id
        for conflicts in range(MAX_CONFLICTS + 1):
            # Out of the cache until it is stored: what fails leaves an aggregate ahead of the log.
            knowledge = self._knowledge.pop(session_id, None) or self._load(session_id)
            knowledge.learn(
                turn_id=turn_id,
                source_position=one.position,
                extractor=extractor,
                statements=statements,
                error=error,
            )
            try:
                self._log.events.put(
                    knowledge.collect_events(), tracking=Tracking(self.name, one.position)
                )
            except IntegrityError:
                is_learned = stored_position(self._log, self.name) >= one.position
                if is_learned or conflicts == MAX_CONFLICTS:
                    raise
            else:
                self._keep(session_id, knowledge)
                return

    def _load(self, session_id: UUID) -> Knowledge:
        return self._log.load(Knowledge, knowledge_id(session_id)) or Knowledge.open(session_id)

    def _keep(self, session_id: UUID, knowledge: Knowledge) -> None:
        self._knowledge[session_id] = knowledge
        if len(self._knowledge) > MAX_KNOWLEDGE:
            self._knowledge.popitem(last=False)
        if knowledge.version % SNAPSHOT_EVENTS == 0:
            self._log.put_snapshot(Knowledge.Snapshot.take(knowledge))


def _extract(
    extractor: Extractor, passages: Sequence[Passage], turn_id: UUID | None, one: Recorded
) -> tuple[tuple[Statement, ...], str | None]:
    """What an extractor finds in one turn, or the error that it ended with."""
    extracted: list[tuple[Passage, ExtractedStatement]] = []
    try:
        for passage in passages:
            found = extractor.extract(
                passage.text,
                speaker=passage.speaker,
                addressee=passage.addressee,
                said_on=one.event.timestamp.date(),
            )
            extracted += [(passage, each) for each in found]
    except Exception as error:  # recorded, so that a replay does not ask again
        logger.exception("Extractor %s failed at position %s", extractor.name, one.position)
        return (), f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
    return tuple(_statements(extracted, str(turn_id or "seed"))), None


def _statements(
    extracted: Sequence[tuple[Passage, ExtractedStatement]], prefix: str
) -> Iterator[Statement]:
    for number, (passage, one) in enumerate(extracted):
        yield Statement(
            statement_id=f"{prefix}:{number}",
            speaker=passage.speaker,
            **{name: getattr(one, name) for name in _EXTRACTED},
        )
