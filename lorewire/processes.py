"""Child processes: one that dies is started again, and none outlives its parent."""

import asyncio
import logging
import os
import signal
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0  # from SIGTERM to SIGKILL
START_TIMEOUT_S = 60.0  # for the line that says that a child is ready
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
HEALTHY_AFTER_S = 60.0  # a child that lived that long is restarted with the first backoff again
READ_BYTES = 64 * 1024


class ChildFailedError(Exception):
    """A child process did not become ready; the text says how it ended."""


class ChildProcess:
    """A program that runs beside this one, started again whenever it ends by itself.

    It has a session of its own, so Ctrl-C in the terminal reaches the parent only, and an open
    pipe as its standard input: a child that calls `exit_when_parent_is_gone` ends when its parent
    is killed. Used on the event loop.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        wait_for_line: bool = False,
    ) -> None:
        """`wait_for_line`: the child is ready when it has written one line of JSON, an object."""
        self.name = name
        self._command = command
        self._env = env
        self._wait_for_line = wait_for_line
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the running child."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, *, timeout_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """Start the child; returns what it said when it was ready, {} where nothing is waited for.

        Raises ChildFailedError where it ends or the time is over before it is ready.
        """
        ready = await self._launch(timeout_s)
        self._keeping = asyncio.create_task(self._keep_running(timeout_s))
        return ready

    async def stop(self) -> None:
        """End the child: SIGTERM, and SIGKILL where that does not help. Never raises."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            self._keeping = None
        await self._end()

    async def _launch(self, timeout_s: float) -> dict[str, Any]:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE if self._wait_for_line else None,
            env=self._env,
            start_new_session=True,
        )
        if not self._wait_for_line:
            return {}
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read_ready_line(self._process)
        except TimeoutError:
            await self._end()
            raise ChildFailedError(
                f"The {self.name} was not ready after {timeout_s:g} s."
            ) from None
        except BaseException:
            await self._end()
            raise

    async def _read_ready_line(self, process: Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            status = await process.wait()
            raise ChildFailedError(f"The {self.name} did not start: it ended with status {status}.")
        try:
            ready = orjson.loads(line)
        except orjson.JSONDecodeError:
            ready = None
        if not isinstance(ready, dict):
            raise ChildFailedError(f"The {self.name} did not start: it wrote {line[:200]!r}.")
        self._reading = asyncio.create_task(_read_to_the_end(process.stdout))
        return ready

    async def _keep_running(self, timeout_s: float) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            started = time.monotonic()
            assert self._process is not None
            status = await self._process.wait()
            if time.monotonic() - started >= HEALTHY_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            logger.warning(
                "The %s ended with status %s; it is started again in %g s",
                self.name,
                status,
                backoff_s,
            )
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            try:
                await self._launch(timeout_s)
            except (ChildFailedError, OSError) as error:
                logger.warning("%s", error)

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                logger.warning("The %s did not end by itself and is killed", self.name)
                process.kill()
                await process.wait()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if process.stdin is not None:
            process.stdin.close()


def exit_when_parent_is_gone() -> None:
    """Called in a child: ends it when its standard input does, which is when its parent has gone.

    The child gets SIGTERM, and is ended at once where that has not helped after a while: nobody is
    left who would.
    """
    threading.Thread(target=_wait_for_end_of_input, name="parent-watch", daemon=True).start()


def _wait_for_end_of_input() -> None:
    while os.read(0, READ_BYTES):  # sys.stdin has a lock, which Python's own exit would wait for
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    os._exit(1)


async def _read_to_the_end(stream: asyncio.StreamReader) -> None:
    """Read what a child writes after it is ready: a full pipe would block it."""
    while await stream.read(READ_BYTES):
        pass
