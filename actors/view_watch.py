"""Tells live sessions that their views have moved."""

import asyncio
import logging
import time
from collections.abc import Mapping
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from actors.directory import SessionDirectory
from actors.messages import ViewMoved, ViewRebuilt
from actors.protocol import Message
from actors.reads import view_updates
from actors.view_progress import ViewName, ViewProgress
from events.log import MAX_POSITION
from projections.moves import Moves, read_moves
from projections.resting import rest_s

logger = logging.getLogger(__name__)

VIEWS: tuple[ViewName, ...] = ("memory", "graph")

CHANNEL = "lorewire_views"  # notified by the projector, in the transaction that moves a view
POLL_S = 1.0  # a NOTIFY may be missed: it only makes us look earlier
RECONNECT_S = 1.0
SESSIONS_AT_ONCE = 200  # whose updates are read together


async def watch_views(
    database_url: str, pool: AsyncConnectionPool, directory: SessionDirectory
) -> None:
    """Look at the views whenever they may have moved, until cancelled."""
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
                    if not told:
                        now = await read_moves(pool, memory=MAX_POSITION, graph=MAX_POSITION)
                        for view in VIEWS:
                            told.move(view, now[view].position)
                            generations[view] = now[view].generation
                        _tell_all(directory, told)
                    moves = await read_moves(pool, memory=told["memory"], graph=told["graph"])
                    _look_for_rebuilds(directory, moves, generations)
                    await look(directory, moves, told)
                    await asyncio.sleep(rest_s(time.monotonic() - began))
                    async for _ in listener.notifies(timeout=POLL_S, stop_after=1):
                        pass
        except (psycopg.Error, OSError) as error:
            logger.warning("The views can't be watched, trying again: %s", error)
            await asyncio.sleep(RECONNECT_S)


def _look_for_rebuilds(
    directory: SessionDirectory, moves: Mapping[str, Moves], generations: dict[str, int]
) -> None:
    """Tell the sessions whose rows a rebuild has replaced; one of a single session names it."""
    for name in VIEWS:
        moved = moves[name]
        if moved.generation == generations[name]:
            continue
        if moved.generation == generations[name] + 1 and moved.rebuilt_session is not None:
            session_ids = [UUID(moved.rebuilt_session)]
        else:
            session_ids = list(directory.live())
        for session_id in session_ids:
            directory.tell_live(session_id, ViewRebuilt(name, moved.position))
        generations[name] = moved.generation


def _tell_all(directory: SessionDirectory, told: ViewProgress) -> None:
    """Tell those that were live before anybody watched."""
    for session_id in directory.live():
        for name, position in told.positions.items():
            directory.tell_live(session_id, ViewMoved(name, position))


async def look(directory: SessionDirectory, moves: Mapping[str, Moves], told: ViewProgress) -> None:
    """Read what the live sessions' views have gained, of all of them at once, and tell them."""
    for name in VIEWS:
        after, upto = told[name], moves[name].position
        moved = moves[name].session_ids if upto > after else []
        live = [session_id for session_id in moved if session_id in directory]
        updates: dict[UUID, list[Message]] = {}
        for start in range(0, len(live), SESSIONS_AT_ONCE):
            some = live[start : start + SESSIONS_AT_ONCE]
            updates |= await view_updates(directory.services, name, some, after, upto)
        # From here on nothing waits: a session that begins now begins behind what was told.
        for session_id in moved:
            message = ViewMoved(name, upto, after, updates.get(session_id))
            directory.tell_live(session_id, message)
        told.move(name, upto)
