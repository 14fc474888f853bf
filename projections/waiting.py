"""Reading one's own writes: waiting until a view has seen a position."""

import asyncio
import logging
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from projections.positions import read_positions

logger = logging.getLogger(__name__)

POLL_S = 0.02  # memory is some 20 ms behind the log


async def wait_until_read(pool: AsyncConnectionPool[Any], view: str, position: int) -> None:
    """Return when the view has read up to a position; waits as long as that takes."""
    while True:
        try:
            if (await read_positions(pool)).views[view] >= position:
                return
        except psycopg.OperationalError as error:
            logger.info("Waiting for the database: %s", error)
        await asyncio.sleep(POLL_S)


async def has_read_within(
    pool: AsyncConnectionPool[Any], view: str, position: int, timeout_s: float
) -> bool:
    """Wait until the view has read up to a position, but not for ever; False where it has not."""
    try:
        async with asyncio.timeout(timeout_s):
            await wait_until_read(pool, view, position)
    except TimeoutError:
        return False
    return True
