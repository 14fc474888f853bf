"""What a session accepts and refuses."""

from uuid import UUID, uuid4

import pytest

from events.aggregate import Cause
from events.session import (
    MAX_WAITING_TURNS,
    REMEMBERED_REQUESTS,
    Session,
    SessionConfig,
    SessionIsDeletedError,
    TooManyTurnsError,
    UnknownTurnError,
)

ADA = Cause("ada", request_id="1")
BOB = Cause("bob", request_id="1")


def open_session() -> Session:
    return Session.open(user_id="ada", title="Rivermoor", config=SessionConfig("dnd"))


def ask(session: Session, message: str = "Who is Kira?") -> UUID:
    turn_id = uuid4()
    session.ask_query(turn_id, message, {}, stream=True, cause=ADA)
    return turn_id


def complete(session: Session, turn_id: UUID) -> bool:
    return session.complete_reply(
        turn_id, text="A ranger.", recalled=(), facts=(), model="m", usage=None, duration_ms=1
    )


def test_queries_wait_in_the_order_in_which_they_were_asked() -> None:
    session = open_session()

    asked = [ask(session) for _ in range(3)]

    started = []
    while turn := session.start_reply():
        started.append(turn.turn_id)
        complete(session, turn.turn_id)
    assert started == asked


def test_one_turn_runs_at_a_time() -> None:
    session = open_session()
    ask(session)
    ask(session)

    session.start_reply()

    assert session.start_reply() is None


def test_a_seventeenth_waiting_query_is_refused() -> None:
    session = open_session()
    for _ in range(MAX_WAITING_TURNS):
        ask(session)

    with pytest.raises(TooManyTurnsError, match="16 queries already wait"):
        ask(session)


def test_a_running_turn_does_not_count_as_waiting() -> None:
    session = open_session()
    ask(session)
    session.start_reply()

    for _ in range(MAX_WAITING_TURNS):
        ask(session)

    assert len(session.waiting) == MAX_WAITING_TURNS


def test_a_deleted_session_refuses_everything() -> None:
    session = open_session()
    ask(session)
    session.start_reply()
    session.delete(cause=ADA)

    with pytest.raises(SessionIsDeletedError):
        ask(session)
    with pytest.raises(SessionIsDeletedError):
        session.reconfigure(title="x", config=None, cause=ADA)
    with pytest.raises(SessionIsDeletedError):
        session.cancel_reply(None, text="", cause=ADA)
    with pytest.raises(SessionIsDeletedError):
        session.delete(cause=ADA)
    assert session.start_reply() is None


def test_the_same_request_of_the_same_user_is_the_same_turn() -> None:
    session = open_session()

    first = session.turn_id_of("Who is Kira?", {"a": 1, "b": 2}, ADA)

    assert session.turn_id_of("Who is Kira?", {"b": 2, "a": 1}, ADA) == first
    assert session.turn_id_of("Who is Kira?", {"a": 1, "b": 2}, BOB) != first
    assert session.turn_id_of("Who is Sara?", {"a": 1, "b": 2}, ADA) != first
    assert open_session().turn_id_of("Who is Kira?", {"a": 1, "b": 2}, ADA) != first


def test_queries_without_a_request_id_are_never_retries() -> None:
    session = open_session()
    nobody = Cause("ada")

    assert session.turn_id_of("Hi", {}, nobody) != session.turn_id_of("Hi", {}, nobody)


def test_a_session_remembers_its_newest_requests_only() -> None:
    session = open_session()

    turns = [uuid4() for _ in range(REMEMBERED_REQUESTS + 1)]
    for turn_id in turns:
        session.ask_query(turn_id, "Hi", {}, stream=True, cause=ADA)
        session.start_reply()
        complete(session, turn_id)

    assert turns[0] not in session.asked
    assert list(session.asked) == turns[1:]


def test_cancelling_without_a_turn_means_the_running_one() -> None:
    session = open_session()
    running = ask(session)
    waiting = ask(session)
    session.start_reply()

    cancelled = session.cancel_reply(None, text="A ran", cause=ADA)

    assert cancelled == running
    assert session.running is None
    assert [turn.turn_id for turn in session.waiting] == [waiting]


def test_a_waiting_turn_can_be_cancelled() -> None:
    session = open_session()
    running = ask(session)
    waiting = ask(session)
    session.start_reply()

    session.cancel_reply(waiting, text="", cause=ADA)

    assert session.running is not None
    assert session.running.turn_id == running
    assert session.waiting == []


def test_there_is_nothing_to_cancel_in_an_idle_session() -> None:
    with pytest.raises(UnknownTurnError, match="nothing to cancel"):
        open_session().cancel_reply(None, text="", cause=ADA)


def test_a_reply_that_comes_after_its_turn_was_cancelled_changes_nothing() -> None:
    session = open_session()
    turn_id = ask(session)
    session.start_reply()
    session.cancel_reply(turn_id, text="", cause=ADA)
    version = session.version

    assert complete(session, turn_id) is False
    assert session.fail_reply(turn_id, code="internal", error="x", text="") is False

    assert session.version == version


def test_what_does_not_change_is_no_event() -> None:
    session = open_session()
    session.collect_events()

    session.reconfigure(title="Rivermoor", config=SessionConfig("dnd"), cause=ADA)

    assert session.collect_events() == []


def test_a_reconfiguration_says_what_changed() -> None:
    session = open_session()
    session.collect_events()

    session.reconfigure(title="Thornwick", config=None, cause=ADA)

    [event] = session.collect_events()
    assert event.changed == ("title",)  # type: ignore[attr-defined]
    assert (session.title, session.config) == ("Thornwick", SessionConfig("dnd"))


def test_a_snapshot_knows_nothing_of_what_is_asked_after_it() -> None:
    session = open_session()
    before = ask(session)

    snapshot = Session.Snapshot.take(session)
    ask(session)

    again = snapshot.mutate(None)
    assert isinstance(again, Session)
    assert again.version == session.version - 1
    assert [turn.turn_id for turn in again.waiting] == list(again.asked) == [before]
