"""HTTP: what a session knows."""

from typing import Any

import orjson
from pydantic import Field

from actors.messages import Correct
from actors.protocol import (
    AsOf,
    Code,
    GetGraph,
    MergeEntities,
    RefusedError,
    Request,
    RetractStatement,
    SplitEntities,
    parse_data,
    refuse_nul,
    rfc3339,
)
from events.aggregate import Cause
from projections.as_of import resolve_as_of
from projections.corrections import MergeRow, read_merges
from projections.graph_parts import EntityDetail
from web.api import ApiHandler
from web.bodies import SparqlBody, parse_body, parse_object
from web.parameters import read_request, user_id

CONTENT_TYPES = {
    "turtle": "text/turtle; charset=utf-8",
    "json-ld": "application/ld+json; charset=utf-8",
    "graphml": "application/graphml+xml; charset=utf-8",
}


class GraphHandler(ApiHandler):
    """`/api/v1/sessions/{id}/graph`."""

    async def get(self, text: str) -> None:
        """The knowledge graph, in the format that is asked for."""
        names = {
            "format": str,
            "include_metadata": bool,
            "entity": str,
            "depth": int,
            "node_limit": int,
            "edge_limit": int,
            "as_of": str,
        }
        request = read_request(self, GetGraph, names)
        assert isinstance(request, GetGraph)
        if self.get_query_argument("format", None) is None:
            request = request.model_copy(update={"format": self._accepted_format()})
        read = await self.read(self.session_id(text), request)
        graph = read["graph_data"]
        if isinstance(graph, str):
            self.set_header("Content-Type", CONTENT_TYPES[request.format])
            self.finish(graph)
            return
        links = graph["links"] if request.format == "d3" else graph["edges"]
        stats = {"nodes": len(graph["nodes"]), "edges": len(links)}
        self.answer({**graph, "stats": stats, "view_position": read["view_position"]})

    def _accepted_format(self) -> str:
        accepted = self.request.headers.get("Accept", "")
        for format_, content_type in CONTENT_TYPES.items():
            if content_type.partition(";")[0] in accepted:
                return format_
        return "json"


class GraphStatsHandler(ApiHandler):
    """`/api/v1/sessions/{id}/graph/stats`."""

    async def get(self, text: str) -> None:
        """How large the graph is."""
        self.answer(await self.services.graph.stats(await self.existing(text)))


class EntityHandler(ApiHandler):
    """`/api/v1/sessions/{id}/graph/entity/{entity_id}`."""

    async def get(self, text: str, entity_id: str = "") -> None:
        """One entity with its relationships."""
        session_id = await self.existing(text)
        entity = await self.services.graph.entity(session_id, entity_id)
        if entity is None:
            raise RefusedError(
                Code.NOT_FOUND, f"`entity_id` {entity_id[:100]!r} is no entity of this session."
            )
        self.answer(_entity_on_the_wire(entity))


class CorrectionHandler(ApiHandler):
    """What commands that correct the graph share."""

    async def correct(
        self, text: str, request_class: type[Request], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Have the session store a correction; what it led to."""
        session_id = self.session_id(text)
        refuse_nul(data, None)
        request = parse_data(request_class, data)
        cause = Cause(user_id(self) or "anonymous")
        corrected = await self.directory.ask(session_id, Correct(request, cause))
        return {"session_id": session_id, **corrected.data}


class StatementHandler(CorrectionHandler):
    """`/api/v1/sessions/{id}/graph/statements/{statement_id}`."""

    async def delete(self, text: str, statement_id: str) -> None:
        """Retract a statement; `reason` says why."""
        data = {"statement_id": statement_id, "reason": self.get_query_argument("reason", None)}
        self.answer(await self.correct(text, RetractStatement, data))


class ListMerges(Request):
    """The parameters of the list of merges."""

    type = "list_merges"
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, lt=2**31)
    as_of: AsOf | None = None


class MergesHandler(CorrectionHandler):
    """`/api/v1/sessions/{id}/graph/merges`."""

    async def get(self, text: str) -> None:
        """Which entities were made one, by people and by rules."""
        request = read_request(self, ListMerges, {"limit": int, "offset": int, "as_of": str})
        assert isinstance(request, ListMerges)
        session_id = await self.existing(text)
        pool = self.services.pool
        as_of = None
        if request.as_of is not None:
            as_of = await resolve_as_of(pool, session_id, request.as_of)
        page = await read_merges(
            pool, session_id, limit=request.limit, offset=request.offset, as_of=as_of
        )
        self.answer(
            {
                "merges": [_merge_on_the_wire(merge) for merge in page.merges],
                "total": page.total,
                "view_position": page.view_position,
            }
        )

    async def post(self, text: str) -> None:
        """Merge two entities."""
        self.answer(await self.correct(text, MergeEntities, parse_object(self.body)), status=201)


class MergeHandler(CorrectionHandler):
    """`/api/v1/sessions/{id}/graph/merges/{merge_id}`."""

    async def delete(self, text: str, merge_id: str) -> None:
        """Take a merge back."""
        self.answer(await self.correct(text, SplitEntities, {"merge_id": merge_id}))


class SparqlHandler(ApiHandler):
    """`/api/v1/sessions/{id}/graph/sparql`."""

    async def post(self, text: str) -> None:
        """Answer a SELECT, ASK or CONSTRUCT query; the body is the query, or JSON with `query`."""
        session_id = await self.existing(text)
        if self.request.headers.get("Content-Type", "").startswith("application/sparql-query"):
            body = parse_body(SparqlBody, orjson.dumps({"query": self._text()}))
        else:
            body = parse_body(SparqlBody, self.body)
        view = self.services.graph
        as_of = None
        if body.as_of is not None:
            as_of = await resolve_as_of(self.services.pool, session_id, body.as_of)
        answer = await self.services.sparql.query(
            body.query,
            moment=await view.moment(session_id, as_of=as_of),
            read=lambda: view.history(session_id, as_of=as_of),
        )
        self.answer(answer)

    def _text(self) -> str:
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise RefusedError(Code.INVALID_DATA, "The query must be UTF-8 text.") from None


def _merge_on_the_wire(merge: MergeRow) -> dict[str, Any]:
    return {
        "merge_id": merge.merge_id,
        "kept": {"id": merge.kept_id, "name": merge.kept_name},
        "merged": {"id": merge.merged_id, "name": merge.merged_name},
        "made_by": merge.made_by,
        "user_id": merge.user_id,
        "made_at": rfc3339(merge.made_at),
        "position": merge.position,
    }


def _entity_on_the_wire(entity: EntityDetail) -> dict[str, Any]:
    node = entity.node
    return {
        "entity_id": node.id,
        "type": node.type,
        "properties": {"name": node.name, "description": node.description, **node.metadata},
        "relationships": [
            {
                "type": relationship.edge.type,
                "target_entity": {
                    "entity_id": relationship.other.id,
                    "name": relationship.other.name,
                    "type": relationship.other.type,
                },
                "properties": {
                    "statement_id": relationship.edge.id,
                    "direction": "outgoing" if relationship.is_outgoing else "incoming",
                    **relationship.edge.metadata,
                },
            }
            for relationship in entity.relationships
        ],
    }
