"""Every domain event as a line that a person can read."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from events.aggregate import Cause, SessionAggregate
from events.audit import as_dict, known_types
from events.connection import Connection
from events.knowledge import LEARNING, Knowledge, Statement
from events.log import Recorded
from events.mapper import topic_of
from events.session import Session, SessionConfig, TokenUsage
from lorewire.replay import line_of

ADA = Cause("ada")
SAID_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
KIRA = Statement(
    statement_id="seed:0",
    subject="Kira",
    subject_type="person",
    predicate="lives_in",
    object="Thornwick",
    object_type=None,
    object_is_literal=False,
    quote="Kira lives in Thornwick",
    speaker="user",
    polarity="yes",
    modality="fact",
    said_by=None,
    valid_from=None,
    valid_to=None,
    confidence=0.9,
)
LINES = {
    "SessionOpened": "ada: Rivermoor (dnd)",
    "SessionReconfigured": "ada: changed title",
    "QueryAsked": "ada: Who is Kira?",
    "ReplyStarted": f"ada: turn_id={UUID(int=1)}",
    "ReplyCompleted": "ada: A ranger. (1.5 s, 2 memories and 1 facts recalled)",
    "ReplyFailed": "ada: model_unavailable: The model is gone.",
    "ReplyCancelled": "ada: Once upon",
    "SessionDeleted": "ada",
    "ConnectionOpened": "ada: stream=True, remote=::1, user_agent=curl, server=3",
    "MemorySearched": "ada: 'Kira', 2 found",
    "MemoryRead": "ada: kind=facts, limit=5, offset=0, view_position=9",
    "GraphRead": "ada: format=json, view_position=9",
    "StatusRead": "ada",
    "ConnectionClosed": "ada: 1000 bye, after 2.5 s",
    "KnowledgeOpened": "lorewire:learning",
    "KnowledgeExtracted": "lorewire:learning: Kira lives_in Thornwick",
    "StatementRetracted": "ada: seed:0 a joke",
    "EntitiesMerged": f"ada: Ranger is Kira ({UUID(int=7)})",
    "EntitiesSplit": f"ada: takes back {UUID(int=7)}",
}


def happenings() -> Iterator[SessionAggregate.Event]:
    """One event of each kind, as the aggregates make them."""
    session = Session.open(user_id="ada", title="Rivermoor", config=SessionConfig("dnd"))
    session.reconfigure(title="Aldermoor", config=None, cause=ADA)
    turns = [UUID(int=number) for number in (1, 2, 3)]
    for turn in turns:
        session.ask_query(turn, "Who is Kira?", {}, stream=True, cause=ADA)
        session.start_reply()
    session.complete_reply(
        turns[0],
        text="A ranger.",
        recalled=("s-0", "s-1"),
        facts=("seed:0",),
        model="m",
        usage=TokenUsage(3, 4),
        duration_ms=1500,
    )
    session.start_reply()
    session.fail_reply(turns[1], code="model_unavailable", error="The model is gone.", text="")
    session.start_reply()
    session.cancel_reply(None, text="Once upon", cause=ADA)
    session.delete(cause=ADA)
    yield from session.collect_events()  # type: ignore[misc]

    connection = Connection.open(
        session_id=session.id,
        user_id="ada",
        stream=True,
        remote="::1",
        user_agent="curl",
        server=3,
    )
    looked: dict[str, Any] = {"as_of": None, "view_position": 9, "cause": ADA}
    found: dict[str, Any] = {"query": "Kira", "search_type": "hybrid", "results": ("q-1", "s-0")}
    connection.record(Connection.MemorySearched, **found, **looked)
    connection.record(Connection.MemoryRead, kind="facts", limit=5, offset=0, **looked)
    connection.record(Connection.GraphRead, format="json", entity=None, depth=None, **looked)
    connection.record(Connection.StatusRead, cause=ADA)
    connection.close(code=1000, reason="bye", received=1, sent=2, duration_ms=2500, cause=ADA)
    yield from connection.collect_events()  # type: ignore[misc]

    knowledge = Knowledge.open(session.id)
    knowledge.learn(
        turn_id=None,
        source_position=1,
        extractor="spacy-rules/2",
        statements=(KIRA,),
        said_at=SAID_AT,
    )
    knowledge.retract_statement("seed:0", reason="a joke", cause=ADA)
    merge_id = UUID(int=7)
    knowledge.merge_entities(
        merge_id, kept_id="a", merged_id="b", kept_name="Kira", merged_name="Ranger", cause=ADA
    )
    knowledge.split_entities(merge_id, is_automatic=False, cause=ADA)
    yield from knowledge.collect_events()  # type: ignore[misc]


def line(event: SessionAggregate.Event) -> str:
    """The line of an event that came over the wire."""
    return line_of(orjson.loads(orjson.dumps(as_dict(Recorded(7, event)))))


@pytest.mark.parametrize("kind", known_types())
def test_every_kind_of_event_has_a_line_of_its_own(kind: str) -> None:
    event = next(one for one in happenings() if topic_of(one) == kind)

    said = line(event)

    assert said.split()[0] == "7"
    assert kind in said
    assert said.endswith(LINES[kind])


def test_what_nobody_could_learn_from_says_why() -> None:
    knowledge = Knowledge.open(UUID(int=1))
    for error in (None, "The model is gone."):
        knowledge.learn(
            turn_id=None,
            source_position=1,
            extractor="model/1/m",
            statements=(),
            error=error,
        )

    _, nothing, failed = (line(event) for event in knowledge.collect_events())  # type: ignore[arg-type]

    assert nothing.endswith(f"{LEARNING.user_id}: nothing new")
    assert failed.endswith(f"{LEARNING.user_id}: The model is gone.")
