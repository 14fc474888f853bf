"""Corrections of what a session has learned: each is an event, and is told to all by the views."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from actors.live_session import MAX_DECISIONS, SNAPSHOT_EVERY
from actors.patience import patiently
from actors.protocol import (
    Code,
    MergeEntities,
    RefusedError,
    Request,
    RetractStatement,
    SplitEntities,
)
from actors.services import Services
from events.aggregate import Cause
from events.journal import StreamConflictError
from events.knowledge import Knowledge, MergeIsSplitError, SameEntityError, knowledge_id
from projections.corrections import (
    ShownEntity,
    StatementIsRetractedError,
    UnknownMergeError,
    UnknownStatementError,
    read_entity,
    read_merge,
    read_statement,
)
from projections.graph_parts import UnknownEntityError

VIEW_WAITS_S = 1.0  # for the view to know of the correction before, and of what was just learned

CORRECTIONS = (RetractStatement, MergeEntities, SplitEntities)

Decision = Callable[[Knowledge], dict[str, Any]]


@dataclass(frozen=True)
class Corrected:
    """What the asker is told."""

    wire: dict[str, Any]
    position: int  # of the stored event

    @property
    def data(self) -> dict[str, Any]:
        """As HTTP answers it."""
        return {**self.wire, "position": self.position}


class Curator:
    """Carries out corrections for one session's actor, one at a time.

    What there is to correct, the view knows; what people have corrected, the aggregate. The view
    may be behind: it is waited for, for a while. An event about something that is gone by the time
    it is stored changes nothing.
    """

    def __init__(self, session_id: UUID, services: Services) -> None:
        self._session_id = session_id
        self._services = services
        self._position = 0  # of the last correction made here

    async def correct(self, request: Request, cause: Cause) -> Corrected:
        """Store a correction, or refuse it.

        Raises UnknownStatementError, UnknownEntityError, UnknownMergeError, CurationError where it
        makes no sense, StreamConflictError where other writers are faster each time, and
        LogUnavailableError: then it is unknown whether it is stored.
        """
        if self._position:
            told = self._services.told
            await told.has_come_within("graph", self._position, VIEW_WAITS_S)
        for _ in range(MAX_DECISIONS):
            knowledge = await asyncio.to_thread(
                self._services.log.load, Knowledge, knowledge_id(self._session_id)
            )
            wire = await self._decide(request, knowledge, cause)
            assert knowledge is not None, "what is in the graph comes from its events"
            events = list(knowledge.collect_events())
            try:
                positions = await self._services.journal.append(events)
            except StreamConflictError:
                continue  # the learning policy was faster: load and decide again
            self._position = positions[-1]
            if knowledge.version % SNAPSHOT_EVERY == 0:
                self._take_snapshot(knowledge)
            return Corrected(wire, positions[-1])
        raise StreamConflictError(
            f"The knowledge of session {self._session_id} is being changed elsewhere. Try again."
        )

    async def _decide(
        self, request: Request, knowledge: Knowledge | None, cause: Cause
    ) -> dict[str, Any]:
        match request:
            case RetractStatement():
                return await self._retract(request, knowledge, cause)
            case MergeEntities():
                return await self._merge(request, knowledge, cause)
            case SplitEntities():
                return await self._split(request, knowledge, cause)
        raise TypeError(f"{request!r} is not a correction")

    async def _retract(
        self, request: RetractStatement, knowledge: Knowledge | None, cause: Cause
    ) -> dict[str, Any]:
        statement_id = request.statement_id
        state = await patiently(
            lambda: read_statement(self._services.pool, self._session_id, statement_id)
        )
        if knowledge is None or state is None:
            raise UnknownStatementError(statement_id)
        if state.ended_reason == "retracted":
            raise StatementIsRetractedError(statement_id)
        knowledge.retract_statement(statement_id, reason=request.reason, cause=cause)
        return {"statement_id": statement_id, "retracted": True}

    async def _merge(
        self, request: MergeEntities, knowledge: Knowledge | None, cause: Cause
    ) -> dict[str, Any]:
        kept, merged = await self._entity(request.kept), await self._entity(request.merged)
        if kept.entity_id == merged.entity_id or knowledge is None:
            raise SameEntityError(request.kept, request.merged)
        merge_id = uuid4()
        knowledge.merge_entities(
            merge_id,
            kept_id=kept.entity_id,
            merged_id=merged.entity_id,
            kept_name=kept.name,
            merged_name=merged.name,
            cause=cause,
        )
        return {"merge_id": merge_id, "kept": _reference(kept), "merged": _reference(merged)}

    async def _entity(self, entity: str) -> ShownEntity:
        found = await patiently(lambda: read_entity(self._services.pool, self._session_id, entity))
        if found is None:
            raise UnknownEntityError(entity)
        if found.is_literal:
            raise RefusedError(
                Code.INVALID_DATA, f"{found.name!r} is a date, a number or a text, and no entity."
            )
        return found

    async def _split(
        self, request: SplitEntities, knowledge: Knowledge | None, cause: Cause
    ) -> dict[str, Any]:
        merge_id = request.merge_id
        is_automatic = False
        if knowledge is None or merge_id not in knowledge.merges:
            row = await patiently(
                lambda: read_merge(self._services.pool, self._session_id, merge_id)
            )
            if knowledge is None or row is None:
                raise UnknownMergeError(merge_id)
            if not row.is_standing:
                raise MergeIsSplitError(merge_id)
            is_automatic = row.made_by != "person"
        knowledge.split_entities(merge_id, is_automatic=is_automatic, cause=cause)
        return {"merge_id": merge_id, "split": True}

    def _take_snapshot(self, knowledge: Knowledge) -> None:
        snapshot = Knowledge.Snapshot.take(knowledge)
        put = asyncio.to_thread(self._services.log.put_snapshot, snapshot)
        self._services.keep(asyncio.create_task(put))


def _reference(entity: ShownEntity) -> dict[str, str]:
    return {"id": entity.entity_id, "name": entity.name}
