"""What was said is learned once: no turn is left out, none is learned twice."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from uuid import UUID

import pytest

from events.knowledge import Knowledge, knowledge_id
from events.log import Log, Recorded
from events.session import SessionConfig
from language.domains import load_domains
from language.extraction import Extractor
from language.readers import OfflineReader
from language.statements import ExtractedStatement
from projections.follower import Follower, stored_position
from projections.learning import SNAPSHOT_EVENTS, LearningPolicy
from projections.positions import LEARNING
from projections.tracking import OvertakenError
from tests.projections.scenario import ADA, Scenario, follow, terminate_others, until

DOMAINS = load_domains()
AGENT = DOMAINS["dnd"].agent_name


class Words:
    """An extractor that learns one statement from each word pair "<name>=<value>"."""

    name = "words"
    version = "1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.knew: list[Sequence[str]] = []
        self.error: Exception | None = None
        self.waits = threading.Event()  # cleared: it reads on and on
        self.waits.set()
        self.prepared: list[list[str]] = []  # of each call

    def prepare(self, texts: Sequence[tuple[str, Sequence[str]]]) -> None:
        self.prepared.append([text for text, _ in texts])

    def extract(
        self,
        text: str,
        *,
        speaker: str,
        addressee: str | None,
        known_names: Sequence[str] = (),
    ) -> list[ExtractedStatement]:
        """One statement for each pair."""
        self.asked.append((text, speaker, addressee))
        self.knew.append(known_names)
        self.waits.wait(30)
        if self.error is not None:
            raise self.error
        pairs = [word.split("=") for word in text.split() if "=" in word]
        return [
            ExtractedStatement(
                subject=name,
                subject_type=None,
                predicate="is",
                object=value,
                object_type=None,
                object_is_literal=False,
                quote=f"{name}={value}",
                polarity="yes",
                modality="fact",
                said_by=None,
                valid_from=None,
                valid_to=None,
                confidence=0.5,
            )
            for name, value in pairs
        ]


@pytest.fixture
def extractor() -> Words:
    return Words()


def policy(log: Log, extractor: Extractor) -> LearningPolicy:
    return LearningPolicy(log, DOMAINS, OfflineReader(extractor))


def learned(log: Log, session_id: UUID) -> list[Knowledge.KnowledgeExtracted]:
    events = [
        one.event for one in log.read_session(session_id, limit=10_000) if isinstance(one, Recorded)
    ]
    return [event for event in events if isinstance(event, Knowledge.KnowledgeExtracted)]


def test_a_turn_is_learned_as_one(log: Log, scenario: Scenario, extractor: Words) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "I say a=1 and b=2", user_id="bob")
    turn_id = scenario.reply(session_id, "You say c=3")
    ended = log.head()
    said_at = scenario.recorded()[-1].event.timestamp

    follow(log, policy(log, extractor))

    (event,) = learned(log, session_id)
    assert (event.turn_id, event.source_position, event.extractor) == (turn_id, ended, "words/1")
    assert (event.error, event.said_at) == (None, said_at)
    assert [(s.statement_id, s.subject, s.object, s.speaker) for s in event.statements] == [
        (f"{turn_id}:0", "a", "1", "bob"),
        (f"{turn_id}:1", "b", "2", "bob"),
        (f"{turn_id}:2", "c", "3", AGENT),
    ]
    assert extractor.asked == [
        ("I say a=1 and b=2", "bob", AGENT),
        ("You say c=3", AGENT, "bob"),
    ]
    assert stored_position(log, LEARNING) == log.head()


def test_a_seed_is_learned_when_its_session_opens(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open(seed=("a=1", "b=2 c=3"))

    follow(log, policy(log, extractor))

    (event,) = learned(log, session_id)
    assert event.turn_id is None
    assert [s.statement_id for s in event.statements] == ["seed:0", "seed:1", "seed:2"]
    title = DOMAINS["dnd"].title
    assert {s.speaker for s in event.statements} == {title}
    assert {asked[1:] for asked in extractor.asked} == {(title, None)}


def test_a_seed_that_sessions_share_is_read_once(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    work = policy(log, extractor)
    first, second = scenario.open(seed=("a=1",)), scenario.open(seed=("a=1", "b=2"))
    follow(log, work)
    third = scenario.open(seed=("b=2",))
    follow(log, work)

    assert extractor.prepared == [["a=1", "b=2"], []]
    assert [text for text, _, _ in extractor.asked] == ["a=1", "b=2"]
    assert [
        [(s.statement_id, s.subject) for event in learned(log, id) for s in event.statements]
        for id in (first, second, third)
    ] == [[("seed:0", "a")], [("seed:0", "a"), ("seed:1", "b")], [("seed:0", "b")]]


def test_what_is_kept_of_new_sessions_has_an_end(
    log: Log, scenario: Scenario, extractor: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("language.readers.MAX_KEPT", 1)
    for seed in ("a=1", "b=2", "a=1"):
        scenario.open(seed=(seed,))

    follow(log, policy(log, extractor))

    assert [text for text, _, _ in extractor.asked] == ["a=1", "b=2", "a=1"]


def test_a_turn_that_broke_off_is_learned_as_far_as_it_came(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "a=1")
    scenario.fail(session_id, "b=2")
    cancelled = scenario.ask(session_id, "c=3")
    scenario.change(session_id).cancel_reply(cancelled, text="", cause=ADA)
    scenario.save(session_id)

    follow(log, policy(log, extractor))

    events = learned(log, session_id)
    assert [[s.subject for s in event.statements] for event in events] == [["a", "b"], ["c"]]
    assert len(extractor.asked) == 3


def test_a_turn_that_teaches_nothing_is_known_to_have_been_read(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Hm?", "Hm.")

    follow(log, policy(log, extractor))

    assert [event.statements for event in learned(log, session_id)] == [()]


def test_sessions_that_shall_not_learn_do_not(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    without_graph = scenario.open(enable_graph=False, seed=("a=1",))
    unknown_domain = scenario.open(domain="gone", seed=("a=1",))
    deleted = scenario.open(seed=("a=1",))
    for session_id in (without_graph, unknown_domain, deleted):
        scenario.say(session_id, "b=2", "c=3")
    scenario.change(deleted).delete(cause=ADA)
    scenario.save(deleted)

    follow(log, policy(log, extractor))

    assert extractor.asked == []
    assert stored_position(log, LEARNING) == log.head()


def test_a_session_that_is_at_hand_is_seen_as_it_is_now(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    deleted, other = scenario.open(), scenario.open()
    for session_id in (deleted, other):
        scenario.say(session_id, "a=1", "b=2")
    learning = policy(log, extractor)
    follow(log, learning)
    scenario.say(deleted, "c=3", "d=4")
    scenario.say(other, "c=3", "d=4")
    read_before = scenario.recorded(stored_position(log, LEARNING))
    scenario.change(deleted).delete(cause=ADA)
    scenario.save(deleted)

    learning.advance(stored_position(log, LEARNING), read_before)
    follow(log, learning)

    assert (len(learned(log, deleted)), len(learned(log, other))) == (1, 2)
    scenario.say(other, "e=5", "f=6")
    follow(log, learning)
    assert len(learned(log, other)) == 3


@pytest.mark.parametrize("named", ["none", "model"])
def test_domains_that_name_another_extractor_are_passed_over(
    named: str, log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "b=2", "c=3")
    domains = {"dnd": DOMAINS["dnd"].model_copy(update={"extractor": named})}

    follow(log, LearningPolicy(log, domains, OfflineReader(extractor)))

    assert learned(log, session_id) == []
    assert stored_position(log, LEARNING) == log.head()


def test_learning_can_be_switched_on_later(log: Log, scenario: Scenario, extractor: Words) -> None:
    session_id = scenario.open(enable_graph=False)
    scenario.say(session_id, "a=1", "Yes.")
    follow(log, policy(log, extractor))
    scenario.change(session_id).reconfigure(title=None, config=SessionConfig("dnd"), cause=ADA)
    scenario.save(session_id)
    scenario.say(session_id, "b=2", "Yes.")

    follow(log, policy(log, extractor))

    assert [event.statements[0].subject for event in learned(log, session_id)] == ["b"]


def test_an_extractor_that_fails_is_recorded_and_not_asked_again(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "b=2")
    extractor.error = ValueError("no such word")

    follow(log, policy(log, extractor))
    extractor.error = None
    follow(log, policy(log, extractor))

    (event,) = learned(log, session_id)
    assert (event.statements, event.error) == ((), "ValueError: no such word")
    assert len(extractor.asked) == 1


def test_another_writer_of_the_knowledge_is_no_obstacle(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id, other = scenario.open(), scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    learning = policy(log, extractor)
    follow(log, learning)  # it has the aggregate at hand now
    scenario.learn(session_id, [])
    scenario.say(other, "c=3", "Yes.")  # stored together with the next
    scenario.say(session_id, "b=2", "Yes.")

    follow(log, learning)

    subjects = [[s.subject for s in event.statements] for event in learned(log, session_id)]
    assert subjects == [["a"], [], ["b"]]
    assert [event.statements[0].subject for event in learned(log, other)] == ["c"]


def test_a_race_for_a_turn_is_lost_without_a_trace(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open()
    after = stored_position(log, LEARNING)
    scenario.say(session_id, "a=1", "Yes.")
    events = scenario.recorded(after)
    follow(log, policy(log, extractor))
    position = stored_position(log, LEARNING)

    with pytest.raises(OvertakenError):
        policy(log, extractor).advance(after, events)

    assert len(learned(log, session_id)) == 1
    assert stored_position(log, LEARNING) == position


def test_two_policies_at_once_learn_each_turn_once(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_ids = [scenario.open() for _ in range(3)]
    for number in range(30):
        scenario.say(session_ids[number % 3], f"n={number}", "Yes.")
    followers = [Follower(log, policy(log, extractor)) for _ in range(2)]

    for follower in followers:
        follower.start()
    until(lambda: stored_position(log, LEARNING) >= log.head())
    for follower in followers:
        follower.stop()
        follower.join(5)

    objects = [
        statement.object
        for session_id in session_ids
        for event in learned(log, session_id)
        for statement in event.statements
    ]
    assert sorted(objects, key=int) == [str(number) for number in range(30)]


def test_long_knowledge_gets_snapshots(log: Log, scenario: Scenario, extractor: Words) -> None:
    session_id = scenario.open()
    for _ in range(SNAPSHOT_EVENTS):
        scenario.say(session_id, "a=1", "Yes.")

    follow(log, policy(log, extractor))

    assert log.snapshots is not None
    assert len(list(log.snapshots.get(knowledge_id(session_id)))) == 1
    assert log.load(Knowledge, knowledge_id(session_id)) is not None


LEARN_AND_DIE = """
import os, signal, sys
from events.log import Log
from projections.learning import LearningPolicy
from tests.projections.scenario import follow
from tests.projections.test_learning import DOMAINS, Words, policy

