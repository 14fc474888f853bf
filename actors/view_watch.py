"""Tells live sessions that their views have moved."""

import asyncio
import logging

import psycopg
from psycopg_pool import AsyncConnectionPool

from actors.directory import SessionDirectory
from actors.messages import ViewMoved
from projections.graph import GraphView
from projections.memory import MemoryView
from projections.positions import read_positions

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
    seen: dict[str, int] = {}
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
                    if not seen:
                        seen = await _start_positions(pool, views)
                    await _look(directory, views, seen)
                    async for _ in listener.notifies(timeout=POLL_S, stop_after=1):
                        pass
        except (psycopg.Error, OSError) as error:
            logger.warning("The views can't be watched, trying again: %s", error)
            await asyncio.sleep(RECONNECT_S)


async def _start_positions(pool: AsyncConnectionPool, views: Views) -> dict[str, int]:
    positions = await read_positions(pool)
    return {view: positions.views.get(view, 0) for view in views}


async def _look(
    directory: SessionDirectory,
    views: Views,
    seen: dict[str, int],
) -> None:
    for name, view in views.items():
        moved = await view.moved_since(seen[name])
        for session_id, position in moved.items():
            directory.tell_live(session_id, ViewMoved(name, position))  # type: ignore[arg-type]
        seen[name] = max([seen[name], *moved.values()])
