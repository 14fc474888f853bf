"""Followers follow the log, whatever happens to the database and whatever the events hold."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import Cursor, sql
from psycopg.rows import DictRow

from events.log import Log, Recorded
from events.shards import WHOLE
from projections.follower import RETRIES_S, Follower, NotYetError, Work, stored_position
from projections.resting import rest_s
from projections.set_aside import read_set_aside
from projections.updates import ViewUpdates
from projections.wakeups import WakeUps
from tests.projections.scenario import (
    Scenario,
    forget_set_aside,
    terminate_others,
    unreadable,
    until,
)


def add_view(curs: Cursor[DictRow], name: str) -> None:
    """Let a view of this name exist, as a migration does."""
    curs.execute("INSERT INTO lorewire_views (name, version) VALUES (%s, 1)", (name,))


class Seen:
    """A projection that writes down the positions it was given, in a table of its own."""

    def __init__(self, curs: Cursor[DictRow]) -> None:
        self.name = f"seen{uuid4().hex}"
        self.tables = (self.name,)
        self._table = sql.Identifier(self.name)
        self.poison: int | None = None  # the position of an event that it can't take
        self.error: Exception = ValueError("poison")
        curs.execute(sql.SQL("CREATE TABLE {} (n serial, position bigint)").format(self._table))
        add_view(curs, self.name)

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """One row for each event."""
        for one in recorded:
            if one.position == self.poison:
                raise self.error
            curs.execute(
                sql.SQL("INSERT INTO {} (position) VALUES (%s)").format(self._table),
                (one.position,),
            )
        return True

    def positions(self, log: Log) -> list[int]:
        """What it was given, in order."""
        with log.recorder.datastore.get_connection() as conn, conn.cursor() as curs:
            curs.execute(sql.SQL("SELECT position FROM {} ORDER BY n").format(self._table))
            return [row["position"] for row in curs.fetchall()]


@pytest.fixture
def seen(log: Log) -> Seen:
    with log.recorder.datastore.transaction(commit=True) as curs:
        return Seen(curs)


@pytest.fixture
def quick_retries(log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tries follow each other closely, and what was set aside is forgotten in the end."""
    monkeypatch.setattr("projections.follower.RETRIES_S", (0.01,) * len(RETRIES_S))
    yield
    forget_set_aside(log)


@contextmanager
def following(log: Log, work: Work) -> Iterator[Follower]:
    follower = Follower(log, work)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
        follower.join(5)
    assert not follower.is_alive()


def in_log(scenario: Scenario) -> list[int]:
    return [one.position for one in scenario.recorded()]


def test_a_follower_starts_at_the_beginning_and_sees_everything_once(
    log: Log, scenario: Scenario, seen: Seen
) -> None:
    scenario.say(scenario.open(), "One?", "Yes.")

    with following(log, ViewUpdates(log, seen)):
        until(lambda: stored_position(log, seen.name) == log.head())

    assert seen.positions(log) == in_log(scenario)


def test_a_follower_goes_on_where_another_has_stopped(
    log: Log, scenario: Scenario, seen: Seen
) -> None:
    session_id = scenario.open()
    with following(log, ViewUpdates(log, seen)):
        until(lambda: stored_position(log, seen.name) == log.head())
    scenario.say(session_id, "One?", "Yes.")

    with following(log, ViewUpdates(log, seen)):
        until(lambda: stored_position(log, seen.name) == log.head())

    assert seen.positions(log) == in_log(scenario)


