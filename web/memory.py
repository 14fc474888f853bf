"""HTTP: what a session remembers."""

from actors.protocol import GetMemory, SearchMemory, parse_data
from web.api import ApiHandler
from web.bodies import parse_object
from web.parameters import read_request


class MemoryHandler(ApiHandler):
    """`/api/v1/sessions/{id}/memory`."""

    async def get(self, text: str) -> None:
        """What is remembered: conversations, entities or facts."""
        names = {"type": str, "limit": int, "offset": int, "as_of": str}
        read = await self.read(self.session_id(text), read_request(self, GetMemory, names))
        data = read["data"]
        pagination = {name: data.pop(name) for name in ("limit", "offset", "has_more")}
        self.answer(
            {
                "data": data[read["type"]],
                "total": data["total"],
                "pagination": pagination,
                "view_position": read["view_position"],
            }
        )


class SearchHandler(ApiHandler):
    """`/api/v1/sessions/{id}/memory/search`."""

    async def post(self, text: str) -> None:
        """Search what was said."""
        request = parse_data(SearchMemory, parse_object(self.body))
        found = await self.read(self.session_id(text), request)
        self.answer(
            {
                "results": found["results"],
                "relevance_scores": [result["relevance_score"] for result in found["results"]],
                "total": found["total_results"],
                "query": found["query"],
                "meaning": found["meaning"],
                "took_ms": found["took_ms"],
                "view_position": found["view_position"],
            }
        )


class MemoryStatsHandler(ApiHandler):
    """`/api/v1/sessions/{id}/memory/stats`."""

    async def get(self, text: str) -> None:
        """How much is remembered."""
        session_id = await self.existing(text)
        memory = await self.services.memory.stats(session_id)
        graph = await self.services.graph.stats(session_id)
        self.answer(
            {
                "conversation_count": memory.conversation_count,
                "entity_count": graph.node_count,
                "relationship_count": graph.edge_count,
                "total_memory_size": memory.text_bytes,
            }
        )
