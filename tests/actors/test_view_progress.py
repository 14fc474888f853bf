"""Waiting until live sessions have been told of a view."""

import asyncio

from actors.view_progress import ViewProgress


async def test_whoever_waits_goes_on_when_the_view_has_come_far_enough() -> None:
    progress = ViewProgress()
    progress.move("memory", 5)
    near = asyncio.create_task(progress.has_come_within("memory", 6, timeout_s=5))
    far = asyncio.create_task(progress.has_come_within("memory", 8, timeout_s=5))
    await asyncio.sleep(0)

    progress.move("graph", 9)
    progress.move("memory", 7)

    assert await near
    assert not far.done()
    progress.move("memory", 8)
    assert await far


async def test_a_view_that_stays_behind_is_not_waited_for_for_ever() -> None:
    progress = ViewProgress()

    has_come = await progress.has_come_within("memory", 1, timeout_s=0.01)

    assert not has_come
    progress.move("memory", 1)  # and nobody is left to be woken
    assert await progress.has_come_within("memory", 1, timeout_s=0.01)


async def test_one_who_gives_up_does_not_stop_the_others() -> None:
    progress = ViewProgress()
    patient = asyncio.create_task(progress.has_come_within("memory", 1, timeout_s=5))
    given_up = asyncio.create_task(progress.has_come_within("memory", 1, timeout_s=5))
    await asyncio.sleep(0)

    given_up.cancel()
    await asyncio.sleep(0)
    progress.move("memory", 1)

    assert await patient
