"""Ending a server so that nobody loses anything, and not everybody comes back at once."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tornado.httpserver import HTTPServer

from actors.directory import SessionDirectory
from actors.monitor import CloseWatchers, TellWhenIdle
from web.admission import Admission

logger = logging.getLogger(__name__)

BATCH_SESSIONS = 100  # whose connections are closed at once
PAUSE_S = 0.1  # between batches, so that another server can take their clients in
MAX_PACING_S = 5.0  # for all batches together
GOODBYE_S = 2.0  # for clients to confirm that they are closed; then the process ends


class Haste:
    """Asked for by a second signal: whatever is waited for is waited for no more."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def ask_for(self) -> None:
        """Wait for nothing any more."""
        self._event.set()

    async def wait(self, work: Coroutine[Any, Any, Any], seconds: float) -> bool:
        """Wait for something, for so long, unless haste is asked for; whether it has come."""
        task = asyncio.ensure_future(work)
        haste = asyncio.create_task(self._event.wait())
        try:
            await asyncio.wait((task, haste), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return task.done()
        finally:
            task.cancel()
            haste.cancel()
            await asyncio.wait((task, haste))


async def drain(
    server: HTTPServer,
    directory: SessionDirectory,
    admission: Admission,
    *,
    grace_s: float,
    haste: Haste,
) -> None:
    """End a server: nobody is let in, running turns get `grace_s` to end, then all are sent away.

    Queries that come meanwhile, and those that wait, are stored; the next server runs them.
    """
    logger.info("Stopping: %d connections, %g s for running turns", len(admission), grace_s)
    server.stop()
    directory.services.draining.set()
    idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    directory.monitor.tell(TellWhenIdle(idle))
    if not await haste.wait(_come(idle), grace_s):
        logger.warning("Turns are still running: they end as failed")
    await _send_away(directory, haste)
    directory.monitor.tell(CloseWatchers())
    if not await haste.wait(admission.emptied(), GOODBYE_S):
        logger.info("%d connections did not confirm that they are closed", len(admission))
    await server.close_all_connections()


async def _send_away(directory: SessionDirectory, haste: Haste) -> None:
    """Close all connections, batch by batch; returns when all that follows from it is stored."""
    live = directory.live()
    batches = [live[at : at + BATCH_SESSIONS] for at in range(0, len(live), BATCH_SESSIONS)]
    ending = []
    for number, batch in enumerate(batches):
        if number:
            pause_s = min(PAUSE_S, MAX_PACING_S / len(batches))
            await haste.wait(asyncio.sleep(pause_s), pause_s + 1)
        # Not awaited before the next one: a database that is gone would hold up all the others.
        ending.append(asyncio.create_task(directory.end(batch)))
    if ending:
        await asyncio.wait(ending)
    await directory.shutdown()  # who woke meanwhile, and what is stored behind


async def _come(future: "asyncio.Future[None]") -> None:
    await future
