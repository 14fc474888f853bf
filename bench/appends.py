"""Durable commands in one process: sessions decide, the journal commits.

    python -m bench.appends DATABASE_URL

Answers each line of `SESSIONS SECONDS` with a JSON object. Each session asks a query, waits until
it is stored, takes it back, waits again, and so on.
"""

import asyncio
import sys
import time
from uuid import uuid4

import uvloop

from bench.common import answer_lines
from events.aggregate import Cause
from events.journal import BATCH_EVENTS, Journal
from events.log import Log
from events.session import Session, SessionConfig

MESSAGE = "x" * 200
ADA = Cause("ada")
TIMEOUT_S = 5.0


async def main(database_url: str, sessions: int, seconds: float) -> dict[str, float]:
    """Commands a second, and the events of a commit."""
    before = _events_and_commits()
    log = Log(database_url)
    journal = Journal(log, timeout_s=TIMEOUT_S)
    deadline = time.perf_counter() + seconds

    async def command() -> int:
        session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))
        await journal.append(session.collect_events())
        count = 0
        while time.perf_counter() < deadline:
            turn_id = uuid4()
            session.ask_query(turn_id, MESSAGE, {}, stream=False, cause=ADA)
            await journal.append(session.collect_events())
            session.cancel_reply(turn_id, text="", cause=ADA)
            await journal.append(session.collect_events())
            count += 2
        return count

    counts = await asyncio.gather(*(command() for _ in range(sessions)))
    journal.stop()
    log.close()
    events, commits = (now - then for now, then in zip(_events_and_commits(), before, strict=True))
    return {"per_s": sum(counts) / seconds, "batch": events / commits}


def _events_and_commits() -> tuple[float, float]:
    samples = {
        sample.name.rpartition("_")[2]: sample.value
        for metric in BATCH_EVENTS.collect()
        for sample in metric.samples
    }
    return samples["sum"], samples["count"]


def answer(line: str) -> dict[str, float]:
    """The figures for a line."""
    sessions, seconds = line.split()
    return uvloop.run(main(sys.argv[1], int(sessions), float(seconds)))


if __name__ == "__main__":
    answer_lines(answer)