url, where = sys.argv[1:]
log = Log(url)
recorder = log.recorder
append = recorder._append

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def append_and_die(curs, stored_events):
    positions = append(curs, stored_events)
    if where == "before commit":
        die()
    return positions

def insert_and_die(stored_events, **options):
    if where == "two transactions":  # how it must not be done
        recorder_insert(stored_events)
        die()
    recorder_insert(stored_events, **options)
    die()

recorder_insert = recorder.insert_events
if where == "before commit":
    recorder._append = append_and_die
else:
    recorder.insert_events = insert_and_die
follow(log, policy(log, Words()))
"""


@pytest.mark.parametrize("where", ["before commit", "after commit"])
def test_a_policy_that_is_killed_at_any_point_learns_each_turn_once(
    where: str, log: Log, scenario: Scenario, extractor: Words, migrated_database_url: str
) -> None:
    follow(log, policy(log, extractor))
    session_ids = [scenario.open(), scenario.open()]
    for number in range(3):
        for session_id in session_ids:
            scenario.say(session_id, f"n={number}", "Yes.")

    for _ in range(3):
        _learn_and_die(migrated_database_url, where)
    follow(log, policy(log, extractor))

    for session_id in session_ids:
        events = learned(log, session_id)
        assert [event.statements[0].object for event in events] == ["0", "1", "2"]


def test_events_and_position_in_two_transactions_would_learn_twice(
    log: Log,
    scenario: Scenario,
    extractor: Words,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin of the test above: it can fail, without the look at what an import has brought."""
    monkeypatch.setattr(LearningPolicy, "_came_learned", lambda self, one: False)
    follow(log, policy(log, extractor))
    session_id = scenario.open()
    scenario.say(session_id, "n=0", "Yes.")

    _learn_and_die(migrated_database_url, "two transactions")
    follow(log, policy(log, extractor))

    assert len(learned(log, session_id)) == 2


