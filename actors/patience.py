"""Reading views although connections to the database die now and then."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg

VIEWS_UNREACHABLE = (psycopg.OperationalError, psycopg.InterfaceError)

RETRY_AFTER_S = (0.05, 0.2)  # a connection that was cut is replaced within milliseconds

T = TypeVar("T")


async def patiently(read: Callable[[], Awaitable[T]]) -> T:
    """What `read` returns; tried again where its connection was cut. Raises the last error."""
    for delay_s in RETRY_AFTER_S:
        try:
            return await read()
        except VIEWS_UNREACHABLE:
            await asyncio.sleep(delay_s)
    return await read()
