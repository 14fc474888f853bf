"""Dividing the sessions among several readers of the log."""

from dataclasses import dataclass
from uuid import UUID

MAX_SHARDS = 8  # a projector that runs all of them has up to 80 connections; PostgreSQL allows 100


@dataclass(frozen=True)
class Shard:
    """Every `count`-th session: those whose id ends in a byte that leaves `index`.

    Ids are random, so shards are even. The byte is stored and never changes, as a hash might with
    another release of Python or PostgreSQL. An event without a session belongs to shard 0.
    """

    index: int = 0
    count: int = 1

    def holds(self, session_id: UUID | None) -> bool:
        """Whether a session's events are read with this shard."""
        return (session_id.bytes[-1] if session_id else 0) % self.count == self.index

    @property
    def condition(self) -> str:
        """The same in SQL, for a row with a column `session_id`, in a query with parameters."""
        byte = "coalesce(get_byte(uuid_send(session_id), 15), 0)"
        return f"{byte} %% {self.count} = {self.index}"


WHOLE = Shard()  # all sessions


def shards(count: int) -> list[Shard]:
    """All of them."""
    return [Shard(index, count) for index in range(count)]
