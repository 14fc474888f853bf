"""How fast each user may ask: a token bucket for each, of which one number is kept."""

import time
from collections.abc import Callable

BURST_S = 3.0  # a bucket holds what its rate gives in this time: people and programs come in bursts
MIN_SWEEP = 1_024  # users; fewer are not worth looking through


class Rate:
    """At most `per_s` a second for each user, and a burst of what three seconds give.

    A bucket is kept as the time at which it will be full again; a user whose bucket is full is
    forgotten. Source: the generic cell rate algorithm of ITU-T Recommendation I.371.
    """

    __slots__ = ("_burst_s", "_clock", "_full_at", "_interval_s", "_sweep_at")

    def __init__(self, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1.0 / per_s
        self._burst_s = max(BURST_S, self._interval_s)
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._sweep_at = MIN_SWEEP

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, user_id: str) -> float:
        """Take one token. Returns 0.0, or where there is none the seconds until there is one."""
        now = self._clock()
        full_at = self._full_at.get(user_id, now)
        if full_at < now:
            full_at = now
        full_at += self._interval_s
        missing_s = full_at - now - self._burst_s
        if missing_s > 1e-9:  # what adding up intervals leaves over
            return missing_s
        self._full_at[user_id] = full_at
        if len(self._full_at) > self._sweep_at:
            self._sweep(now)
        return 0.0

    def _sweep(self, now: float) -> None:
        """Forget users whose buckets are full; the next sweep is when twice as many are there."""
        self._full_at = {user: full_at for user, full_at in self._full_at.items() if full_at > now}
        self._sweep_at = max(MIN_SWEEP, 2 * len(self._full_at))
