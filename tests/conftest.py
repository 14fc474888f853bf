"""What tests share: one PostgreSQL server a run, one database a test module."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from lorewire.database import migrate


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server on which databases may be created: DATABASE_URL's, or an embedded one."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    from lorewire.postgres import EmbeddedPostgres

    # Not pytest's own folder: as root, PostgreSQL runs as another user, who must reach its data.
    folder = Path(tempfile.mkdtemp(prefix="lorewire-tests-", dir="/tmp"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def database_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    with temporary_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def migrated_database_url(database_url: str) -> str:
    """The URL of a database that has our tables."""
    migrate(database_url)
    return database_url


class temporary_database:  # noqa: N801  (used as a function)
    """A database that exists while the `with` block runs."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._name = f"test_{uuid4().hex}"

    def __enter__(self) -> str:
        with psycopg.connect(self._server_url, autocommit=True) as conn:
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(self._name)))
        return url_of(self._server_url, self._name)

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as conn:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(self._name)))


def url_of(server_url: str, database: str) -> str:
    """The URL of another database on the same server."""
    head, _, query = server_url.partition("?")
    scheme, _, rest = head.partition("://")
    authority = rest.partition("/")[0]
    url = f"{scheme}://{authority}/{database}" + (f"?{query}" if query else "")
    make_conninfo(url)  # fails here rather than later
    return url
