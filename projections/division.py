"""Changing into how many shards the followers are divided, without a gap and without a repeat."""

import logging
import threading
from collections.abc import Callable, Sequence

from events.log import Log
from events.shards import Shard, shards
from projections.follower import Follower, Work
from projections.positions import FOLLOWERS, tracking_name
from projections.tracking import count_of_shards, divide, lock_all, positions_of

logger = logging.getLogger(__name__)

CHECK_S = 0.1  # how often somebody who waits for followers looks whether to stop

MakeWorks = Callable[[Shard], Sequence[Work]]


def divide_followers(log: Log, count: int, make_works: MakeWorks, stop: threading.Event) -> bool:
    """Divide every follower into `count` shards; False where it was stopped before that.

    Called while no other projector follows. The old shards, which may be at different positions,
    are brought to that of the fastest one; then new ones take their place. Raises OperationalError
    or InterfaceError where the database does not answer.
    """
    while not stop.is_set():
        found = {name: positions_of(log, name) for name in FOLLOWERS}
        if all(_is_divided(found[name], name, count) for name in FOLLOWERS):
            return True
        _catch_up(log, found, make_works, stop)
        if not stop.is_set() and _replace(log, count):
            logger.info("The followers have %s shards now", count)
    return False


def _is_divided(positions: dict[str, int], follower: str, count: int) -> bool:
    """Whether these are the positions of so many shards."""
    return set(positions) == _names(follower, count) or (count == 1 and not positions)


def _names(follower: str, count: int) -> set[str]:
    return {tracking_name(follower, shard) for shard in shards(count)}


def _catch_up(
    log: Log, found: dict[str, dict[str, int]], make_works: MakeWorks, stop: threading.Event
) -> None:
    """Bring the shards of each follower to the position of its fastest."""
    behind: list[Follower] = []
    for shard in {
        one for positions in found.values() for one in shards(count_of_shards(positions))
    }:
        for work in make_works(shard):
            positions = found[work.name]
            position = positions.get(tracking_name(work.name, shard))
            if position is not None and position < max(positions.values()):
                behind.append(Follower(log, work, upto=max(positions.values())))
    for follower in behind:
        follower.start()
    while any(follower.is_alive() for follower in behind):
        if stop.wait(CHECK_S):
            for follower in behind:
                follower.stop()
            for follower in behind:
                follower.join()


def _replace(log: Log, count: int) -> bool:
    """Put new shards in the place of the old ones; False where those are not all at one position.

    All followers in one transaction, so that they always have the same number.
    """
    with log.recorder.datastore.transaction(commit=True) as curs:
        found = {name: set(lock_all(curs, name).values()) for name in FOLLOWERS}
        if any(len(positions) > 1 for positions in found.values()):
            return False
        for name, positions in found.items():
            divide(curs, name, shards(count), max(positions, default=0))
    return True
