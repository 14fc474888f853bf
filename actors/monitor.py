"""The monitor: what is going on in this process, counted once for all who watch."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import prometheus_client
import psutil

from actors.loop_actor import LoopActor
from actors.protocol import Close, Message, Ping, timestamp
from projections.learning_queue import NOTHING_WAITS, LearningQueue
from projections.positions import Positions

logger = logging.getLogger(__name__)

TURNS_RUNNING = prometheus_client.Gauge(
    "lorewire_turns_running", "Turns whose reply is being written"
)

MIN_INTERVAL_S = 0.1  # at most ten updates a second, however fast the counts change


Sender = Callable[[Message, str | None], None]


@dataclass(frozen=True)
class SessionCreated:
    """Tell: a session was opened."""

    session_id: UUID
    user_id: str


@dataclass(frozen=True)
class SessionRemoved:
    """Tell: a session was deleted."""

    session_id: UUID


@dataclass(frozen=True)
class ConnectionJoined:
    """Tell: a client connected to a session."""

    session_id: UUID
    connection_id: UUID
    user_id: str


@dataclass(frozen=True)
class ConnectionLeft:
    """Tell: a client's connection ended."""

    session_id: UUID
    connection_id: UUID
    code: int


@dataclass(frozen=True)
class TurnsRunning:
    """Tell: one turn more or less is running."""

    change: int


@dataclass(frozen=True)
class TellWhenIdle:
    """Tell: resolve the future when no turn is running."""

    idle: "asyncio.Future[None]"


@dataclass(frozen=True)
class CloseWatchers:
    """Tell: the server is about to end, and so do the connections of those who watch."""


@dataclass(frozen=True)
class Watch:
    """Tell: send everything to this function from now on; `close` ends the connection."""

    send: Sender
    close: Callable[[int, str], None]


@dataclass(frozen=True)
class Unwatch:
    """Tell: the watcher is gone."""

    send: Sender


@dataclass(frozen=True)
class Pinged:
    """Tell: a watcher sent a ping."""

    ping: Ping
    request_id: str | None
    send: Sender


@dataclass(frozen=True)
class Counts:
    """Ask: how many sessions and connections there are."""


@dataclass(frozen=True)
class _Update:
    """Tell, to itself: send an update."""

    is_steady: bool  # True: the regular one, which looks at the database, too


