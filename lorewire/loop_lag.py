"""How late the event loop is: what everybody on it waits for in addition."""

import asyncio
import time

import prometheus_client

EVERY_S = 0.25

LAG_SECONDS = prometheus_client.Histogram(
    "lorewire_loop_lag_seconds",
    "How much later than asked for the event loop calls, looked at four times a second",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)


async def watch_loop_lag() -> None:
    """Look again and again; ends when it is cancelled."""
    while True:
        asked_at = time.monotonic()
        await asyncio.sleep(EVERY_S)
        LAG_SECONDS.observe(max(0.0, time.monotonic() - asked_at - EVERY_S))
