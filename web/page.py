"""The page: the files that Vite built from `web/ui`, under a strict Content-Security-Policy."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tornado.web import HTTPError, RequestHandler

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
PATHS = ("/", "/s/[^/]+", "/monitor")  # the page itself decides what they show
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
NOT_BUILT = (
    "The page is not built: `make page` builds it in a checkout of the sources."
    " Everything else is served.\n"
)

SECURITY_HEADERS = {
    # Only files of this host. Replies of a model become elements, never HTML: with Trusted Types
    # and no policy, a browser refuses whatever would turn text into markup or code.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class PageFile:
    """One built file, read once."""

    name: str
    body: bytes

    @cached_property
    def content_type(self) -> str:
        """By its name; not the machine's own table, which differs from one to the next."""
        return CONTENT_TYPES.get(Path(self.name).suffix, "application/octet-stream")

    @cached_property
    def etag(self) -> str:
        """A name for exactly this content."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @cached_property
    def compressed(self) -> bytes | None:
        """With gzip, or None where that gains nothing."""
        if Path(self.name).suffix not in CONTENT_TYPES:
            return None
        return gzip.compress(self.body, 9, mtime=0)


def read_page(folder: Path = STATIC) -> dict[str, PageFile]:
    """The built files by name; none where the page is not built."""
    return {
        path.name: PageFile(path.name, path.read_bytes())
        for path in folder.glob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def page_routes(files: dict[str, PageFile] | None = None) -> list[Any]:
    """The routes of the page and its files."""
    shared = {"files": read_page() if files is None else files}
    return [
        (r"/static/([^/]+)", FileHandler, shared),
        *((path, PageHandler, shared) for path in PATHS),
    ]


class FileHandler(RequestHandler):
    """`/static/{name}`: a script, a style or a picture; its name changes with its content."""

    cache_control = "public, max-age=31536000, immutable"

    def initialize(self, files: dict[str, PageFile]) -> None:
        """Called by Tornado for each request."""
        self._files = files

    def set_default_headers(self) -> None:
        """On every answer, errors too."""
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)

    def get(self, name: str) -> None:
        """The file."""
        file = self._files.get(name)
        if file is None or name == INDEX:
            raise HTTPError(404)
        self.send(file)

    head = get

    def send(self, file: PageFile) -> None:
        """Answer with a file, compressed where the browser wants it, or with "you have it"."""
        self.set_header("Content-Type", file.content_type)
        self.set_header("Cache-Control", self.cache_control)
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("Etag", file.etag)
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        if file.compressed is not None and "gzip" in self.request.headers.get(
            "Accept-Encoding", ""
        ):
            self.set_header("Content-Encoding", "gzip")
            self.finish(file.compressed)
        else:
            self.finish(file.body)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors as one line of text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{self._reason}\n")


class PageHandler(FileHandler):
    """`/`, `/s/{id}` and `/monitor`: the page, which reads its own address."""

    cache_control = "no-cache"  # ask each time: it names the newest files

    def get(self, name: str = INDEX) -> None:
        """The page, or a sentence that says how to get it."""
        index = self._files.get(INDEX)
        if index is None:
            self.set_status(503)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(NOT_BUILT)
            return
        self.send(index)

    head = get
