"""Turns that a chat model reads: each once, in order, and a model that is ill holds nobody up."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from events.knowledge import Knowledge
from events.log import Log
from language import readers
from language.chat import ChatModel
from language.domains import Domain, load_domains
from language.llm_extraction import ModelExtractor
from language.readers import CallCounts, ModelReader, OfflineReader, Reader, Reading, TurnText
from projections.follower import Follower, NotYetError, stored_position
from projections.graph_projection import GraphProjection
from projections.learning import LearningPolicy
from projections.learning_queue import read_learning_queue
from projections.positions import GRAPH, LEARNING, LEARNING_MODEL
from projections.sessions import SessionsProjection
from projections.set_aside import read_set_aside, set_aside
from projections.updates import ViewUpdates
from tests.projections.scenario import ADA, Scenario, follow, terminate_others, until
from tests.projections.test_learning import Words, learned
from tests.scripted_model import ScriptedModel

OFFLINE = load_domains()
MODEL = {name: one.model_copy(update={"extractor": "model"}) for name, one in OFFLINE.items()}
MIXED = {**OFFLINE, "dnd": MODEL["dnd"]}
OTHER = next(name for name in OFFLINE if name != "dnd")


def pairs(request: dict[str, Any]) -> str:
    """What the model says of a turn: one fact for each pair "name=value"."""
    shown = json.loads(request["messages"][1]["content"])
    words = [word for line in shown["turn"] for word in line["text"].split() if "=" in word]
    return json.dumps({"entities": [], "facts": [_fact(word) for word in words]})


def _fact(word: str) -> dict[str, Any]:
    name, _, value = word.partition("=")
    fact = {"s": name, "p": "is", "o": value, "o_is_literal": False, "quote": word}
    fact |= {"polarity": "yes", "modality": "fact", "said_by": None, "replaces": None}
    return fact | {"valid_from": None, "valid_to": None}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is gone is tried again soon."""
    monkeypatch.setattr(readers, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(readers, "MAX_BACKOFF_S", 0.05)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        model.answer = pairs
        yield model
        model.behave()


@contextmanager
def reading(
    url: str, *, at_once: int = 4, patience_s: float = 30.0, timeout_s: float = 30.0
) -> Iterator[ModelReader]:
    """A reader that asks the model there."""
    chat = ChatModel(
        base_url=url,
        model="scripted",
        api_key=None,
        first_token_timeout_s=timeout_s,
        turn_timeout_s=timeout_s,
    )
    reader = ModelReader(
        ModelExtractor(chat, context_tokens=4096),
        fallback=OfflineReader(Words()),
        max_at_once=at_once,
        patience_s=patience_s,
    )
    try:
        yield reader
    finally:
        reader.close()


def policy(
    log: Log, reader: Reader | None, domains: dict[str, Domain] | None = None
) -> LearningPolicy:
    return LearningPolicy(log, domains or MODEL, reader, extractor="model")


def offline_policy(log: Log, domains: dict[str, Domain]) -> LearningPolicy:
    return LearningPolicy(log, domains, OfflineReader(Words()))


def objects(log: Log, session_id: UUID) -> list[str]:
    """What was learned in a session, in order."""
    return [one.object for event in learned(log, session_id) for one in event.statements]


async def learn(log: Log, reader: Reader | None) -> None:
    await asyncio.to_thread(follow, log, policy(log, reader))


async def test_a_turn_is_one_call_and_one_event(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "I say a=1", user_id="bob")
    scenario.reply(session_id, "You say c=3")

    with reading(scripted.url) as reader:
        await learn(log, reader)

    (event,) = learned(log, session_id)
    assert (event.extractor, event.error) == ("model/1/scripted", None)
    assert [(one.subject, one.object, one.speaker) for one in event.statements] == [
        ("a", "1", "bob"),
        ("c", "3", OFFLINE["dnd"].agent_name),
    ]
    assert len(scripted.requests) == 1
    assert stored_position(log, LEARNING_MODEL) == log.head()


async def test_the_model_is_shown_the_turns_before_and_the_names_known(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open(seed=("Kira=Ranger",), llm_model="clever")
    for number in range(4):
        scenario.say(session_id, f"question {number}", f"answer {number}")

    with reading(scripted.url, at_once=1) as reader:
        await learn(log, reader)

    request = scripted.requests[-1]
    shown = json.loads(request["messages"][1]["content"])
    assert request["model"] == "clever"
    assert [line["text"] for line in shown["turn"]] == ["question 3", "answer 3"]
    assert [line["text"] for line in shown["before"]] == [
        *("question 1", "answer 1", "question 2", "answer 2")
    ]
    assert shown["known names"] == ["Kira", "Ranger"]


async def test_an_answer_that_is_no_json_is_asked_for_once_more(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    scripted.say("Well, ", "let me see.")

    with reading(scripted.url) as reader:
        await learn(log, reader)

    (event,) = learned(log, session_id)
    assert (event.extractor, event.error, len(event.statements)) == ("model/1/scripted", None, 1)
    assert len(scripted.requests) == 2


async def test_a_second_one_is_replaced_by_what_the_rules_find_and_says_why(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    scripted.say("Well.")
    scripted.say('{"entities": [], "facts": [], "\\u0000": 7}')

    with reading(scripted.url) as reader:
        await learn(log, reader)
        await learn(log, reader)

    (event,) = learned(log, session_id)
    assert event.extractor == "words/1"
    assert [one.object for one in event.statements] == ["1"]
    assert event.error is not None
    assert event.error.startswith("InvalidAnswerError: ")
    assert len(scripted.requests) == 2


async def test_a_request_that_the_model_refuses_is_read_by_the_rules(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    scripted.fail(400, b'{"error": {"message": "too long"}}')

    with reading(scripted.url) as reader:
        await learn(log, reader)

    (event,) = learned(log, session_id)
    assert (event.extractor, len(event.statements)) == ("words/1", 1)
    assert "too long" in str(event.error)


@pytest.mark.parametrize(
    "ail",
    [
        lambda model: model.fail(503),
        lambda model: model.cut_after(0),
        lambda model: model.hang_after(0),
    ],
    ids=["fails", "cuts", "hangs"],
)
async def test_a_model_that_does_not_answer_is_asked_again_until_it_does(
    ail: Callable[[ScriptedModel], None],
    log: Log,
    scenario: Scenario,
    scripted: ScriptedModel,
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    ail(scripted)

    with reading(scripted.url, timeout_s=0.2) as reader:
        learning = asyncio.create_task(learn(log, reader))
        await asyncio.to_thread(until, lambda: len(scripted.requests) >= 3)
        scripted.behave()
        await learning

    (event,) = learned(log, session_id)
    assert (event.extractor, event.error, len(event.statements)) == ("model/1/scripted", None, 1)


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_model_that_stays_away_is_recorded_and_not_asked_again(
    hangs: bool, log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    if hangs:
        scripted.hang_after(0)
    else:
        scripted.fail(503)

    with reading(scripted.url, timeout_s=0.1, patience_s=0.3) as reader:
        await learn(log, reader)
        scripted.behave()
        asked = len(scripted.requests)
        await learn(log, reader)

    (event,) = learned(log, session_id)
    assert (event.extractor, event.statements) == ("model/1/scripted", ())
    assert event.error is not None
    assert event.error.startswith("ModelUnavailableError: ")
    assert asked > 1
    assert len(scripted.requests) == asked


async def test_a_model_that_hangs_holds_up_no_other_domain(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    slow, fast = scenario.open(domain="dnd"), scenario.open(domain=OTHER)
    scripted.hold()
    scenario.say(slow, "a=1", "Yes.")
    scenario.say(fast, "b=2", "Yes.")

    with reading(scripted.url) as reader:
        followers = [
            Follower(log, policy(log, reader, MIXED)),
            Follower(log, offline_policy(log, MIXED)),
        ]
        for follower in followers:
            follower.start()
        await asyncio.to_thread(until, lambda: objects(log, fast) == ["2"])
        assert learned(log, slow) == []
        scripted.release()
        await asyncio.to_thread(until, lambda: objects(log, slow) == ["1"])
        for follower in followers:
            follower.stop()
            await asyncio.to_thread(follower.join, 10)

    assert objects(log, fast) == ["2"]


async def test_several_turns_are_read_at_once_but_not_more_than_allowed(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_ids = [scenario.open() for _ in range(5)]
    for number, session_id in enumerate(session_ids):
        scenario.say(session_id, f"n={number}", "Yes.")
    scripted.hold()

    with reading(scripted.url, at_once=3) as reader:
        learning = asyncio.create_task(learn(log, reader))
        await asyncio.to_thread(until, lambda: scripted.open_streams == 3)
        in_flight = len(scripted.requests)
        scripted.release()
        await learning

    assert in_flight == 3
    assert [objects(log, session_id) for session_id in session_ids] == [[str(n)] for n in range(5)]
    assert len(scripted.requests) == 5


async def test_a_commit_that_fails_costs_no_second_call(
    log: Log, scenario: Scenario, scripted: ScriptedModel, migrated_database_url: str
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "a=1", "Yes.")
    scripted.hold()

    with reading(scripted.url) as reader:
        follower = Follower(log, policy(log, reader))
        follower.start()
        await asyncio.to_thread(until, lambda: bool(scripted.requests))
        await asyncio.to_thread(terminate_others, migrated_database_url)
        scripted.release()
        await asyncio.to_thread(until, lambda: stored_position(log, LEARNING_MODEL) == log.head())
        follower.stop()
        await asyncio.to_thread(follower.join, 10)

    assert objects(log, session_id) == ["1"]
    assert len(scripted.requests) == 1


async def test_views_that_are_filled_anew_never_ask_the_model(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open(seed=("a=1",))
    scenario.say(session_id, "b=2", "Yes.")
    with reading(scripted.url) as reader:
        await learn(log, reader)
        asked = len(scripted.requests)
        filled = await asyncio.to_thread(_fill_the_graph_anew, log, session_id)
        await learn(log, reader)

    assert filled == await asyncio.to_thread(_fill_the_graph_anew, log, session_id)
    assert len(filled) == 2
    assert len(scripted.requests) == asked == 2


def _fill_the_graph_anew(log: Log, session_id: UUID) -> list[dict[str, Any]]:
    """Read the whole log with a graph that knows nothing; its statements."""
    projection = GraphProjection()
    with log.recorder.datastore.transaction(commit=True) as curs:
        for table in projection.tables:
            curs.execute(f"DELETE FROM {table}")
        curs.execute("DELETE FROM lorewire_tracking WHERE application_name = %s", (GRAPH,))
    follow(log, ViewUpdates(log, projection))
    with log.recorder.datastore.get_connection() as conn, conn.cursor() as curs:
        curs.execute(
            "SELECT * FROM graph_statements WHERE session_id = %s ORDER BY statement_id",
            (session_id,),
        )
        return [dict(row) for row in curs.fetchall()]


async def test_without_a_model_turns_wait(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    await learn(log, None)
    session_id = scenario.open()
    before = stored_position(log, LEARNING_MODEL)
    scenario.say(session_id, "a=1", "Yes.")

    with pytest.raises(NotYetError, match="LOREWIRE_MODEL_URL"):
        await learn(log, None)

    assert stored_position(log, LEARNING_MODEL) <= before
    with reading(scripted.url) as reader:
        await learn(log, reader)
    assert objects(log, session_id) == ["1"]


@pytest.mark.parametrize("first", ["offline", "model"])
async def test_a_domain_that_changes_its_extractor_loses_no_turn_and_repeats_none(
    first: str, log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    before, after = (OFFLINE, MODEL) if first == "offline" else (MODEL, OFFLINE)
    with reading(scripted.url) as reader:

        def run(domains: dict[str, Domain], *names: str) -> None:
            works = {
                LEARNING: offline_policy(log, domains),
                LEARNING_MODEL: policy(log, reader, domains),
            }
            for name in names:
                follow(log, works[name])

        session_id = scenario.open()
        await asyncio.to_thread(run, before, LEARNING, LEARNING_MODEL)
        scenario.say(session_id, "n=1", "Yes.")
        await asyncio.to_thread(run, before, LEARNING)  # the other one is behind
        scenario.say(session_id, "n=2", "Yes.")
        await asyncio.to_thread(run, before, LEARNING_MODEL)  # and now this one
        scenario.say(session_id, "n=3", "Yes.")
        await asyncio.to_thread(run, after, LEARNING, LEARNING_MODEL)
        scenario.say(session_id, "n=4", "Yes.")
        await asyncio.to_thread(run, after, LEARNING_MODEL, LEARNING)

    assert sorted(objects(log, session_id)) == ["1", "2", "3", "4"]


async def test_an_event_that_was_set_aside_is_learned_once(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    session_id = scenario.open()
    await learn(log, None)
    scenario.say(session_id, "a=1", "Yes.")
    ended = scenario.recorded()[-1]
    recorder = log.recorder
    with recorder.datastore.transaction(commit=True) as curs:
        set_aside(curs, LEARNING_MODEL, ended, "It was broken.", 3)
        recorder.store_position(LEARNING_MODEL, ended.position, curs)

    with reading(scripted.url) as reader:
        await asyncio.to_thread(policy(log, reader).redo, ended)
        await learn(log, reader)

    assert objects(log, session_id) == ["1"]
    assert read_set_aside(log) == []


async def test_the_queue_can_be_seen_from_other_processes(
    log: Log, scenario: Scenario, scripted: ScriptedModel, pool: AsyncConnectionPool[Any]
) -> None:
    with reading(scripted.url) as reader:
        await learn(log, reader)
        before = await read_learning_queue(pool, MODEL)
        session_id = scenario.open(domain="dnd")
        scenario.say(scenario.open(domain=OTHER), "x=1", "Yes.")
        for number in range(3):
            scenario.say(session_id, f"n={number}", "Yes.")
        await asyncio.to_thread(follow, log, ViewUpdates(log, SessionsProjection()))
        waiting = await read_learning_queue(pool, MIXED)
        scripted.fail(503, b'{"error": {"message": "tired"}}')
        learning = asyncio.create_task(asyncio.to_thread(follow, log, policy(log, reader, MIXED)))
        await asyncio.to_thread(until, lambda: len(scripted.requests) > 3)
        async with asyncio.timeout(30):
            while "tired" not in str((during := await read_learning_queue(pool, MIXED)).last_error):
                await asyncio.sleep(0.01)
        scripted.behave()
        await learning
    after = await read_learning_queue(pool, MIXED)

    assert before.oldest_s is None
    assert (before.waiting, before.running) == (0, 0)
    assert (waiting.waiting, waiting.running) == (4, 0)  # three turns and an opening without seed
    assert waiting.oldest_s is not None
    assert during.running == 3
    assert during.failed_calls > before.failed_calls
    assert (after.waiting, after.running, after.oldest_s) == (0, 0, None)
    assert after.calls - after.failed_calls - (before.calls - before.failed_calls) == 3
    assert after.given_up == before.given_up


LEARN_AND_DIE = """
import os, signal, sys
from events.log import Log
from tests.projections.scenario import follow
from tests.projections.test_learning_model import policy, reading

database_url, model_url, where = sys.argv[1:]
log = Log(database_url)
insert, append = log.recorder.insert_events, log.recorder._append

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def append_and_die(curs, stored_events):
    append(curs, stored_events)
    die()

def insert_and_die(stored_events, **options):
    insert(stored_events, **({} if where == "two transactions" else options))
    die()

if where == "before the commit":
    log.recorder._append = append_and_die
elif where == "between answer and commit":
    log.recorder.insert_events = die
else:
    log.recorder.insert_events = insert_and_die
with reading(model_url) as reader:
    follow(log, policy(log, reader))
"""


@pytest.mark.parametrize(
    "where", ["between answer and commit", "before the commit", "after the commit"]
)
async def test_a_projector_that_is_killed_learns_each_turn_once(
    where: str,
    log: Log,
    scenario: Scenario,
    scripted: ScriptedModel,
    migrated_database_url: str,
) -> None:
    session_ids = [scenario.open() for _ in range(3)]
    with reading(scripted.url) as reader:
        await learn(log, reader)
        for number, session_id in enumerate(session_ids * 2):
            scenario.say(session_id, f"n={number}", "Yes.")

        for _ in range(2):
            await _learn_and_die(migrated_database_url, scripted.url, where)
        await learn(log, reader)

    assert [objects(log, one) for one in session_ids] == [["0", "3"], ["1", "4"], ["2", "5"]]


async def test_an_answer_that_is_stored_without_its_position_would_be_learned_twice(
    log: Log,
    scenario: Scenario,
    scripted: ScriptedModel,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin of the test above: it can fail, without the look at what an import has brought."""
    monkeypatch.setattr(LearningPolicy, "_came_learned", lambda self, one: False)
    session_id = scenario.open()
    with reading(scripted.url) as reader:
        await learn(log, reader)
        scenario.say(session_id, "n=0", "Yes.")

        await _learn_and_die(migrated_database_url, scripted.url, "two transactions")
        await learn(log, reader)

    assert objects(log, session_id) == ["0", "0"]


async def _learn_and_die(database_url: str, model_url: str, where: str) -> None:
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-c", LEARN_AND_DIE, database_url, model_url, where],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL


class Whimsical:
    """Reads with `Words`, and is done with its turns in an order of its own."""

    turns_before = 0
    max_prepared = 1

    def __init__(self, max_at_once: int, seed: int) -> None:
        self.max_at_once = max_at_once
        self._offline = OfflineReader(Words())
        self._random = random.Random(seed)
        self._begun: list[tuple[TurnText, Future[Reading]]] = []
        self._news = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def prepare(self, turns: Sequence[TurnText]) -> None:
        """Nothing: only one turn comes at once."""

    def submit(self, turn: TurnText, counts: CallCounts) -> "Future[Reading]":
        """Begin to read a turn."""
        future: Future[Reading] = Future()
        with self._news:
            self._begun.append((turn, future))
            assert len(self._begun) <= self.max_at_once
            self._news.notify()
        return future

    def close(self) -> None:
        """Read no more."""
        with self._news:
            self._is_over = True
            self._news.notify()
        self._thread.join(10)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: bool(self._begun) or self._is_over)
                if self._is_over:
                    return
                chosen = self._random.randrange(len(self._begun))
                turn, future = self._begun.pop(chosen)
            future.set_result(self._offline.read(turn))


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sessions=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    at_once=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_turns_are_stored_in_the_order_of_the_log_whatever_is_read_first(
    sessions: list[int], at_once: int, seed: int, log: Log, scenario: Scenario
) -> None:
    session_ids = [scenario.open() for _ in range(3)]
    for number, index in enumerate(sessions):
        scenario.say(session_ids[index], f"n={number}", "Yes.")
    reader = Whimsical(at_once, seed)

    follow(log, policy(log, reader))
    reader.close()

    sources = [
        event.source_position
        for session_id in session_ids
        for event in sorted(learned(log, session_id), key=lambda one: one.originator_version)
    ]
    for index, session_id in enumerate(session_ids):
        expected = [str(number) for number, one in enumerate(sessions) if one == index]
        assert objects(log, session_id) == expected
    stored = [
        one.event.source_position
        for one in scenario.recorded()
        if isinstance(one.event, Knowledge.KnowledgeExtracted)
        and one.event.source_position in sources
    ]
    assert stored == sorted(sources)


async def test_a_session_that_is_deleted_meanwhile_does_no_harm(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    gone, stays = scenario.open(), scenario.open()
    scenario.say(gone, "a=1", "Yes.")
    scenario.say(stays, "b=2", "Yes.")
    scripted.hold()

    with reading(scripted.url) as reader:
        learning = asyncio.create_task(learn(log, reader))
        await asyncio.to_thread(until, lambda: scripted.open_streams == 2)
        scenario.change(gone).delete(cause=ADA)
        scenario.save(gone)
        scripted.release()
        await learning

    assert objects(log, stays) == ["2"]
    assert stored_position(log, LEARNING_MODEL) == log.head()


async def test_what_the_other_follower_has_set_aside_is_left_to_it(
    log: Log, scenario: Scenario, scripted: ScriptedModel
) -> None:
    with reading(scripted.url) as reader:
        await learn(log, reader)
        session_id = scenario.open(domain=OTHER)
        scenario.say(session_id, "a=1", "Yes.")
        ended = scenario.recorded()[-1]
        with log.recorder.datastore.transaction(commit=True) as curs:
            set_aside(curs, LEARNING, ended, "It was broken.", 3)
            log.recorder.store_position(LEARNING, ended.position, curs)

        await asyncio.to_thread(follow, log, policy(log, reader, MIXED))
        left_alone = learned(log, session_id)
        await asyncio.to_thread(offline_policy(log, MIXED).redo, ended)

    assert left_alone == []
    assert objects(log, session_id) == ["1"]
