"""Waking followers as soon as something is appended to the log."""

import logging
import threading
from collections.abc import Callable

import psycopg
from psycopg import sql

from events.log import CHANNEL

logger = logging.getLogger(__name__)

CHECK_S = 0.5  # how often the thread looks whether it shall end
RETRY_S = 1.0  # followers poll meanwhile
REST_S = 0.005  # after a wake-up: what is appended meanwhile is one more, and followers rest longer


class WakeUps(threading.Thread):
    """Listens on the log's channel, on one connection of its own, and wakes all followers.

    A notification can be missed: while the connection is down, or by one that hangs. So every
    follower polls, too, and a fresh connection wakes them once.
    """

    def __init__(self, database_url: str, wake: Callable[[], None]) -> None:
        super().__init__(name="wake-ups", daemon=True)
        self._database_url = database_url
        self._wake = wake
        self._stop_asked = threading.Event()
        self._is_listening = False

    def stop(self) -> None:
        """End within half a second. Called from any thread."""
        self._stop_asked.set()

    def run(self) -> None:
        """Listen, and connect again whenever the connection is lost."""
        while not self._stop_asked.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                if self._is_listening:
                    logger.info("Lost the connection that wakes followers: %s", error)
                self._is_listening = False
                self._stop_asked.wait(RETRY_S)

    def _listen(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True, connect_timeout=2) as conn:
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
            self._is_listening = True
            self._wake()
            while not self._stop_asked.is_set():
                if list(conn.notifies(timeout=CHECK_S, stop_after=1)):
                    self._wake()
                    self._stop_asked.wait(REST_S)