class MonitorActor(LoopActor):
    """Counts what other actors tell it, and sends updates to everybody who watches."""

    def __init__(
        self,
        *,
        interval_s: float,
        count_sessions: Callable[[], Awaitable[int]],
        read_positions: Callable[[], Awaitable[Positions]],
        read_learning_queue: Callable[[], Awaitable[LearningQueue]],
    ) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._count_sessions = count_sessions
        self._read_positions = read_positions
        self._read_learning_queue = read_learning_queue
        self._started_at = time.monotonic()
        self._process = psutil.Process()
        self._watchers: dict[Sender, Callable[[int, str], None]] = {}
        self._wait_for_idle: list[asyncio.Future[None]] = []
        self._timers: dict[bool, asyncio.Handle] = {}  # by whether they are the steady one's
        self._sent_at = 0.0
        self._is_update_due = False
        self._sessions = 0
        self._connections = 0
        self._turns = 0
        self._positions = Positions(head=0, views={})
        self._learning_queue = NOTHING_WAITS
        self._positions_at = time.monotonic()
        self._events_per_second = 0.0

    def on_start(self) -> None:
        """Begin with the regular updates."""
        self.actor_ref.tell(_Update(is_steady=True))

    def on_stop(self) -> None:
        """Send no more updates."""
        for timer in self._timers.values():
            timer.cancel()

    def on_receive(self, message: Any) -> Any:
        """Count, and tell the watchers."""
        match message:
            case SessionCreated():
                self._sessions += 1
                self._tell(
                    "session_created", session_id=message.session_id, user_id=message.user_id
                )
            case SessionRemoved():
                self._sessions -= 1
                self._tell("session_deleted", session_id=message.session_id)
            case ConnectionJoined():
                self._connections += 1
                self._tell(
                    "connection_opened",
                    session_id=message.session_id,
                    connection_id=message.connection_id,
                    user_id=message.user_id,
                )
            case ConnectionLeft():
                self._connections -= 1
                self._tell(
                    "connection_closed",
                    session_id=message.session_id,
                    connection_id=message.connection_id,
                    code=message.code,
                )
            case TurnsRunning():
                self._turns += message.change
                TURNS_RUNNING.set(self._turns)
                self._tell_if_idle()
                self._update_soon()
            case TellWhenIdle():
                self._wait_for_idle.append(message.idle)
                self._tell_if_idle()
            case CloseWatchers():
                for close in list(self._watchers.values()):
                    close(Close.RESTARTING, "server restarting")
            case Watch():
                self._watchers[message.send] = message.close
                message.send(Message("monitor_connected", self._counts()), None)
            case Unwatch():
                self._watchers.pop(message.send, None)
            case Pinged():
                pong = {
                    "message": message.ping.message,
                    "client_timestamp": message.ping.timestamp,
                    **self._counts(),
                }
                message.send(Message("pong", pong), message.request_id)
            case Counts():
                return self._counts()
            case _Update():
                return self._update(is_steady=message.is_steady)
        return None

    def _tell_if_idle(self) -> None:
        if self._turns:
            return
        waiting, self._wait_for_idle = self._wait_for_idle, []
        for idle in waiting:
            if not idle.done():
                idle.set_result(None)

    def _counts(self) -> dict[str, Any]:
        return {
            "active_sessions": self._sessions,
            "active_connections": self._connections,
            "timestamp": timestamp(),
        }

    def _tell(self, type_: str, **data: Any) -> None:
        if self._watchers:
            self._send(Message(type_, {**data, "timestamp": timestamp()}))
        self._update_soon()

    def _send(self, message: Message) -> None:
        for send in self._watchers:
            send(message, None)

    def _update_soon(self) -> None:
        if self._is_update_due or not self._watchers:
            return
        self._is_update_due = True
        wait_s = max(0.0, self._sent_at + MIN_INTERVAL_S - time.monotonic())
        self._later(wait_s, _Update(is_steady=False))

    def _later(self, delay_s: float, message: _Update) -> None:
        loop = asyncio.get_running_loop()
        self._timers[message.is_steady] = loop.call_later(delay_s, self.actor_ref.tell, message)

    async def _update(self, *, is_steady: bool) -> None:
        if is_steady:
            self._later(self._interval_s, _Update(is_steady=True))
            await self._look_at_the_database()
        else:
            self._is_update_due = False
        if not self._watchers:
            return
        self._sent_at = time.monotonic()
        positions = self._positions
        self._send(
            Message(
                "monitor_update",
                {
                    **self._counts(),
                    "events_total": positions.head,
                    "events_per_second": round(self._events_per_second, 1),
                    "turns_running": self._turns,
                    "projections": {
                        name: {
                            "position": position,
                            "lag": positions.lag(name),
                            "set_aside": positions.set_aside.get(name, 0),
                        }
                        for name, position in positions.views.items()
                    },
                    "learning": vars(self._learning_queue),
                    "rss_bytes": self._process.memory_info().rss,
                    "uptime_s": round(time.monotonic() - self._started_at),
                },
            )
        )

    async def _look_at_the_database(self) -> None:
        try:
            self._sessions = await self._count_sessions()
            positions = await self._read_positions()
            self._learning_queue = await self._read_learning_queue()
        except Exception as error:  # the monitor goes on with what it knows
            logger.warning("The monitor can't read the views: %s", error)
            return
        now = time.monotonic()
        elapsed_s = now - self._positions_at
        self._events_per_second = max(0, positions.head - self._positions.head) / elapsed_s
        self._positions, self._positions_at = positions, now
