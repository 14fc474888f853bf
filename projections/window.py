"""One read of the log for all followers of a shard."""

import threading
from bisect import bisect_right
from collections import deque

from events.log import Batch, Log
from events.shards import WHOLE, Shard

MAX_BATCHES = 4  # kept: followers that are no further apart share what was read


class LogWindow:
    """The newest batches that were read, for followers that come a moment later.

    Reading and decoding is much of what following costs, and all followers want the same events at
    the same time. One that lags reads for itself. For use by any thread.
    """

    def __init__(self, log: Log, shard: Shard = WHOLE) -> None:
        self._log = log
        self._shard = shard
        self._batches: deque[Batch] = deque(maxlen=MAX_BATCHES)
        self._reading = threading.Lock()

    def read(self, *, after: int, limit: int) -> Batch:
        """What follows a position, as `Log.read_batch` has it; perhaps a part of it."""
        with self._reading:  # who comes second waits, and finds what the first has read
            for batch in reversed(self._batches):
                if batch.after <= after < batch.upto:
                    return _rest_of(batch, after)
            batch = self._log.read_batch(after=after, limit=limit, shard=self._shard)
            if batch.upto > after:
                self._batches.append(batch)
            return batch


def _rest_of(batch: Batch, after: int) -> Batch:
    first = bisect_right(batch.events, after, key=lambda one: one.position)
    return Batch(after, batch.upto, batch.events[first:])
