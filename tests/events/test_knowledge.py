"""What a session has learned can be corrected, and nonsense is refused."""

from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import StoredEvent

from events import knowledge as module
from events.aggregate import Cause
from events.knowledge import (
    Knowledge,
    MergeIsSplitError,
    SameEntityError,
    TooManyMergesError,
    knowledge_id,
)
from events.mapper import OrjsonTranscoder, TypedMapper

ADA = Cause(user_id="ada")


def opened() -> Knowledge:
    return Knowledge.open(uuid4())


def merge(knowledge: Knowledge, kept: str, merged: str) -> UUID:
    merge_id = uuid4()
    knowledge.merge_entities(
        merge_id,
        kept_id=kept,
        merged_id=merged,
        kept_name=kept.title(),
        merged_name=merged.title(),
        cause=ADA,
    )
    return merge_id


def test_a_retraction_names_the_statement_the_reason_and_who_asked() -> None:
    knowledge = opened()

    knowledge.retract_statement("t:0", reason="A joke.", cause=ADA)

    event = knowledge.pending_events[-1]
    assert isinstance(event, Knowledge.StatementRetracted)
    assert (event.statement_id, event.reason, event.cause) == ("t:0", "A joke.", ADA)
    assert event.session_id == knowledge.session_id


def test_a_merge_stands_until_it_is_split() -> None:
    knowledge = opened()

    merge_id = merge(knowledge, "sara", "holt")
    stood = dict(knowledge.merges)
    knowledge.split_entities(merge_id, is_automatic=False, cause=ADA)

    assert stood == {merge_id: ("sara", "holt")}
    assert knowledge.merges == {}
    again = merge(knowledge, "holt", "sara")
    assert list(knowledge.merges) == [again]


@pytest.mark.parametrize(("kept", "merged"), [("a", "a"), ("a", "b"), ("c", "a"), ("a", "d")])
def test_what_is_one_entity_already_is_not_merged(kept: str, merged: str) -> None:
    knowledge = opened()
    merge(knowledge, "a", "b")
    merge(knowledge, "b", "c")
    merge(knowledge, "d", "c")
    events = len(knowledge.pending_events)

    with pytest.raises(SameEntityError, match=r"are one entity already"):
        merge(knowledge, kept, merged)

    assert len(knowledge.pending_events) == events


def test_a_merge_is_split_once() -> None:
    knowledge = opened()
    merge_id = merge(knowledge, "sara", "holt")
    knowledge.split_entities(merge_id, is_automatic=False, cause=ADA)

    with pytest.raises(MergeIsSplitError, match=str(merge_id)):
        knowledge.split_entities(merge_id, is_automatic=False, cause=ADA)


def test_a_merge_of_the_graph_s_own_can_be_split() -> None:
    knowledge = opened()
    merge_id = uuid4()

    knowledge.split_entities(merge_id, is_automatic=True, cause=ADA)

    event = knowledge.pending_events[-1]
    assert isinstance(event, Knowledge.EntitiesSplit)
    assert event.merge_id == merge_id


def test_merges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MERGES", 2)
    knowledge = opened()
    merge(knowledge, "a", "b")
    first = merge(knowledge, "a", "c")

    with pytest.raises(TooManyMergesError):
        merge(knowledge, "a", "d")

    knowledge.split_entities(first, is_automatic=False, cause=ADA)
    merge(knowledge, "a", "d")


def test_a_snapshot_keeps_the_merges_that_stand() -> None:
    knowledge = opened()
    merge_id = merge(knowledge, "sara", "holt")
    mapper = TypedMapper(OrjsonTranscoder())

    snapshot = mapper.to_domain_event(mapper.to_stored_event(Knowledge.Snapshot.take(knowledge)))
    assert isinstance(snapshot, Knowledge.Snapshot)
    restored = snapshot.mutate(None)

    assert isinstance(restored, Knowledge)
    assert restored.merges == {merge_id: ("sara", "holt")}


def test_a_snapshot_from_before_there_were_merges_is_read() -> None:
    session_id = uuid4()
    state = (
        '{"timestamp": "2026-01-02T03:04:05Z", "topic": "Knowledge", "state": {'
        '"_created_on": "2026-01-02T03:04:05Z", "_modified_on": "2026-01-02T03:04:05Z",'
        f'"session_id": "{session_id}"}}}}'
    )
    stored = StoredEvent(knowledge_id(session_id), 7, "Knowledge.Snapshot", state.encode())

    snapshot = TypedMapper(OrjsonTranscoder()).to_domain_event(stored)

    assert isinstance(snapshot, Knowledge.Snapshot)
    knowledge = snapshot.mutate(None)
    assert isinstance(knowledge, Knowledge)
    assert (knowledge.version, knowledge.merges) == (7, {})
