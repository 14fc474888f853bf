"""What fault tests share: a database of their own that can be killed, servers as processes, a load
of clients that remember what they were told, and the questions that are asked afterwards."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import psutil
import psycopg
from psycopg import sql
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.websocket import WebSocketClosedError, websocket_connect

from events.log import Log, Recorded
from events.session import Session
from language.domains import load_domains
from lorewire.database import migrate
from lorewire.postgres import EmbeddedPostgres
from projections.follower import Projection
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.positions import POSITION_OF
from projections.sessions import SessionsProjection
from tests.harness import Socket

START_S = 60.0
PATIENCE_S = 60.0  # until everything that has to come has come, on a busy machine
SCRATCH_VERSION = 1_000_000  # of view rows that nobody reads

ENDS = (Session.ReplyCompleted, Session.ReplyFailed, Session.ReplyCancelled)


class Database:
    """A PostgreSQL server of a test's own, which may be killed and started again."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.mkdtemp(prefix="lorewire-faults-", dir="/tmp"))
        self._folder.chmod(0o755)  # as root, the server has a user of its own
        self.url = ""

    def start(self) -> None:
        """Start it, with what it had."""
        self.url = EmbeddedPostgres(self._folder / "postgres").start()

    def kill(self) -> None:
        """As when the machine loses its power: no process of it gets to do anything more."""
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)

    def remove(self) -> None:
        """Kill it and delete what it had."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _processes(self) -> list[psutil.Process]:
        folder = str(self._folder / "postgres")
        return [
            process
            for process in psutil.process_iter(["name", "cwd"])
            if process.info["name"] == "postgres" and process.info["cwd"] == folder
        ]


@contextlib.contextmanager
def own_database(folder: Path | None = None) -> Iterator[Database]:
    """A migrated database on a server of its own."""
    database = Database(folder)
    try:
        database.start()
        migrate(database.url)
        yield database
    finally:
        database.remove()


@dataclass
class Serving:
    """A `lorewire serve` process."""

    process: Process
    url: str
    sockets: list[Socket] = field(default_factory=list)

    async def kill(self) -> None:
        """End it at once; its projector ends by itself."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def open_session(self, **body: Any) -> UUID:
        """A new session."""
        response = await AsyncHTTPClient().fetch(
            f"{self.url}/api/v1/sessions", method="POST", body=orjson.dumps(body)
        )
        return UUID(orjson.loads(response.body)["session_id"])

    async def dial(self, session_id: UUID, **parameters: str) -> Socket:
        """A new connection."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        url = self.url.replace("http", "ws", 1)
        socket = Socket(await websocket_connect(f"{url}/api/v1/ws/sessions/{session_id}?{query}"))
        self.sockets.append(socket)
        return socket


@asynccontextmanager
async def serving(
    database_url: str, model_url: str, *, port: int = 0, **settings: str
) -> AsyncIterator[Serving]:
    """A server with its projector; killed at the end where the test has not ended it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOREWIRE_")}
    environment |= {
        "DATABASE_URL": database_url,
        "LOREWIRE_MODEL_URL": model_url,
        "LOREWIRE_MODEL": "scripted",
        "LOREWIRE_EMBEDDER": "none",
        "LOREWIRE_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        **{f"LOREWIRE_{name.upper()}": value for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lorewire", "serve"), env=environment, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        running = Serving(process, found.group())
        try:
            yield running
        finally:
            for socket in running.sockets:
                socket.cut()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass
class Told:
    """What one client was told about its queries; it asks again until it is told something."""

    session_id: UUID
    user_id: str
    accepted: dict[str, int] = field(default_factory=dict)  # message -> position
    ended: dict[str, int] = field(default_factory=dict)  # turn id -> position


class Talker:
    """A client that asks one query after the other, whatever happens to its connection."""

    def __init__(self, url: str, session_id: UUID, name: str) -> None:
        self._url = url
        self._name = name
        self._stop = False
        self.told = Told(session_id, name)

    async def talk(self, *, pause_s: float = 0.0) -> None:
        """Ask until stopped. A query that was not answered is asked again, with the same id."""
        number = 0
        while not self._stop:
            number += 1
            await self._ask(f"{self._name}-{number}")
            await asyncio.sleep(pause_s)

    def stop(self) -> None:
        """Ask nothing more."""
        self._stop = True

    async def _ask(self, message: str) -> None:
        while not (self._stop and message not in self.told.accepted):
            try:
                if await self._ask_once(message):
                    return
            except (OSError, WebSocketClosedError, HTTPClientError, AssertionError, TimeoutError):
                pass
            await asyncio.sleep(0.1 + 0.2 * random.random())

    async def _ask_once(self, message: str) -> bool:
        """Whether the query has come to its end."""
        url = self._url.replace("http", "ws", 1)
        path = f"/api/v1/ws/sessions/{self.told.session_id}?user_id={self._name}"
        socket = Socket(await websocket_connect(url + path))
        try:
            await socket.until("connection_established")
            await socket.send("query", {"message": message}, id=message)
            while (said := await socket.receive()) is not None:
                if said.get("id") != message:
                    continue
                data = said["data"]
                if said["type"] == "error":
                    return False
                if said["type"] == "query_received":
                    self.told.accepted[message] = said["position"]
                elif said["type"] == "query_response" and not data["partial"]:
                    self.told.ended[data["turn_id"]] = said["position"]
                    return True
            return False
        finally:
            socket.close()


