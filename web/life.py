"""Life signs: who is still there, asked by pings of WebSocket, for all connections by one timer."""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from typing import Protocol

import prometheus_client

logger = logging.getLogger(__name__)

TICK_S = 1.0  # how often is looked; less where the times are short
TICKS_IN_A_TIMEOUT = 8
MAX_LATE_S = 1.0  # of a tick; beyond, this process was stopped, and clients could not be heard

STALE = prometheus_client.Counter(
    "lorewire_stale_connections", "Connections closed because nothing was heard of the client"
)


def seconds_since_boot() -> float:
    """A clock that goes on while a laptop sleeps, where the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Living(Protocol):
    """A connection as the pulse sees it."""

    heard_at: float  # the pulse's `now` at the client's last frame, of any kind

    @property
    def is_behind(self) -> bool:
        """Whether a ping would have to wait for what the client has not read yet."""

    def send_ping(self) -> None:
        """Ask the client whether it is there."""

    def on_silence(self, silent_s: float) -> None:
        """Nothing was heard for too long."""


class Pulse:
    """Pings every connection each `interval_s` and finds those that are silent.

    A client that is there answers a ping within `pong_timeout_s`, so nobody who is there is silent
    for longer than both together. Whoever has not read what was sent before has `silence_s`, since
    the ping waits behind it. Times in which this process itself stood still don't count, and after
    one everybody has a fresh period.

    A connection costs a heap operation or two in each interval. Used on the event loop only.
    """

    def __init__(
        self,
        *,
        interval_s: float,
        pong_timeout_s: float,
        silence_s: float,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self.now = 0.0  # seconds that this process has lived with anybody connected
        self._interval_s = interval_s
        self._limit_s = min(silence_s, interval_s + pong_timeout_s)
        self._behind_limit_s = silence_s
        shortest_s = min(interval_s, pong_timeout_s, silence_s)
        self._tick_s = min(TICK_S, shortest_s / TICKS_IN_A_TIMEOUT)
        self._max_late_s = min(MAX_LATE_S, shortest_s / 2)
        self._clock = clock
        self._looked_at = 0.0
        self._resumed_at = 0.0
        self._ping_at: dict[Living, float] = {}
        self._behind: set[Living] = set()  # when they were last looked at
        self._turns: list[tuple[float, int, Living]] = []  # a heap: when, and whose turn it is
        self._numbers = itertools.count()  # connections can't be compared
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._ping_at)

    def join(self, one: Living) -> None:
        """Look after a connection from now on."""
        one.heard_at = self.now
        self._ping_at[one] = self.now + self._interval_s
        self._later(one)
        if self._timer is None:
            self._looked_at = self._clock()
            self._wait()

    def leave(self, one: Living) -> None:
        """A connection is gone; a second call changes nothing."""
        self._ping_at.pop(one, None)
        self._behind.discard(one)

    def look(self) -> None:
        """Ping whoever is to be pinged, and tell those that are silent for too long."""
        self._let_time_pass()
        while self._turns and self._turns[0][0] <= self.now:
            one = heapq.heappop(self._turns)[2]
            if one in self._ping_at:
                self._look_at(one)

    def _look_at(self, one: Living) -> None:
        if one.is_behind:
            self._behind.add(one)
        elif one in self._behind:
            self._behind.discard(one)
            one.heard_at = self.now  # it has read what waited, so it is there
        silent_s = self.now - self._heard_at(one)
        if silent_s >= self._limit_of(one):
            self.leave(one)
            STALE.inc()
            one.on_silence(silent_s)
            return
        if self._ping_at[one] <= self.now:
            self._ping_at[one] = self.now + self._interval_s
            one.send_ping()
        self._later(one)

    def _later(self, one: Living) -> None:
        stale_at = self._heard_at(one) + self._limit_of(one)
        heapq.heappush(self._turns, (min(stale_at, self._ping_at[one]), next(self._numbers), one))

    def _heard_at(self, one: Living) -> float:
        return max(one.heard_at, self._resumed_at)

    def _limit_of(self, one: Living) -> float:
        return self._behind_limit_s if one.is_behind else self._limit_s

    def _let_time_pass(self) -> None:
        at = self._clock()
        elapsed_s, self._looked_at = at - self._looked_at, at
        if elapsed_s - self._tick_s <= self._max_late_s:
            self.now += elapsed_s
            return
        logger.warning(
            "This process stood still for %.1f s: everybody gets time to be heard", elapsed_s
        )
        self.now += self._tick_s
        self._resumed_at = self.now

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.look()
        if self._ping_at:
            self._wait()
        else:
            self._turns.clear()
