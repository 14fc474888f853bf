"""SPARQL over a session's graph, bounded in time and rows, beside the event loop."""

import asyncio
import hashlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import orjson

from projections.graph import Graph
from projections.sparql_worker import LENGTH_BYTES

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
        The facts are the default graph, and `GRAPH <urn:session:...:meta>` tells where they come
        from: see `graph_rdf`. The prefixes p: (predicates), t: (types), lw: (our terms), rdf: and
        rdfs: are known. Raises SparqlError for anything else, for what takes too long, and for too
        many rows.
        """
        encoded, digest = await asyncio.to_thread(_encode, graph)
        async with self._lock:
            process = self._process or await self._start()
            try:
                answer = await self._ask(process, encoded, digest, query)
            except (asyncio.IncompleteReadError, ConnectionError):
                self._process = None
                raise self._error_of(await process.wait()) from None
            except BaseException:
                await self._stop()  # the answer may still come
                raise
        if "error" in answer:
            raise SparqlError(answer["error"])
        result: dict[str, Any] = answer["answer"]
        return result

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._stop()

    async def _ask(
        self, process: Process, encoded: bytes, digest: bytes, query: str
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        request = orjson.dumps(
            {
                "graph": None if digest == self._loaded else orjson.Fragment(encoded),
                "query": query,
                "time_limit_s": self._time_limit_s,
            }
        )
        process.stdin.write(len(request).to_bytes(LENGTH_BYTES, "big") + request)
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        answer: dict[str, Any] = orjson.loads(await process.stdout.readexactly(length))
        self._loaded = digest
        return answer

    async def _start(self) -> Process:
        """Start the process, with the modules that this one sees and nothing else of its world."""
        self._loaded = b""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "utf8", "-m", "projections.sparql_worker"),
            env={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            stdin=PIPE,
            stdout=PIPE,
        )
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def _error_of(self, status: int) -> SparqlError:
        if status == -signal.SIGALRM:
            return SparqlError(f"The query was stopped after {self._time_limit_s:g} seconds.")
        return SparqlError("The query was stopped: it needs more memory than one may have.")


def _encode(graph: Graph) -> tuple[bytes, bytes]:
    """What the process needs of a graph, and what tells it from others."""
    encoded = orjson.dumps(
        {"session_id": graph.session_id, "nodes": graph.nodes, "edges": graph.edges}
    )
    return encoded, hashlib.blake2b(encoded).digest()