def test_what_comes_while_a_follower_rests_is_done_together(
    log: Log, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        """Takes a second for its first batch."""

        name = f"slow{uuid4().hex}"
        shard = WHOLE

        def __init__(self) -> None:
            self.batches: list[int] = []  # events

        def advance(
            self, after: int, recorded: Sequence[Recorded], upto: int | None = None
        ) -> None:
            if not self.batches:
                time.sleep(1.0)
            self.batches.append(len(recorded))

    monkeypatch.setattr("projections.resting.MAX_REST_S", 60.0)
    session_id = scenario.open()
    slow = Slow()

    with following(log, slow) as follower:
        until(lambda: bool(slow.batches))
        for number in range(3):
            scenario.ask(session_id, f"{number}?")
            follower.wake()
        until(lambda: len(slow.batches) > 1)

    assert slow.batches[1] == 3


def test_those_who_find_much_rest_until_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def rests_until(now_s: float, *, events: int) -> float:
        with monkeypatch.context() as at:
            at.setattr("projections.resting.time.monotonic", lambda: now_s)
            return now_s + rest_s(0.01, events)

    assert rests_until(17.03, events=100) == pytest.approx(17.2)
    assert rests_until(17.11, events=900) == pytest.approx(17.2)
    assert rests_until(17.11, events=1) == pytest.approx(17.11 + 0.03)


def test_the_position_moves_over_events_that_change_nothing(log: Log, scenario: Scenario) -> None:
    class Indifferent:
        name = f"indifferent{uuid4().hex}"
        tables = ()

        def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
            return False

    scenario.open()
    with log.recorder.datastore.transaction(commit=True) as curs:
        add_view(curs, Indifferent.name)

    with following(log, ViewUpdates(log, Indifferent())):
        until(lambda: stored_position(log, Indifferent.name) == log.head())


def test_a_wake_up_that_was_missed_costs_a_second_at_most(
    log: Log, scenario: Scenario, seen: Seen
) -> None:
    session_id = scenario.open()
    with following(log, ViewUpdates(log, seen)):  # nothing wakes it
        until(lambda: stored_position(log, seen.name) == log.head())

        scenario.ask(session_id, "Who?")

        until(lambda: stored_position(log, seen.name) == log.head(), timeout_s=2.0)


def test_an_append_wakes_followers(
    log: Log,
    scenario: Scenario,
    seen: Seen,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("projections.follower.POLL_S", 60.0)  # longer than this test waits
    session_id = scenario.open()
    with following(log, ViewUpdates(log, seen)) as follower:
        wake_ups = WakeUps(migrated_database_url, follower.wake)
        wake_ups.start()
        until(lambda: stored_position(log, seen.name) == log.head())
        time.sleep(0.2)  # the listener is up, and the follower waits
        for _ in range(5):
            scenario.ask(session_id, "Who?")
            until(lambda: stored_position(log, seen.name) == log.head())
        wake_ups.stop()
        wake_ups.join(2)


def test_what_a_deaf_listener_does_not_hear_is_found_by_polling(
    log: Log,
    scenario: Scenario,
    seen: Seen,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: Counter[str] = Counter()
    session_id = scenario.open()
    with following(log, ViewUpdates(log, seen)) as follower:

        def wake() -> None:
            heard["deaf"] += 1
            follower.wake()

        with monkeypatch.context() as broken:  # a connection as good as any, but nothing comes
            broken.setattr("projections.wakeups.CHANNEL", "lorewire_elsewhere")
            deaf = WakeUps(migrated_database_url, wake)
            deaf.start()
            until(lambda: heard["deaf"] == 1)  # when it began to listen
        sound = WakeUps(migrated_database_url, lambda: heard.update(["sound"]))
        sound.start()
        until(lambda: heard["sound"] == 1 and stored_position(log, seen.name) == log.head())

        scenario.ask(session_id, "Who?")
        until(lambda: heard["sound"] > 1)
        until(lambda: stored_position(log, seen.name) == log.head())

        assert heard["deaf"] == 1
        for thread in (deaf, sound):
            thread.stop()
            thread.join(2)


def test_the_loss_of_all_connections_loses_and_repeats_nothing(
    log: Log, scenario: Scenario, seen: Seen, migrated_database_url: str
) -> None:
    session_id = scenario.open()
    with following(log, ViewUpdates(log, seen)) as follower:
        wake_ups = WakeUps(migrated_database_url, follower.wake)
        wake_ups.start()
        for number in range(30):
            scenario.ask(session_id, f"{number}?") if number < 15 else scenario.open()
            if number % 7 == 3:
                terminate_others(migrated_database_url)
                until(lambda: log.head() > 0)  # this thread's own connections
        until(lambda: stored_position(log, seen.name) == log.head())
        time.sleep(1.2)  # the listener has come back
        scenario.open()
        until(lambda: stored_position(log, seen.name) == log.head(), timeout_s=0.5)
        wake_ups.stop()
        wake_ups.join(2)

    assert seen.positions(log) == in_log(scenario)


def test_an_event_that_fails_once_is_tried_again(
    log: Log, scenario: Scenario, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "Good?")
    scenario.ask(session_id, "Bad?")
    seen.poison = log.head()
    scenario.ask(session_id, "Good again?")

    with following(log, ViewUpdates(log, seen)):
        until(lambda: f"position {seen.poison} (QueryAsked) can't be handled" in caplog.text)
        assert seen.positions(log) == in_log(scenario)[:-2]
        seen.poison = None
        until(lambda: stored_position(log, seen.name) == log.head())

    assert seen.positions(log) == in_log(scenario)
    assert read_set_aside(log) == []


def test_an_event_that_keeps_failing_is_set_aside_and_other_sessions_go_on(
    log: Log,
    scenario: Scenario,
    seen: Seen,
    caplog: pytest.LogCaptureFixture,
    quick_retries: None,
) -> None:
    session_id, other_id = scenario.open(), scenario.open()
    scenario.ask(session_id, "Bad?")
    seen.poison = log.head()
    scenario.ask(other_id, "Good?")
    scenario.ask(session_id, "It stands still.")

    with following(log, ViewUpdates(log, seen)):
        until(lambda: stored_position(log, seen.name) == log.head())

    (found,) = read_set_aside(log)
    assert (found.follower, found.position) == (seen.name, seen.poison)
    assert (found.session_id, found.topic) == (session_id, "QueryAsked")
    assert (found.error, found.tries) == ("ValueError: poison", len(RETRIES_S) + 1)
    assert seen.positions(log) == [one for one in in_log(scenario) if one < seen.poison] + [
        seen.poison + 1
    ]
    assert "lorewire project --retry" in caplog.text


def test_what_does_not_answer_yet_is_waited_for(
    log: Log, scenario: Scenario, seen: Seen, quick_retries: None, caplog: pytest.LogCaptureFixture
) -> None:
    scenario.open()
    seen.poison, seen.error = log.head(), NotYetError("The endpoint is down.")

    with following(log, ViewUpdates(log, seen)) as follower:
        until(lambda: follower.failures > len(RETRIES_S) + 1)
        assert "The endpoint is down." in caplog.text
        assert read_set_aside(log) == []
        seen.poison = None
        until(lambda: stored_position(log, seen.name) == log.head())

    assert seen.positions(log) == in_log(scenario)


def test_an_unreadable_event_is_set_aside_and_its_session_stands_still(
    log: Log, scenario: Scenario, seen: Seen
) -> None:
    session_id, other_id = scenario.open(), scenario.open()
    scenario.ask(session_id, "Good?")
    bad = log.head()
    scenario.ask(session_id, "It stands still.")
    scenario.ask(other_id, "Good?")

    with unreadable(log, bad), following(log, ViewUpdates(log, seen)):
        until(lambda: stored_position(log, seen.name) == log.head())

    (found,) = read_set_aside(log)
    forget_set_aside(log)
    assert (found.position, found.topic, found.session_id) == (bad, "QueryAsked", session_id)
    assert seen.positions(log) == [one for one in in_log(scenario) if one not in (bad, bad + 1)]


def test_an_event_is_set_aside_together_with_the_position_or_not_at_all(
    log: Log, scenario: Scenario, seen: Seen, quick_retries: None
) -> None:
    forget_set_aside(log)
    scenario.open()
    seen.poison = log.head()
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("ALTER TABLE lorewire_set_aside ADD CONSTRAINT closed CHECK (false)")

    with following(log, ViewUpdates(log, seen)) as follower:
        until(lambda: follower.failures > 2)
        assert stored_position(log, seen.name) < seen.poison
        with log.recorder.datastore.transaction(commit=True) as curs:
            curs.execute("ALTER TABLE lorewire_set_aside DROP CONSTRAINT closed")
        until(lambda: stored_position(log, seen.name) == log.head())

    assert [one.position for one in read_set_aside(log)] == [seen.poison]


def test_two_followers_of_one_view_do_its_work_once(
    log: Log, scenario: Scenario, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = scenario.open()
    with (
        caplog.at_level(logging.ERROR),
        following(log, ViewUpdates(log, seen)) as one,
        following(log, ViewUpdates(log, seen)) as other,
    ):
        for number in range(40):
            scenario.open() if number % 3 else scenario.ask(session_id, "Who?")
            one.wake()
            other.wake()
        until(lambda: stored_position(log, seen.name) == log.head())

    assert seen.positions(log) == in_log(scenario)
    assert caplog.text == ""


def test_a_view_that_changed_is_announced_in_its_transaction(
    log: Log, scenario: Scenario, seen: Seen, migrated_database_url: str
) -> None:
    scenario.open()
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute("LISTEN lorewire_views")

        ViewUpdates(log, seen).advance(0, scenario.recorded())

        (note,) = list(conn.notifies(timeout=2, stop_after=1))
    assert note.payload == seen.name


def test_rows_and_position_are_stored_together_or_not_at_all(
    log: Log, scenario: Scenario, seen: Seen
) -> None:
    scenario.open()
    seen.poison = log.head()

    with pytest.raises(ValueError, match="poison"):
        ViewUpdates(log, seen).advance(0, scenario.recorded())

    assert stored_position(log, seen.name) == 0
    assert seen.positions(log) == []
