"""What waits to be read by a model, and what the model was asked: visible to other processes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eventsourcing.persistence import InterfaceError, OperationalError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from events.shards import Shard
from language.domains import Domain
from language.readers import CallCounts
from projections.positions import LEARNING_MODEL, LIVE_VERSION, POSITION_OF, SESSIONS, tracking_name

MAX_COUNTED = 10_000  # turns that wait; beyond, their number takes longer to find than it tells

_ADD = """
    INSERT INTO lorewire_model_calls (follower, running, calls, failed_calls, given_up, last_error)
    VALUES (%(name)s, %(running)s, %(calls)s, %(failed_calls)s, %(given_up)s, %(last_error)s)
    ON CONFLICT (follower) DO UPDATE SET
        running = excluded.running,
        calls = lorewire_model_calls.calls + excluded.calls,
        failed_calls = lorewire_model_calls.failed_calls + excluded.failed_calls,
        given_up = lorewire_model_calls.given_up + excluded.given_up,
        last_error = coalesce(excluded.last_error, lorewire_model_calls.last_error),
        updated_at = clock_timestamp()
"""
_READ = f"""
    WITH waiting AS (
        SELECT e.recorded_at FROM lorewire_events e JOIN sessions s
            ON s.session_id = e.session_id
            AND s.version = {LIVE_VERSION.format(SESSIONS)}
        WHERE e.notification_id > {POSITION_OF}
            AND e.topic IN ('SessionOpened', 'ReplyCompleted', 'ReplyFailed', 'ReplyCancelled')
            AND s.config ->> 'domain' = ANY(%s) AND s.status = 'active'
            AND (s.config ->> 'enable_graph')::boolean
        ORDER BY e.notification_id LIMIT {MAX_COUNTED}
    )
    SELECT waiting.*, counts.* FROM (
        SELECT count(*) AS waiting, extract(epoch FROM clock_timestamp() - min(recorded_at))::float
            AS oldest_s FROM waiting
    ) AS waiting, (
        SELECT coalesce(sum(running), 0)::int AS running, coalesce(sum(calls), 0)::bigint AS calls,
            coalesce(sum(failed_calls), 0)::bigint AS failed_calls,
            coalesce(sum(given_up), 0)::bigint AS given_up,
            (array_agg(last_error ORDER BY updated_at DESC)
                FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
        FROM lorewire_model_calls
    ) AS counts
"""


class CallReport:
    """Adds what one follower has asked of its model to the table that others read."""

    def __init__(self, log: Log, counts: CallCounts, follower: str, shard: Shard) -> None:
        self._log = log
        self._counts = counts
        self._name = tracking_name(follower, shard)
        self._told = CallCounts()

    def tell(self) -> None:
        """Bring the table up to date; what the database does not take now, it is told next time."""
        now = replace(self._counts)
        if now == self._told:
            return
        before = self._told
        try:
            with self._log.recorder.datastore.transaction(commit=True) as curs:
                curs.execute(
                    _ADD,
                    {
                        "name": self._name,
                        "running": now.running,
                        "calls": now.calls - before.calls,
                        "failed_calls": now.failed_calls - before.failed_calls,
                        "given_up": now.given_up - before.given_up,
                        "last_error": now.last_error,
                    },
                )
        except (OperationalError, InterfaceError):
            return
        self._told = now


@dataclass(frozen=True)
class LearningQueue:
    """The turns of domains whose extractor is a model."""

    waiting: int  # not read yet, with those that are being read; at most MAX_COUNTED
    oldest_s: float | None  # since the one that waits longest has ended; None: none waits
    running: int  # that are being read, as far as the projector has told
    calls: int  # to the model, since ever
    failed_calls: int
    given_up: int  # turns whose statements are not the model's, for `last_error`
    last_error: str | None


NOTHING_WAITS = LearningQueue(0, None, 0, 0, 0, 0, None)


async def read_learning_queue(
    pool: AsyncConnectionPool[Any], domains: Mapping[str, Domain]
) -> LearningQueue:
    """How it stands, in one snapshot."""
    names = [name for name, domain in domains.items() if domain.extractor == "model"]
    async with pool.connection() as conn, conn.cursor(row_factory=dict_row) as curs:
        await curs.execute(_READ, (LEARNING_MODEL, names))
        row = await curs.fetchone()
    assert row is not None, "an aggregate always has one"
    row["running"] = min(row["running"], row["waiting"])  # the row may be of a process that died
    return LearningQueue(**row)
