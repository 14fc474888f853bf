"""Rebuilding the views, against reading the log.

    python -m bench.rebuild [--turns 25000] [--rounds 3]

A log of conversations: turns of many sessions, one after the other, four events each, with one
statement learned from each turn. Every round reads and decodes the whole log, then rebuilds every
view from its start and switches to it; old rows are deleted within the time.
"""

import argparse
import logging
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from bench.common import ROOT, median, postgres, ratio, table
from events.aggregate import Cause
from events.knowledge import Knowledge, Statement
from events.log import Log
from events.session import Session, SessionConfig, TokenUsage
from language.domains import load_domains
from language.embedding import WordLlamaEmbedder
from lorewire.database import migrate
from projections.collecting import collecting_rarely
from projections.follower import Projection
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.rebuild import BATCH_EVENTS, begun
from projections.sessions import SessionsProjection

SESSIONS = 100  # that speak in turn
QUERY_WORDS = (5, 20)
REPLY_WORDS = (15, 60)
PEOPLE = 40  # in what each session learns
PREDICATES = ("knows", "located_in", "carries", "member_of", "visited")
WANTED = {"memory, with embeddings": 8_000, "graph": 15_000, "sessions": 15_000}  # events per s


def write_log(log: Log, turns: int) -> None:
    """Append conversations through their aggregates."""
    dice = random.Random(7)
    words = _words()
    sessions: list[Any] = []
    knowledge: list[Any] = []
    for number in range(SESSIONS):
        config = SessionConfig("dnd")
        opened = Session.open(user_id="ada", title=f"Keep {number}", config=config, seed=())
        sessions.append(opened)
        knowledge.append(Knowledge.open(opened.id))
    for number in range(turns // SESSIONS):
        events: list[Any] = []
        for session, known in zip(sessions, knowledge, strict=True):
            turn_id = uuid4()
            said = _sentence(dice, words, QUERY_WORDS)
            session.ask_query(turn_id, said, {}, stream=True, cause=Cause("ada"))
            session.start_reply()
            session.complete_reply(
                turn_id,
                text=_sentence(dice, words, REPLY_WORDS),
                recalled=(),
                facts=(),
                model="instant",
                usage=TokenUsage(900, 60),
                duration_ms=1200,
            )
            known.learn(
                turn_id=turn_id,
                source_position=1,
                extractor="offline/1",
                statements=(_statement(dice, f"{turn_id}:0", said, number),),
            )
            events += [*session.collect_events(), *known.collect_events()]
        log.events.put(events)


def _words() -> list[str]:
    """The words of the documentation, each as often as it stands there."""
    texts = (path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    return [word for text in texts for word in re.findall(r"[A-Za-z]+", text)]


def _sentence(dice: random.Random, words: list[str], length: tuple[int, int]) -> str:
    return " ".join(dice.choices(words, k=dice.randint(*length))).capitalize() + "."


def _statement(dice: random.Random, statement_id: str, quote: str, number: int) -> Statement:
    subject, other = (f"Kira {dice.randrange(PEOPLE)}" for _ in range(2))
    predicate = dice.choice(PREDICATES)
    return Statement(
        statement_id=statement_id,
        subject=subject,
        subject_type="person",
        predicate=predicate,
        object=other if predicate == "knows" else f"Rivermoor {number % PEOPLE}",
        object_type=None,
        object_is_literal=False,
        quote=quote[:60],
        speaker="ada",
        polarity="yes",
        modality="fact",
        said_by=None,
        valid_from=None,
        valid_to=None,
        confidence=0.8,
        replaces=None,
    )


def read_s(log: Log) -> float:
    """Seconds for reading and decoding all of the log."""
    started = time.perf_counter()
    with collecting_rarely():  # as a rebuild does
        for _ in _batches(log):
            pass
    return time.perf_counter() - started


def _batches(log: Log) -> Iterator[list[Any]]:
    position = 0
    while items := log.read(after=position, limit=BATCH_EVENTS):
        yield items
        position = items[-1].position


def rebuild_s(log: Log, projection: Projection) -> float:
    """Seconds for a whole rebuild, from nothing to the end of the deletion of the old rows."""
    started = time.perf_counter()
    with begun(log, projection, restart=True) as rebuild:
        rebuild.fill(lambda _progress: None, threading.Event())
        rebuild.switch()
    return time.perf_counter() - started


def mean_bytes(log: Log) -> float:
    """The size of a stored event."""
    with log.recorder.datastore.transaction(commit=False) as curs:
        row = curs.execute(
            "SELECT avg(octet_length(state))::float AS size FROM lorewire_events"
        ).fetchone()
    assert row is not None, "an aggregate always has one"
    size: float = row["size"]
    return size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=25_000, help="in the log, of 4 events each")
    parser.add_argument("--rounds", type=int, default=3, help="median of so many")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)  # before packages do, at INFO
    domains, embedder = load_domains(), WordLlamaEmbedder()
    with postgres() as database_url:
        migrate(database_url)
        log = Log(database_url)
        write_log(log, options.turns)
        made: dict[str, Callable[[], Projection]] = {
            "memory, with embeddings": lambda: MemoryProjection(log, domains, embedder),
            "graph": lambda: GraphProjection(domains),
            "sessions": SessionsProjection,
        }
        rates: dict[str, list[float]] = defaultdict(list)
        events = log.head()
        for _ in range(options.rounds):
            rates["reading and decoding alone"].append(events / read_s(log))
            for name, projection in made.items():
                rates[name].append(events / rebuild_s(log, projection()))
        size = mean_bytes(log)
        log.close()
    reading = rates["reading and decoding alone"]
    table(
        f"Rebuilding from {events:,} events of {size:.0f} bytes",
        ("what", "events per s", "of reading alone", "wanted per s"),
        [
            (name, median(measured), ratio(measured, reading), WANTED.get(name, ""))
            for name, measured in rates.items()
        ],
    )


if __name__ == "__main__":
    main()
