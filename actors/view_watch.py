"""Tells live sessions that their views have moved."""

import asyncio
import logging
import time
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from actors.directory import SessionDirectory
from actors.messages import ViewMoved, ViewRebuilt
from projections.graph import GraphView
from projections.memory import MemoryView
from projections.positions import Positions, read_positions
from projections.resting import rest_s

logger = logging.getLogger(__name__)

Views = dict[str, MemoryView | GraphView]

CHANNEL = "lorewire_views"  # notified by the projector, in the transaction that moves a view
POLL_S = 1.0  # a NOTIFY may be missed: it only makes us look earlier
RECONNECT_S = 1.0


async def watch_views(
    database_url: str, pool: AsyncConnectionPool, directory: SessionDirectory
) -> None:
    """Look at the views whenever they may have moved, until cancelled."""
    views: Views = {"memory": directory.services.memory, "graph": directory.services.graph}
    told = directory.services.told
    generations: dict[str, int] = {}
    task = asyncio.current_task()
    assert task is not None
    # Asked each time, because a cancellation that comes together with a notification can be lost in
    # `asyncio.wait_for`, which psycopg waits with.
    while not task.cancelling():
        try:
            async with await psycopg.AsyncConnection.connect(
                database_url, autocommit=True
            ) as listener:
                await listener.execute(f"LISTEN {CHANNEL}")
                while not task.cancelling():
                    began = time.monotonic()
                    positions = await read_positions(pool)
                    if not told:
                        told.update({view: positions.views[view] for view in views})
                        generations = dict(positions.generations)
                        _tell_all(directory, told)
                    _look_for_rebuilds(directory, views, positions, generations)
                    await _look(directory, views, positions, told)
                    await asyncio.sleep(rest_s(time.monotonic() - began))
                    async for _ in listener.notifies(timeout=POLL_S, stop_after=1):
                        pass
        except (psycopg.Error, OSError) as error:
            logger.warning("The views can't be watched, trying again: %s", error)
            await asyncio.sleep(RECONNECT_S)


def _look_for_rebuilds(
    directory: SessionDirectory,
    views: Views,
    positions: Positions,
    generations: dict[str, int],
) -> None:
    """Tell the sessions whose rows a rebuild has replaced; one of a single session names it."""
    for name in views:
        generation = positions.generations[name]
        rebuilt = positions.rebuilt_sessions[name]
        if generation == generations[name] + 1 and rebuilt is not None:
            session_ids = [UUID(rebuilt)]
        elif generation != generations[name]:
            session_ids = list(directory.live())
        else:
            continue
        for session_id in session_ids:
            rebuilt_view = ViewRebuilt(name, positions.views[name])  # type: ignore[arg-type]
            directory.tell_live(session_id, rebuilt_view)
        generations[name] = generation


def _tell_all(directory: SessionDirectory, told: dict[str, int]) -> None:
    """Tell those that were live before anybody watched."""
    for session_id in directory.live():
        for name, position in told.items():
            directory.tell_live(session_id, ViewMoved(name, position))  # type: ignore[arg-type]


async def _look(
    directory: SessionDirectory,
    views: Views,
    positions: Positions,
    told: dict[str, int],
) -> None:
    # Asked before the rows: all that a view will ever have up to there is among them. The newest
    # row says less, since one shard may be ahead of another.
    for name, view in views.items():
        moved = await view.moved_since(told[name])
        for session_id, position in moved.items():
            directory.tell_live(session_id, ViewMoved(name, position))  # type: ignore[arg-type]
        told[name] = positions.views[name]
