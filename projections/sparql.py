"""SPARQL over a session's graph, bounded in time and rows, beside the event loop."""

import asyncio
import hashlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict
from typing import Any

import orjson

from projections.graph import Graph
from projections.sparql_worker import LENGTH_BYTES, framed

TIME_LIMIT_S = 2.0  # a query with a purpose takes some milliseconds


class SparqlError(ValueError):
    """The query is not answered; the text is a sentence for the client."""


class SparqlEngine:
    """Answers queries one after the other, in a process of its own that is started when needed."""

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._loaded = b""  # digest of the graph that the process holds

    async def query(self, graph: Graph, query: str) -> dict[str, Any]:
        """Answer a SELECT, ASK or CONSTRUCT query over the facts of a graph.

        SELECT and ASK give SPARQL 1.1 JSON results, CONSTRUCT a JSON-LD object `{"@graph": [...]}`.
        The facts are the default graph, `GRAPH <urn:session:...:meta>` has where they come from; see
        `graph_rdf`. Prefixes p: (predicates), t: (types), lw: (our terms), rdf:, rdfs: are known.
        Raises SparqlError for anything else, for what takes too long, and for too many rows.
        """
        encoded, digest = await asyncio.to_thread(_encode, graph)
        async with self._lock:
            process = self._process or await self._start()
            try:
                return await self._ask(process, encoded, digest, query)
            except (asyncio.IncompleteReadError, ConnectionError):
                status = await process.wait()
                self._process = None
                raise self._error(status) from None
            except BaseException as error:
                if not isinstance(error, SparqlError):  # an answer may still be in the pipe
                    await self._stop()
                raise

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._stop()
