"""A client that comes back: what it has missed, from the log and from the views."""

import asyncio
import logging
from dataclasses import dataclass
from uuid import UUID

from actors import reads
from actors.protocol import Message, timestamp
from actors.services import Services
from actors.stored_messages import TOLD, message_of
from events.log import Recorded, Unreadable

logger = logging.getLogger(__name__)

PAGE = 500  # messages that are sent before the reader must have read most of them


@dataclass(frozen=True)
class Resume:
    """Where a client was when it lost its connection."""

    epoch: str
    after: int  # the newest position that it has seen
    graph_after: int  # how far its graph goes

    def fits(self, epoch: str, head: int) -> bool:
        """Whether these positions mean something in this log."""
        return self.epoch == epoch and self.after <= head


@dataclass(frozen=True)
class Missed:
    """Stored events that clients are told about, in order, each with its message."""

    messages: list[tuple[Message, Recorded]]
    upto: int  # the position of the last one
    is_last: bool  # False: there may be more


async def read_missed(services: Services, session_id: UUID, after: int) -> Missed:
    """The next page of the stored messages of a session that follow a position."""
    page = await asyncio.to_thread(
        services.log.read_topics, session_id, TOLD, after=after, limit=PAGE
    )
    messages: list[tuple[Message, Recorded]] = []
    for one in page:
        if isinstance(one, Unreadable):
            logger.error("Event %d can't be replayed to clients: %s", one.position, one.error)
            continue
        message = message_of(one.event, one.position)
        assert message is not None, f"{type(one.event)} is among {TOLD}"
        messages.append((message, one))
    upto = page[-1].position if page else after
    return Missed(messages, upto, is_last=len(page) < PAGE)


async def missed_by_views(
    services: Services, session_id: UUID, resume: Resume, *, memory: int, graph: int
) -> list[Message]:
    """What the views have gained meanwhile, up to the positions that other clients know."""
    moved = Message(
        "memory_updated",
        {
            "session_id": session_id,
            "timestamp": timestamp(),
            "update_type": "conversation_added",
            "turn_id": None,
            "entries": [],
        },
        view_position=memory,
    )
    return [moved, *await _missed_by_graph(services, session_id, resume.graph_after, graph)]


async def _missed_by_graph(
    services: Services, session_id: UUID, after: int, upto: int
) -> list[Message]:
    if after == upto:
        return []
    rebuilt_position = await services.graph.rebuilt_position()
    if after > upto or 0 < rebuilt_position >= after:
        # A view that lost its newest rows with the database, or was made anew.
        message, _ = await reads.rebuilt_message(services, session_id, "graph")
        return [message]
    updates = await reads.view_updates(services, "graph", [session_id], after, upto)
    return updates[session_id]
