"""Garbage collection while many events go by."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New objects between looks for cycles, in place of 700. Events and rows have no cycles, and
# looking at all that a batch has decoded took half of a rebuild's time.
NEW_OBJECTS = 100_000


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let the collector of this process look for cycles less often meanwhile."""
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
