"""A model server that says what a test wants, over the real protocol and a real socket."""

import argparse
import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import orjson
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

MODEL = "scripted"


class ScriptedModel:
    """An OpenAI-compatible server on a free loopback port.

    By default it answers "You said: <the last user message>", a word at a time. What is set
    applies to all requests from then on, but `say` queues one reply.
    """

    def __init__(self, *, port: int = 0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []  # of the requests
        self.piece_delay_s = 0.0
        self.counts_tokens = True
        self.refuses_usage_option = False
        self.refuses_response_format = False
        self.answer: Callable[[dict[str, Any]], str] | None = None  # made of the whole request
        self._replies: deque[list[str]] = deque()
        self._hang_after: int | None = None
        self._cut_after: int | None = None
        self._failure: tuple[int, bytes] | None = None
        self._nonsense: bytes | None = None
        self._is_free = asyncio.Event()
        self._is_free.set()
        self._held_after = 0
        self.open_streams = 0
        app = Application(
            [
                (r"/v1/models", _Models, {"model": self}),
                (r"/v1/chat/completions", _Completions, {"model": self}),
            ],
            log_function=lambda _handler: None,
        )
        self._sockets = bind_sockets(port, "127.0.0.1")
        self._server = HTTPServer(app)
        self.url = f"http://127.0.0.1:{self._sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> "ScriptedModel":
        self._server.add_sockets(self._sockets)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_free.set()
        self._server.stop()
        await self._server.close_all_connections()

    def say(self, *pieces: str) -> None:
        """Answer the next request that has no reply yet with these pieces."""
        self._replies.append(list(pieces))

    def hold(self, *, after: int = 0) -> None:
        """Send nothing, or so many pieces of each reply, until `release`."""
        self._held_after = after
        self._is_free.clear()

    def release(self) -> None:
        """Go on."""
        self._is_free.set()

    def hang_after(self, pieces: int | None) -> None:
        """Stop sending after so many pieces, without closing."""
        self._hang_after = pieces

    def cut_after(self, pieces: int | None) -> None:
        """Cut the connection after so many pieces."""
        self._cut_after = pieces

    def fail(self, status: int, body: bytes = b'{"error": {"message": "as asked"}}') -> None:
        """Answer every request with an HTTP error."""
        self._failure = (status, body)

    def talk_nonsense(self, body: bytes) -> None:
        """Answer every request with a body that is no stream of completions."""
        self._nonsense = body

    def behave(self) -> None:
        """Be a good server again."""
        self._failure = self._nonsense = self._hang_after = self._cut_after = None
        self._is_free.set()

    def _next_reply(self, request: dict[str, Any]) -> list[str]:
        if self._replies:
            return self._replies.popleft()
        if self.answer is not None:
            return [self.answer(request)]
        words = f"You said: {request['messages'][-1]['content']}".split(" ")
        return [words[0], *(f" {word}" for word in words[1:])]


class _Models(RequestHandler):
    def initialize(self, model: ScriptedModel) -> None:
        self._model = model

    def get(self) -> None:
        if self._model._failure is not None:
            self.set_status(self._model._failure[0])
            self.finish(self._model._failure[1])
            return
        self.finish({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


class _Completions(RequestHandler):
    def initialize(self, model: ScriptedModel) -> None:
        self._model = model
        self._is_gone = asyncio.Event()

    def on_connection_close(self) -> None:
        self._is_gone.set()

    async def post(self) -> None:
        model = self._model
        request = orjson.loads(self.request.body)
        model.requests.append(request)
        model.authorizations.append(self.request.headers.get("Authorization"))
        if model.refuses_usage_option and "stream_options" in request:
            self.set_status(400)
            self.finish({"error": {"message": "unknown field stream_options"}})
            return
        if model.refuses_response_format and "response_format" in request:
            self.set_status(400)
            self.finish({"error": {"message": "unknown field response_format"}})
            return
        if model._failure is not None:
            self.set_status(model._failure[0])
            self.set_header("Content-Type", "application/json")
            self.finish(model._failure[1])
            return
        self.set_header("Content-Type", "text/event-stream")
        if model._nonsense is not None:
            self.finish(model._nonsense)
            return
        model.open_streams += 1
        try:
            await self._stream(request, model._next_reply(request))
        except StreamClosedError:
            pass
        finally:
            model.open_streams -= 1

    async def _stream(self, request: dict[str, Any], pieces: list[str]) -> None:
        model = self._model
        await self._send({"role": "assistant", "content": None})
        for number, piece in enumerate(pieces):
            if number >= model._held_after:
                await self._unless_gone(model._is_free.wait)
            if number == model._cut_after:
                self.request.connection.stream.close()  # type: ignore[union-attr]
                return
            if number == model._hang_after:
                await self._is_gone.wait()
                return
            if model.piece_delay_s:
                await asyncio.sleep(model.piece_delay_s)
            await self._send({"content": piece})
        await self._send({}, finish_reason="stop")
        if model.counts_tokens and request.get("stream_options", {}).get("include_usage"):
            usage = {
                "prompt_tokens": sum(len(m["content"]) for m in request["messages"]) // 4,
                "completion_tokens": len(pieces),
                "total_tokens": 0,
            }
            await self._send(None, usage=usage)
        self.write(b"data: [DONE]\n\n")
        self.finish()

    async def _unless_gone(self, wait: Callable[[], Any]) -> None:
        waiting = [asyncio.ensure_future(wait()), asyncio.ensure_future(self._is_gone.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if self._is_gone.is_set():
            raise StreamClosedError

    async def _send(
        self,
        delta: dict[str, Any] | None,
        *,
        finish_reason: str | None = None,
        usage: dict[str, int] | None = None,
    ) -> None:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": MODEL,
            "choices": [] if delta is None else choices,
            "usage": usage,
        }
        self.write(b"data: %b\n\n" % orjson.dumps(chunk))
        await self.flush()


async def serve(port: int) -> None:
    """Run until killed, as a process of its own."""
    async with ScriptedModel(port=port) as model:
        print(json.dumps({"url": model.url, "model": MODEL}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
