"""SPARQL over a session's graph, bounded in time and rows, beside the event loop."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from projections.graph_parts import History, Moment
from projections.sparql_worker import LENGTH_BYTES, MAX_GRAPHS

TIME_LIMIT_S = 2.0  # a query with a purpose takes some milliseconds


class SparqlError(ValueError):
    """The query is not answered; the text is a sentence for the client."""


class SparqlEngine:
    """Answers queries one after the other, in a process of its own that is started when needed."""

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._loaded: OrderedDict[Moment, int] = OrderedDict()  # as the process has them, numbered
        self._number = 0

    async def query(
        self, query: str, *, moment: Moment, read: Callable[[], Awaitable[History]]
    ) -> dict[str, Any]:
        """Answer a SELECT, ASK or CONSTRUCT query over the graph of one moment.

        `read` gives it, and is called where it is not at hand.

        SELECT and ASK give SPARQL 1.1 JSON results, CONSTRUCT a JSON-LD object `{"@graph": [...]}`.
        The facts are the default graph, and `GRAPH <urn:session:...:meta>` tells where they come
        from: see `graph_rdf`, whose prefixes are known. Raises SparqlError for anything else, for
        what takes too long, and for too many rows.
        """
        async with self._lock:
            process = self._process or await self._start()
            history = None
            if moment not in self._loaded:
                read_history = await read()
                moment = read_history.moment  # it may have moved on
                if moment not in self._loaded:
                    history = await asyncio.to_thread(_encode, read_history)
            try:
                answer = await self._ask(process, moment, history, query)
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
        self, process: Process, moment: Moment, history: bytes | None, query: str
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        if history is not None:  # the process does the same with its graphs
            while len(self._loaded) >= MAX_GRAPHS:
                self._loaded.popitem(last=False)
            self._number += 1
            self._loaded[moment] = self._number
        self._loaded.move_to_end(moment)
        request = orjson.dumps(
            {
                "number": self._loaded[moment],
                "history": None if history is None else orjson.Fragment(history),
                "query": query,
                "time_limit_s": self._time_limit_s,
            }
        )
        process.stdin.write(len(request).to_bytes(LENGTH_BYTES, "big") + request)
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        answer: dict[str, Any] = orjson.loads(await process.stdout.readexactly(length))
        return answer

    async def _start(self) -> Process:
        """Start the process, with the modules that this one sees and nothing else of its world."""
        self._loaded.clear()
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


def _encode(history: History) -> bytes:
    return orjson.dumps(
        {
            "session_id": history.moment.session_id,
            "nodes": history.nodes,
            "accounts": history.accounts,
        }
    )
