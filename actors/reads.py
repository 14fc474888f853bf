"""What a session answers from its views: memory, search, graph."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from actors.protocol import (
    GetGraph,
    GetMemory,
    GetStatus,
    Message,
    Request,
    SearchMemory,
    rfc3339,
    timestamp,
)
from actors.services import Services
from actors.view_progress import ViewName
from events.aggregate import SessionAggregate
from events.connection import Connection
from events.session import Session
from projections.as_of import resolve_as_of
from projections.graph_formats import render
from projections.learning import FOLLOWER_OF
from projections.memory import MemoryEntry
from projections.positions import read_positions
from projections.search import Hit, MemoryIndex
from projections.set_aside import read_set_aside_of

FEW_CHARS = 10_000  # of what was found: highlights in more would hold the loop for a millisecond

ANSWERS: Mapping[type[Request], str] = {
    GetStatus: "status_response",
    GetMemory: "memory_response",
    SearchMemory: "search_response",
    GetGraph: "graph_response",
}


@dataclass(frozen=True)
class Read:
    """An answer: what the client gets, and what the log keeps of it."""

    wire: dict[str, Any]
    view_position: int
    as_of: int | None = None
    shown: tuple[str, ...] = field(default=())  # ids of what was found


@dataclass(frozen=True)
class RecordedRead:
    """How a kind of read is stored."""

    event_class: type[SessionAggregate.Event]
    what: Callable[[Any, Read], dict[str, Any]]
    is_search: bool = False

    def is_wanted(self, setting: str) -> bool:
        """Whether the operator wants it stored: all reads, searches only, or none."""
        return setting == "all" or (setting == "searches" and self.is_search)


RECORDED_READS: Mapping[type[Request], RecordedRead] = {
    GetStatus: RecordedRead(Connection.StatusRead, lambda _request, _read: {}),
    GetMemory: RecordedRead(
        Connection.MemoryRead,
        lambda request, read: {
            "kind": request.kind,
            "limit": request.limit,
            "offset": request.offset,
            "as_of": read.as_of,
            "view_position": read.view_position,
        },
    ),
    SearchMemory: RecordedRead(
        Connection.MemorySearched,
        lambda request, read: {
            "query": request.query,
            "search_type": request.kind,
            "as_of": read.as_of,
            "view_position": read.view_position,
            "results": read.shown,
        },
        is_search=True,
    ),
    GetGraph: RecordedRead(
        Connection.GraphRead,
        lambda request, read: {
            "format": request.format,
            "entity": request.entity,
            "depth": request.depth if request.entity else None,
            "as_of": read.as_of,
            "view_position": read.view_position,
        },
    ),
}


@dataclass(frozen=True)
class LiveState:
    """What only the session's actor knows."""

    connections: int
    running: UUID | None  # the turn whose reply is being written
    position: int  # the newest of the session's that it has seen


async def answer(
    request: Request, session: Session, services: Services, index: MemoryIndex, live: LiveState
) -> Read:
    """Answer one request; raises AsOfError where `as_of` is not a past."""
    match request:
        case GetStatus():
            return await _status(session, services, live)
        case GetMemory():
            return await _memory(request, session.id, services)
        case SearchMemory():
            return await _search(request, session, services, index)
        case GetGraph():
            return await _graph(request, session.id, services)
    raise TypeError(f"{request!r} is not a read")


async def _memory_updates(
    services: Services, session_ids: Sequence[UUID], after: int, upto: int
) -> dict[UUID, list[Message]]:
    """`memory_updated` messages for what was added between two positions, one for each turn."""
    found = await services.memory.entries_between(session_ids, after, upto)
    return {
        session_id: [
            Message(
                "memory_updated",
                {
                    "session_id": session_id,
                    "timestamp": timestamp(),
                    "update_type": "conversation_added",
                    "turn_id": turn_id,
                    "entries": [entry_on_the_wire(entry) for entry in group],
                },
                view_position=upto,
            )
            for turn_id, group in groupby(entries, key=lambda entry: entry.turn_id)
        ]
        for session_id, entries in found.items()
    }


async def rebuilt_message(
    services: Services, session_id: UUID, view: ViewName
) -> tuple[Message, int]:
    """What tells a client that a rebuild has replaced what it holds of a view; its view position.

    For the graph it is all of it: "forget what you hold, this is the graph".
    """
    data: dict[str, Any] = {"session_id": session_id, "timestamp": timestamp()}
    if view == "memory":
        position = (await read_positions(services.pool)).views[view]
        data |= {"update_type": "memory_rebuilt", "turn_id": None, "entries": []}
        return Message("memory_updated", data, view_position=position), position
    graph = await services.graph.read(session_id)
    data |= {
        "update_type": "graph_rebuilt",
        "added": {"nodes": graph.nodes, "edges": graph.edges},
        "removed": {"nodes": [], "edges": []},
    }
    position = graph.view_position
    return Message("graph_updated", data, view_position=position), position


async def _graph_updates(
    services: Services, session_ids: Sequence[UUID], after: int, upto: int
) -> dict[UUID, list[Message]]:
    """One `graph_updated` message for each graph that differs between two positions.

    What was learned and is not drawn is not told; what people corrected always is.
    """
    found = await services.graph.changes(session_ids, after, upto)
    return {
        session_id: [
            Message(
                "graph_updated",
                {
                    "session_id": session_id,
                    "timestamp": timestamp(),
                    "update_type": changes.update_type,
                    "added": {"nodes": changes.added_nodes, "edges": changes.added_edges},
                    "removed": {"nodes": changes.removed_nodes, "edges": changes.removed_edges},
                },
                view_position=changes.view_position,
            )
        ]
        if not changes.is_empty or changes.update_type != "knowledge_extracted"
        else []
        for session_id, changes in found.items()
    }


