"""The entries of one session in memory, so that the garbage collector has nothing to look at."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from projections.memory import MemoryEntry, Role

# A MemoryEntry, field by field, with the bytes of its turn's id.
_Row = tuple[str, Role, str, str, bytes | None, int, datetime]


class EntryList:
    """Entries, appended and read by their number.

    The collector's longest pause is as long as there are objects that it must look at: 100,000
    entries kept as they are hold the event loop for a fifth of a second, again and again. Tuples of
    plain values it forgets about.
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> MemoryEntry:
        entry_id, role, speaker, text, turn_id, position, said_at = self._rows[number]
        turn = UUID(bytes=turn_id) if turn_id else None
        return MemoryEntry(entry_id, role, speaker, text, turn, position, said_at)

    def extend(self, entries: Iterable[MemoryEntry]) -> None:
        """Append."""
        self._rows += [
            (
                one.entry_id,
                one.role,
                one.speaker,
                one.text,
                one.turn_id.bytes if one.turn_id else None,
                one.position,
                one.said_at,
            )
            for one in entries
        ]
