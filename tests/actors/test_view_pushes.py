"""What connections are told as views move: everything once, whoever reads it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from actors.audience import Audience
from actors.connection import Connection
from actors.directory import SessionDirectory
from actors.messages import ViewMoved
from actors.protocol import Message
from actors.reads import view_updates
from actors.services import Services
from actors.view_progress import ViewProgress
from actors.view_pushes import ViewPushes
from actors.view_watch import look
from projections.memory import MemoryEntry
from projections.moves import Moves


def entry(position: int) -> MemoryEntry:
    return MemoryEntry(
        entry_id=f"{position}",
        role="user",
        speaker="ada",
        text=f"said at {position}",
        turn_id=uuid4(),
        position=position,
        said_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


class Memory:
    """A view with an entry at every tenth position, which counts how often it is read."""

    def __init__(self) -> None:
        self.reads: list[tuple[list[UUID], int, int]] = []
        self.is_gone = False

    async def entries_between(
        self, session_ids: Sequence[UUID], after: int, upto: int
    ) -> dict[UUID, list[MemoryEntry]]:
        self.reads.append((list(session_ids), after, upto))
        if self.is_gone:
            raise psycopg.OperationalError("gone")
        found = [entry(at) for at in range(after + 1, upto + 1) if at % 10 == 0]
        return dict.fromkeys(session_ids, found)


class Desk:
    """One session's pushes with one connection, which notes the positions that it is told."""

    def __init__(self) -> None:
        self.session_id = uuid4()
        self.memory = Memory()
        self.told: list[int] = []
        self.again: asyncio.Queue[ViewMoved] = asyncio.Queue()
        self.services = cast(Services, self)
        audience = Audience(self.session_id)
        audience.join(cast(Connection, self), is_behind=False)
        self.pushes = ViewPushes(self.session_id, self.services, audience, self.again.put_nowait)

    id = uuid4()  # as a connection
    user_id = "ada"
    stream_partials = True

    def send(self, message: Message, request_id: str | None = None) -> None:
        entries = orjson.loads(message.payload)["data"]["entries"]
        self.told += [one["position"] for one in entries]

    async def updates(self, after: int, upto: int) -> list[Message]:
        """As whoever watches the views reads them, for many sessions at once."""
        found = await view_updates(
            cast(Services, Other()), "memory", [self.session_id], after, upto
        )
        return found[self.session_id]


class Other:
    """Another reader of the same rows."""

    def __init__(self) -> None:
        self.memory = Memory()


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_what_comes_with_the_message_is_told_without_another_read(desk: Desk) -> None:
    assert desk.pushes.take(ViewMoved("memory", 20, 0, await desk.updates(0, 20)))
    # Nothing of this session was between 20 and 30, so that nobody has told it of 30.
    assert desk.pushes.take(ViewMoved("memory", 40, 30, await desk.updates(30, 40)))
    assert desk.pushes.take(ViewMoved("memory", 40, 30, await desk.updates(30, 40)))

    assert desk.told == [10, 20, 40]
    assert desk.memory.reads == []


async def test_what_comes_with_more_than_is_missing_is_read_anew(desk: Desk) -> None:
    assert desk.pushes.take(ViewMoved("memory", 20, 0, await desk.updates(0, 20)))
    more = ViewMoved("memory", 40, 10, await desk.updates(10, 40))

    assert not desk.pushes.take(more)
    await desk.pushes.read(more)

    assert desk.told == [10, 20, 30, 40]


async def test_what_could_not_be_read_is_not_passed_over_by_what_comes_later(desk: Desk) -> None:
    unread = ViewMoved("memory", 20)
    desk.memory.is_gone = True
    assert not desk.pushes.take(unread)
    await desk.pushes.read(unread)
    desk.memory.is_gone = False
    later = ViewMoved("memory", 40, 20, await desk.updates(20, 40))

    assert not desk.pushes.take(later)
    await desk.pushes.read(later)

    assert desk.told == [10, 20, 30, 40]
    assert desk.pushes.take(await desk.again.get())  # it was tried again, and nothing is left
    assert desk.told == [10, 20, 30, 40]


async def test_all_live_sessions_are_read_at_once_and_one_that_wakes_meanwhile_reads_itself() -> (
    None
):
    memory = Memory()
    one, other, waking, asleep = (uuid4() for _ in range(4))

    class Directory(dict[UUID, list[ViewMoved]]):
        services = cast(Services, Other())

        def tell_live(self, session_id: UUID, message: ViewMoved) -> None:
            if session_id in self:
                self[session_id].append(message)

    class Waking(Memory):
        async def entries_between(
            self, session_ids: Sequence[UUID], after: int, upto: int
        ) -> dict[UUID, list[MemoryEntry]]:
            directory[waking] = []
            return await memory.entries_between(session_ids, after, upto)

    directory = Directory({one: [], other: []})
    cast(Any, directory.services).memory = Waking()
    moves = {
        "memory": Moves(30, 0, None, [one, other, waking, asleep]),
        "graph": Moves(10, 0, None, []),
    }
    told = ViewProgress()
    told.move("memory", 10)
    told.move("graph", 10)

    await look(cast(SessionDirectory, directory), moves, told)

    assert memory.reads == [([one, other], 10, 30)]
    for session_id in (one, other):
        (moved,) = directory[session_id]
        assert (moved.after, moved.position) == (10, 30)
        assert moved.updates is not None
        assert len(moved.updates) == 2
    assert directory[waking] == [ViewMoved("memory", 30, 10, None)]
    assert asleep not in directory
    assert told.positions == {"memory": 30, "graph": 10}