def _learn_and_die(database_url: str, where: str) -> None:
    process = subprocess.run(
        [sys.executable, "-P", "-c", LEARN_AND_DIE, database_url, where],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL


def test_a_connection_that_is_cut_while_a_turn_is_read_costs_nothing(
    log: Log, scenario: Scenario, extractor: Words, migrated_database_url: str
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "n=0", "Yes.")
    extractor.waits.clear()
    follower = Follower(log, policy(log, extractor))
    follower.start()
    until(lambda: bool(extractor.asked))
    terminate_others(migrated_database_url)
    extractor.waits.set()
    until(lambda: len(learned(log, session_id)) == 1)
    until(lambda: stored_position(log, LEARNING) == log.head())
    follower.stop()
    follower.join(5)

    assert len(learned(log, session_id)) == 1


def test_turns_of_different_sessions_are_prepared_and_stored_together(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    first, second = scenario.open(), scenario.open()
    scenario.say(first, "Kira=ranger", "Yes.")
    scenario.say(second, "Tobin=smith", "Sure.")
    scenario.say(first, "Kira=elf", "No.")

    follow(log, policy(log, extractor))

    assert extractor.prepared == [
        ["Kira=ranger", "Yes.", "Tobin=smith", "Sure."],
        ["Kira=elf", "No."],
    ]
    assert [asked[0] for asked in extractor.asked[::2]] == [
        "Kira=ranger",
        "Tobin=smith",
        "Kira=elf",
    ]
    assert "Kira" in extractor.knew[-1]
    transactions = [_transactions(log, session_id) for session_id in (first, second)]
    assert len(set(transactions[0])) == 2
    assert transactions[1] == transactions[0][:2]  # with its stream's first event


def _transactions(log: Log, session_id: UUID) -> list[int]:
    """The numbers of the transactions in which a session's knowledge was stored."""
    with log.recorder.datastore.get_connection() as conn, conn.cursor() as curs:
        curs.execute(
            "SELECT xmin::text::bigint AS number FROM lorewire_events WHERE originator_id = %s"
            " ORDER BY notification_id",
            (knowledge_id(session_id),),
        )
        return [row["number"] for row in curs.fetchall()]


def test_a_session_at_hand_is_known_as_it_is_now(
    log: Log, scenario: Scenario, extractor: Words
) -> None:
    session_id = scenario.open()
    work = policy(log, extractor)
    scenario.say(session_id, "Kira=ranger", "Yes.")
    follow(log, work)
    without_graph = SessionConfig("dnd", enable_graph=False)
    scenario.change(session_id).reconfigure(title=None, config=without_graph, cause=ADA)
    scenario.save(session_id)
    scenario.say(session_id, "Kira=elf", "No.")

    follow(log, work)

    assert [asked[0] for asked in extractor.asked] == ["Kira=ranger", "Yes."]