@asynccontextmanager
async def load(server: Serving, *, talkers: int) -> AsyncIterator[list[Told]]:
    """Clients that talk, each in a session of its own, while the block runs."""
    talking = [
        Talker(server.url, await server.open_session(), f"user{number}")
        for number in range(talkers)
    ]
    tasks = [asyncio.create_task(one.talk(pause_s=0.01)) for one in talking]
    try:
        yield [one.told for one in talking]
    finally:
        for one in talking:
            one.stop()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*tasks)


async def said_so_far(told: Sequence[Told], queries: int) -> None:
    """Return when so many queries have come to their end."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(len(one.ended) for one in told) < queries:
            await asyncio.sleep(0.02)


def problems(database_url: str, told: Sequence[Told]) -> list[str]:
    """What is wrong with the log, against what clients were told; nothing where all is well."""
    found: list[str] = []
    queries: dict[int, Session.QueryAsked] = {}
    requests: Counter[tuple[UUID, str, str | None]] = Counter()
    ends: defaultdict[UUID, list[int]] = defaultdict(list)
    open_turns: dict[UUID, UUID] = {}
    with _log(database_url) as log:
        for one in _everything(log):
            event = one.event
            if isinstance(event, Session.QueryAsked):
                queries[one.position] = event
                requests[event.session_id, event.cause.user_id, event.cause.request_id] += 1
                open_turns[event.turn_id] = event.session_id
            elif isinstance(event, ENDS):
                ends[event.turn_id].append(one.position)
                open_turns.pop(event.turn_id, None)
    for client in told:
        for message, position in client.accepted.items():
            if position not in queries or queries[position].message != message:
                found.append(f"{message} was accepted at {position}, and is not there")
        for turn_id, position in client.ended.items():
            if position not in ends[UUID(turn_id)]:
                found.append(f"turn {turn_id} was ended at {position}, and is not there")
    found += [f"{key} is stored {count} times" for key, count in requests.items() if count > 1]
    found += [f"turn {id} ended {len(at)} times" for id, at in ends.items() if len(at) > 1]
    found += [f"turn {id} of session {session} never ended" for id, session in open_turns.items()]
    return found


async def until_sound(database_url: str, told: Sequence[Told]) -> list[str]:
    """The problems that are left when every turn has had the time to end."""
    left = ["not looked yet"]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while left := await asyncio.to_thread(problems, database_url, told):
                await asyncio.sleep(0.1)
    return left


async def caught_up(database_url: str) -> None:
    """Return when the views have read everything, what was learned included."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(_lag, database_url):
            await asyncio.sleep(0.05)


def _lag(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        row = conn.execute(
            "SELECT (SELECT coalesce(max(notification_id), 0) FROM lorewire_events)"
            " - min(notification_id) FROM lorewire_tracking"
            " WHERE application_name = ANY('{sessions,memory,graph,learning}')"
        ).fetchone()
    assert row is not None
    lag: int = row[0]
    return lag


def unequal_views(database_url: str) -> list[str]:
    """The tables whose live rows differ from what the log gives when it is read from its start.

    The rows are made again by the projections themselves, in one transaction that is taken back.
    It sees the live rows and how far they go at one moment, whatever is stored meanwhile.
    """
    unequal: list[str] = []
    with _log(database_url) as log:
        projections: list[Projection] = [
            SessionsProjection(),
            MemoryProjection(log, load_domains(), None),
            GraphProjection(load_domains()),
        ]
        for projection in projections:
            with psycopg.connect(database_url, row_factory=psycopg.rows.dict_row) as conn:
                conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                curs = conn.cursor()
                curs.execute(f"SELECT {POSITION_OF} AS position", (projection.name,))
                row = curs.fetchone()
                assert row is not None
                recorded = [one for one in _everything(log) if one.position <= row["position"]]
                for start in range(0, len(recorded), 1000):
                    projection.apply(curs, recorded[start : start + 1000], SCRATCH_VERSION)
                unequal += [
                    table for table in projection.tables if _differs(curs, projection.name, table)
                ]
                conn.rollback()
    return unequal


def _differs(curs: Any, view: str, table: str) -> bool:
    curs.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = %s AND column_name <> 'version' ORDER BY 1",
        (table,),
    )
    columns = sql.SQL(", ").join(sql.Identifier(row["column_name"]) for row in curs.fetchall())
    rows = sql.SQL("SELECT {} FROM {} WHERE version = ").format(columns, sql.Identifier(table))
    live = sql.SQL("(SELECT version FROM lorewire_views WHERE name = {})").format(view)
    scratch = sql.Literal(SCRATCH_VERSION)
    curs.execute(
        sql.SQL(
            "SELECT count(*) AS n FROM"
            " (({rows}{live} EXCEPT ALL {rows}{scratch})"
            " UNION ALL ({rows}{scratch} EXCEPT ALL {rows}{live})) AS different"
        ).format(rows=rows, live=live, scratch=scratch)
    )
    return bool(curs.fetchone()["n"])


@contextlib.contextmanager
def _log(database_url: str) -> Iterator[Log]:
    log = Log(database_url)
    try:
        yield log
    finally:
        log.close()


def _everything(log: Log) -> Iterator[Recorded]:
    after = 0
    while batch := log.read(after=after, limit=1000):
        for one in batch:
            assert isinstance(one, Recorded), one
            yield one
        after = batch[-1].position


def new_id() -> str:
    """An id for a request."""
    return uuid4().hex
