"""Stored bytes keep every type that an event declares."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import MapperDeserialisationError, StoredEvent
from hypothesis import given

from events.aggregate import Cause, TopicMap
from events.connection import Connection
from events.knowledge import Knowledge, Statement
from events.mapper import OrjsonTranscoder, SessionStoredEvent, TypedMapper, topic_of
from events.session import Session, SessionConfig, TokenUsage, Turn
from tests.events.strategies import EVENTS

MAPPER = TypedMapper(OrjsonTranscoder())


@given(event=EVENTS)
def test_every_event_comes_back_as_it_was(event: Any) -> None:
    stored = MAPPER.to_stored_event(event)

    restored = MAPPER.to_domain_event(stored)

    assert restored == event
    assert type(restored) is type(event)


def test_a_stored_event_knows_its_session() -> None:
    session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))
    connection = Connection.open(
        session_id=session.id, user_id="ada", stream=True, remote="::1", user_agent="x"
    )

    [event] = connection.collect_events()
    stored = MAPPER.to_stored_event(event)

    assert isinstance(stored, SessionStoredEvent)
    assert stored.session_id == session.id
    assert stored.originator_id == connection.id


def aggregates() -> Iterator[Aggregate]:
    session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))
    cause = Cause("ada", UUID(int=1), "7")
    for number in range(2):
        session.ask_query(UUID(int=number), "Hi", {"a": [1]}, stream=True, cause=cause)
    session.start_reply()
    yield session
    yield Connection.open(
        session_id=session.id, user_id="ada", stream=True, remote="::1", user_agent="x"
    )
    yield Knowledge.open(session.id)


@pytest.mark.parametrize(
    "aggregate", list(aggregates()), ids=lambda aggregate: type(aggregate).__name__
)
def test_a_snapshot_restores_the_aggregate(aggregate: Aggregate) -> None:
    aggregate.collect_events()
    snapshot = type(aggregate).Snapshot.take(aggregate)

    restored = MAPPER.to_domain_event(MAPPER.to_stored_event(snapshot))

    assert restored.mutate(None) == aggregate  # type: ignore[attr-defined]


def test_nested_values_have_their_types() -> None:
    session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"), seed=("a", "b"))
    turn_id = UUID(int=5)
    session.ask_query(turn_id, "Hi", {}, stream=True, cause=Cause("ada", UUID(int=1)))
    session.start_reply()
    session.complete_reply(
        turn_id,
        text="Yo",
        recalled=("q-1",),
        facts=(),
        model="m",
        usage=TokenUsage(3, 4),
        duration_ms=5,
    )
    assert session.running is None

    opened, asked, _, completed = [
        MAPPER.to_domain_event(MAPPER.to_stored_event(event)) for event in session.collect_events()
    ]

    assert opened.seed == ("a", "b")  # type: ignore[attr-defined]
    assert opened.timestamp.tzinfo is not None  # type: ignore[attr-defined]
    assert asked.cause == Cause("ada", UUID(int=1))  # type: ignore[attr-defined]
    assert asked.turn_id == turn_id  # type: ignore[attr-defined]
    assert completed.usage == TokenUsage(3, 4)  # type: ignore[attr-defined]
    assert completed.recalled == ("q-1",)  # type: ignore[attr-defined]


def test_a_reply_from_before_its_views_had_positions_can_be_read() -> None:
    session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))
    turn_id = UUID(int=5)
    session.ask_query(turn_id, "Hi", {}, stream=True, cause=Cause("ada"))
    session.start_reply()
    session.complete_reply(
        turn_id,
        text="Yo",
        recalled=("q-1",),
        facts=("seed:0",),
        model="m",
        usage=TokenUsage(3, 4),
        duration_ms=5,
        memory_position=7,
        graph_position=8,
    )
    stored = MAPPER.to_stored_event(session.collect_events()[-1])
    first = orjson.loads(stored.state)
    for name in ("class_version", "memory_position", "graph_position"):
        del first[name]
    old = StoredEvent(session.id, 4, stored.topic, orjson.dumps(first))

    new, read = MAPPER.to_domain_event(stored), MAPPER.to_domain_event(old)

    assert (new.memory_position, new.graph_position) == (7, 8)  # type: ignore[attr-defined]
    assert (read.memory_position, read.graph_position) == (None, None)  # type: ignore[attr-defined]
    assert read.facts == ("seed:0",)  # type: ignore[attr-defined]
    assert read.usage == TokenUsage(3, 4)  # type: ignore[attr-defined]


def test_states_are_plain_json() -> None:
    session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))

    state = orjson.loads(MAPPER.to_stored_event(session.collect_events()[0]).state)

    assert state["config"]["domain"] == "dnd"
    assert state["session_id"] == str(session.id)


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b"{}", b'{"timestamp": 3}', b"\xff"])
def test_bytes_that_do_not_fit_name_the_event(state: bytes) -> None:
    stored = StoredEvent(UUID(int=1), 7, "QueryAsked", state)

    with pytest.raises(MapperDeserialisationError, match="QueryAsked at version 7"):
        MAPPER.to_domain_event(stored)


def test_topics_are_bare_names_that_do_not_move_with_modules() -> None:
    assert {topic: topic_of_class(cls) for topic, cls in TopicMap.classes.items()} == {
        topic: topic for topic in TopicMap.classes
    }
    assert set(TopicMap.classes) == {
        "SessionOpened",
        "SessionReconfigured",
        "QueryAsked",
        "ReplyStarted",
        "ReplyCompleted",
        "ReplyFailed",
        "ReplyCancelled",
        "SessionDeleted",
        "ConnectionOpened",
        "MemorySearched",
        "MemoryRead",
        "GraphRead",
        "StatusRead",
        "ConnectionClosed",
        "KnowledgeOpened",
        "KnowledgeExtracted",
        "StatementRetracted",
        "EntitiesMerged",
        "EntitiesSplit",
    }


def topic_of_class(cls: type[Any]) -> str:
    return topic_of(object.__new__(cls))


def test_a_statement_of_every_shape_survives() -> None:
    knowledge = Knowledge.open(UUID(int=3))
    statement = Statement(
        statement_id="t:0",
        subject="Kira",
        subject_type=None,
        predicate="is_a",
        object="ranger",
        object_type="CLASS",
        object_is_literal=False,
        quote="Kira is a ranger",
        speaker="ada",
        polarity="yes",
        modality="reported",
        said_by="Tobin",
        valid_from=None,
        valid_to="tomorrow",
        confidence=0.75,
    )
    knowledge.learn(
        turn_id=None, source_position=1, extractor="spacy-rules/1", statements=(statement,)
    )

    _, extracted = knowledge.collect_events()

    restored = MAPPER.to_domain_event(MAPPER.to_stored_event(extracted))
    assert restored.statements == (statement,)  # type: ignore[attr-defined]


def test_what_was_learned_before_statements_said_more_is_still_read() -> None:
    """Version 1 of the event had no `said_at`, its statements no `replaces`."""
    knowledge = Knowledge.open(UUID(int=3))
    known = {
        "subject": "Kira",
        "predicate": "is_a",
        "object": "ranger",
        "quote": "Kira is a ranger",
    }
    knowledge.learn(
        turn_id=None,
        source_position=1,
        extractor="spacy-rules/1",
        statements=(
            Statement(
                **known,
                statement_id="t:0",
                subject_type=None,
                object_type=None,
                object_is_literal=False,
                speaker="ada",
                polarity="yes",
                modality="fact",
                said_by=None,
                valid_from=None,
                valid_to=None,
                confidence=0.9,
            ),
        ),
    )
    stored = MAPPER.to_stored_event(knowledge.collect_events()[1])
    state = orjson.loads(stored.state)
    for old in (state, *state["statements"]):
        for name in ("said_at", "replaces", "class_version"):
            old.pop(name, None)

    restored = MAPPER.to_domain_event(
        StoredEvent(
            stored.originator_id, stored.originator_version, stored.topic, orjson.dumps(state)
        )
    )

    assert restored.said_at is None  # type: ignore[attr-defined]
    assert [one.replaces for one in restored.statements] == [None]  # type: ignore[attr-defined]
    assert restored.statements[0].subject == "Kira"  # type: ignore[attr-defined]


def test_waiting_turns_are_turns_again() -> None:
    session = next(aggregates())
    snapshot = Session.Snapshot.take(session)

    restored = MAPPER.to_domain_event(MAPPER.to_stored_event(snapshot)).mutate(None)  # type: ignore[attr-defined]

    assert isinstance(restored.waiting[0], Turn)
    assert isinstance(restored.running, Turn)
