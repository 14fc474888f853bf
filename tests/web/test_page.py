"""The page as files: what a browser gets, under which rules."""

import gzip
import re
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tests.harness import Server
from web.page import STATIC, page_routes, read_page

FIRST_VIEW_BYTES = 150_000  # with gzip, without the library that draws graphs


def test_the_first_view_is_small() -> None:
    files = read_page()
    index = files["index.html"].body.decode()

    first = ["index.html", *re.findall(r"/static/([^\"]+)", index)]
    sizes = {name: len(files[name].compressed or b"") for name in first}

    assert any(name.endswith(".js") for name in first)
    assert not any("graph_canvas" in name for name in first)
    assert sum(sizes.values()) < FIRST_VIEW_BYTES, sizes


def test_the_page_names_no_other_host() -> None:
    for file in read_page().values():
        if file.name.endswith((".html", ".css")):
            assert not re.search(rb"(src|href|url\()\W{0,3}(https?:)?//", file.body), file.name


async def test_every_address_of_the_page_gets_it_under_a_strict_policy(server: Server) -> None:
    for path in ("/", "/s/123e4567-e89b-12d3-a456-426614174000", "/monitor"):
        response = await server.fetch("GET", path)

        assert response.code == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert b"<script" in response.body
        assert not re.search(rb"<script[^>]*>[^<]", response.body)  # nothing inline


async def test_files_are_kept_by_browsers_and_come_compressed(server: Server) -> None:
    name = next(path.name for path in STATIC.glob("index-*.js"))
    plain = await server.fetch("GET", f"/static/{name}")
    etag = plain.headers["Etag"]

    packed = await server.fetch("GET", f"/static/{name}", headers={"Accept-Encoding": "gzip"})
    again = await server.fetch("GET", f"/static/{name}", headers={"If-None-Match": etag})

    assert "immutable" in plain.headers["Cache-Control"]
    assert packed.body == plain.body or gzip.decompress(packed.body) == plain.body
    assert again.code == 304
    assert again.body == b""


async def test_no_other_file_is_served(server: Server) -> None:
    for path in ("/static/nothing.js", "/static/.built", "/static/..%2Fpage.py", "/static/%2e%2e"):
        response = await server.fetch("GET", path)

        assert response.code == 404, path


async def test_a_server_whose_page_is_not_built_says_how_to_get_it() -> None:
    [socket] = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application(page_routes({})))
    server.add_socket(socket)
    port = socket.getsockname()[1]

    response = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/", raise_error=False)
    server.stop()
    await server.close_all_connections()

    assert response.code == 503
    assert "make page" in response.body.decode()


def test_a_page_that_is_not_built_has_no_files(tmp_path: Path) -> None:
    assert read_page(tmp_path) == {}
    assert read_page(tmp_path / "nowhere") == {}