async def view_updates(
    services: Services, view: ViewName, session_ids: Sequence[UUID], after: int, upto: int
) -> dict[UUID, list[Message]]:
    """What tells clients of each session what a view has gained between two positions."""
    read = _memory_updates if view == "memory" else _graph_updates
    return await read(services, session_ids, after, upto)


def entry_on_the_wire(entry: MemoryEntry) -> dict[str, Any]:
    """A memory entry as clients see it."""
    return {
        "entry_id": entry.entry_id,
        "role": entry.role,
        "speaker": entry.speaker,
        "text": entry.text,
        "turn_id": entry.turn_id,
        "position": entry.position,
        "timestamp": rfc3339(entry.said_at),
    }


async def _status(session: Session, services: Services, live: LiveState) -> Read:
    positions = await read_positions(services.pool)
    memory = await services.memory.stats(session.id)
    graph = await services.graph.stats(session.id)
    turn = {"turn_id": live.running, "waiting": len(session.waiting)} if live.running else None
    domain = services.domains.get(session.config.domain)
    learned_by = FOLLOWER_OF.get(domain.extractor) if domain else None
    # A model that hangs is no lag of sessions that are learned from without one.
    others = set(FOLLOWER_OF.values()) - {learned_by}
    followers = positions.views.keys() - others
    return Read(
        {
            "status": "active",
            "title": session.title,
            "user_id": session.user_id,
            "agent_initialized": session.config.domain in services.domains,
            "memory_manager_initialized": True,
            "created_at": rfc3339(session.created_on),
            "last_activity": rfc3339(session.modified_on),
            "config": session.config,
            "model": session.config.llm_model or services.model.model,
            "connections": live.connections,
            "turn": turn,
            "turns_total": session.turns_total,
            "memory_entries": memory.conversation_count,
            "graph": {"entities": graph.node_count, "statements": graph.edge_count},
            "position": live.position,
            "lag": max(positions.lag(name) for name in followers),
            "set_aside": [
                {"projection": one.follower, "position": one.position, "topic": one.topic}
                for one in await read_set_aside_of(services.pool, session.id)
            ],
        },
        view_position=min(positions.views[name] for name in followers),
    )


async def _position(
    as_of: int | datetime | None, session_id: UUID, services: Services
) -> int | None:
    return None if as_of is None else await resolve_as_of(services.pool, session_id, as_of)


async def _memory(request: GetMemory, session_id: UUID, services: Services) -> Read:
    as_of = await _position(request.as_of, session_id, services)
    limit, offset = request.limit, request.offset
    items: Sequence[Any]
    if request.kind == "conversations":
        entries = await services.memory.entries(session_id, limit=limit, offset=offset, as_of=as_of)
        items = [entry_on_the_wire(entry) for entry in entries.entries]
        total, view_position = entries.total, entries.view_position
    elif request.kind == "entities":
        named = await services.graph.entities(session_id, limit=limit, offset=offset, as_of=as_of)
        items, total, view_position = named.entities, named.total, named.view_position
    else:
        facts = await services.graph.facts(session_id, limit=limit, offset=offset, as_of=as_of)
        items, total, view_position = facts.facts, facts.total, facts.view_position
    wire = {
        "type": request.kind,
        "data": {
            request.kind: items,
            "total": total,
            "limit": limit,
            "offset": offset,
            "has_more": offset + len(items) < total,
        },
        "view_position": view_position,
    }
    return Read(wire, view_position, as_of)


async def _search(
    request: SearchMemory, session: Session, services: Services, index: MemoryIndex
) -> Read:
    as_of = await _position(request.as_of, session.id, services)
    found = await index.search(
        request.query,
        limit=request.limit,
        offset=request.offset,
        kind=request.kind,
        role=request.filters.role,
        since=request.filters.since,
        until=request.filters.until,
        as_of=as_of,
    )
    if sum(len(hit.entry.text) for hit in found.hits) <= FEW_CHARS:
        results = _hits_on_the_wire(found.hits)
    else:
        results = await asyncio.to_thread(_hits_on_the_wire, found.hits)
    wire = {
        "query": request.query,
        "results": results,
        "total_results": found.total,
        "meaning": found.meaning,
        "took_ms": round(found.took_ms, 3),
        "view_position": found.view_position,
    }
    return Read(wire, found.view_position, as_of, tuple(hit.entry.entry_id for hit in found.hits))


def _hits_on_the_wire(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [
        {
            **entry_on_the_wire(hit.entry),
            "highlights": hit.highlights,
            "passage": (
                None if hit.passage is None else {"start": hit.passage[0], "end": hit.passage[1]}
            ),
            "relevance_score": hit.relevance_score,
            "ranks": {"keyword": hit.keyword_rank, "semantic": hit.semantic_rank},
        }
        for hit in hits
    ]


async def _graph(request: GetGraph, session_id: UUID, services: Services) -> Read:
    as_of = await _position(request.as_of, session_id, services)
    graph = await services.graph.read(
        session_id,
        as_of=as_of,
        entity=request.entity,
        depth=request.depth,
        node_limit=request.node_limit,
        edge_limit=request.edge_limit,
    )
    graph_data = await asyncio.to_thread(
        render, graph, request.format, include_metadata=request.include_metadata
    )
    wire = {
        "format": request.format,
        "graph_data": graph_data,
        "view_position": graph.view_position,
    }
    return Read(wire, graph.view_position, as_of)
