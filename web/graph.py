"""HTTP: what a session knows."""

from typing import Any

import orjson

from actors.protocol import Code, GetGraph, RefusedError
from projections.graph import EntityDetail
from web.api import ApiHandler
from web.bodies import SparqlBody, parse_body
from web.parameters import read_request

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


class SparqlHandler(ApiHandler):
    """`/api/v1/sessions/{id}/graph/sparql`."""

    async def post(self, text: str) -> None:
        """Answer a SELECT, ASK or CONSTRUCT query; the body is the query, or JSON with `query`."""
        session_id = await self.existing(text)
        if self.request.headers.get("Content-Type", "").startswith("application/sparql-query"):
            body = parse_body(SparqlBody, orjson.dumps({"query": self._text()}))
        else:
            body = parse_body(SparqlBody, self.body)
        graph = await self.services.graph.read(session_id)
        self.answer(await self.services.sparql.query(graph, body.query))

    def _text(self) -> str:
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise RefusedError(Code.INVALID_DATA, "The query must be UTF-8 text.") from None


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
