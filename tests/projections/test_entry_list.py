"""Entries in memory come back as they were, and cost the garbage collector nothing."""

import gc
from datetime import UTC, datetime
from uuid import UUID

from projections.entry_list import EntryList
from projections.memory import MemoryEntry

START = datetime(2026, 5, 8, tzinfo=UTC)
SAID = MemoryEntry("q-1", "user", "ada", "Where is the lever?", UUID(int=1), 7, START)
SEED = MemoryEntry("s-0", "seed", "The keep", "It is old.", None, 1, START)


def test_entries_come_back_as_they_were() -> None:
    entries = EntryList()

    entries.extend([SEED])
    entries.extend([SAID])

    assert len(entries) == 2
    assert (entries[0], entries[1], entries[-1]) == (SEED, SAID, SAID)


def test_the_collector_does_not_look_at_them() -> None:
    entries = EntryList()
    gc.collect()
    before = len(gc.get_objects())

    entries.extend(
        MemoryEntry(f"q-{n}", "user", "ada", "Yes.", UUID(int=n), n, START) for n in range(5000)
    )
    gc.collect()

    assert len(gc.get_objects()) - before < 500
    assert entries[4999].turn_id == UUID(int=4999)


def test_kept_as_they_are_it_would_look_at_each() -> None:
    gc.collect()
    before = len(gc.get_objects())

    kept = [MemoryEntry(f"q-{n}", "user", "a", "Yes.", UUID(int=n), n, START) for n in range(5000)]
    gc.collect()

    assert len(gc.get_objects()) - before > len(kept)
