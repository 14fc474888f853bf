"""An embedding server that answers as a test wants, over the real protocol and a real socket."""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

MODEL = "spelled"


class EmbeddingServer:
    """An OpenAI-compatible server on a free loopback port, in a thread: those who ask it block.

    A vector counts the words of its text, each in the place that its spelling gives it, so that
    texts with the same words are near. What is set applies to all requests from then on.
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.requests: list[dict[str, Any]] = []
        self.status = 200
        self.body: bytes | None = None  # in place of what is right
        self.knows_dimensions = True  # the option of that name
        self.max_characters = 10**9  # a longer text is refused
        self.max_texts = 10**9  # a request with more is refused
        self.refused_words: set[str] = set()
        self.fail_after: int | None = None  # requests that are answered before all others fail
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = server.answer(request)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def serve(self) -> None:
        """Answer until `close`."""
        self._http.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """End."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body."""
        self.requests.append(request)
        if self.fail_after is not None and len(self.requests) > self.fail_after:
            return 503, _error("overloaded")
        if self.status != 200 or self.body is not None:
            return self.status, self.body or _error("as asked")
        if "dimensions" in request and not self.knows_dimensions:
            return 400, _error("unknown field dimensions")
        texts: list[str] = request["input"]
        words = {word for text in texts for word in text.split()}
        if words & self.refused_words or len(texts) > self.max_texts:
            return 400, _error("refused")
        if any(len(text) > self.max_characters for text in texts):
            return 400, _error("the input is too long")
        data = [
            {"object": "embedding", "index": n, "embedding": self.vector(text)}
            for n, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "data": data[::-1], "model": MODEL, "usage": usage}
        return 200, orjson.dumps(answer)

    def vector(self, text: str) -> list[float]:
        """What the text is answered with; longer than 1, as many servers do."""
        vector = [0.0] * self.dimensions
        for word in text.lower().split():
            vector[zlib.crc32(word.strip("?.!,:").encode()) % self.dimensions] += 1.0
        return vector


@contextmanager
def embedding_server(dimensions: int = 8) -> Iterator[EmbeddingServer]:
    """A server that runs while the `with` block does."""
    server = EmbeddingServer(dimensions)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10)


def _error(message: str) -> bytes:
    return orjson.dumps({"error": {"message": message}})
