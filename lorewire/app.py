"""The whole program: which parts run, and how they are wired together."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pykka
from psycopg_pool import AsyncConnectionPool
from tornado.netutil import bind_sockets

from actors.directory import SessionDirectory
from actors.messages import Wake
from actors.monitor import MonitorActor
from actors.servers import Presence, bury_dead_servers
from actors.services import Services
from actors.view_watch import watch_views
from events.journal import Journal
from events.log import Log
from language.chat import ChatModel
from language.domains import load_domains
from lorewire import __version__
from lorewire.database import database, migrate
from lorewire.drain import Haste, drain
from lorewire.embedder import load_embedder
from lorewire.loop_lag import watch_loop_lag
from lorewire.processes import ChildProcess
from lorewire.settings import Settings
from projections.graph import GraphView
from projections.learning_queue import read_learning_queue
from projections.memory import MemoryView
from projections.positions import SESSIONS, read_positions
from projections.sessions import SessionsView
from projections.sparql import SparqlEngine
from projections.waiting import wait_until_read
from web.admission import Admission
from web.app import make_app, make_server

logger = logging.getLogger(__name__)

MODEL_START_TIMEOUT_S = 60.0  # the embedded model takes one second; a slow disk more
VIEW_TIMEOUT_S = 3.0  # for a connection; one that fails to open is tried again after a second
CHECK_IDLE_S = 1.0
MAX_FILES = 65_536
# Between looks for cycles, in place of 700. All are looked at after a hundred times as many, some
# 4,000 connections: what has died in cycles until then takes less than 100 MB.
NEW_OBJECTS = 5_000
VIEW_POOL_SIZE = 8  # reads of views; each takes about a millisecond


async def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Run everything until SIGINT or SIGTERM; calls `on_ready` with the server's URL.

    The first signal lets running turns end, a second one does not wait for anything.
    """
    stop, haste = asyncio.Event(), Haste()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: haste.ask_for() if stop.is_set() else stop.set())
    _allow_many_sockets()
    sockets = bind_sockets(settings.port, settings.host)  # a port in use is the first thing said
    async with AsyncExitStack() as stack:
        database_url = stack.enter_context(database(settings))
        await asyncio.to_thread(migrate, database_url)
        model_url, model_name = await _start_model(settings, stack)
        projector = ChildProcess(
            "projector",
            [sys.executable, "-m", "lorewire", "project", "--child"],
            env={
                **os.environ,
                "DATABASE_URL": database_url,
                "LOREWIRE_MODEL_URL": model_url,
                "LOREWIRE_MODEL": model_name,
                "LOREWIRE_LOG_FORMAT": settings.log_format,
                "LOREWIRE_LOG_LEVEL": settings.log_level,
            },
        )
        await projector.start()
        stack.push_async_callback(projector.stop)
        directory, monitor = await stack.enter_async_context(
            wired(settings, database_url, model_url=model_url, model_name=model_name)
        )
        admission = Admission(directory.services)
        server = make_server(make_app(directory, monitor, version=__version__, admission=admission))
        collect_rarely()
        server.add_sockets(sockets)
        port = sockets[0].getsockname()[1]
        on_ready(f"http://{settings.host}:{port}")
        await stop.wait()
        await drain(server, directory, admission, grace_s=settings.drain_grace_s, haste=haste)


@asynccontextmanager
async def wired(
    settings: Settings, database_url: str, *, model_url: str, model_name: str
) -> AsyncIterator[tuple[SessionDirectory, "pykka.ActorRef[MonitorActor]"]]:
    """The actors with all they need, on a migrated database; yields (directory, monitor).

    Everything is ended in the opposite order, whatever fails on the way.
    """
    async with AsyncExitStack() as stack:
        log = Log(database_url)
        stack.push_async_callback(asyncio.to_thread, log.close)
        journal = Journal(log, timeout_s=settings.journal_timeout_s)
        stack.push_async_callback(asyncio.to_thread, journal.stop)
        pool = await stack.enter_async_context(view_pool(database_url))
        presence = Presence(database_url)
        await presence.enter()
        stack.push_async_callback(presence.leave)
        model = _chat_model(settings, model_url, model_name)
        stack.push_async_callback(model.close)
        sparql = SparqlEngine()
        stack.push_async_callback(sparql.close)
        services = Services(
            log=log,
            journal=journal,
            epoch=await asyncio.to_thread(log.epoch),
            presence=presence,
            pool=pool,
            sessions=SessionsView(pool),
            memory=MemoryView(pool),
            graph=GraphView(pool),
            sparql=sparql,
            model=model,
            domains=load_domains(settings.domains_dir),
            embedder=await asyncio.to_thread(load_embedder, settings),
            record_reads=settings.record_reads,
            heartbeat_interval_s=settings.heartbeat_interval_s,
            pong_timeout_s=settings.pong_timeout_s,
            heartbeat_timeout_s=settings.heartbeat_timeout_s,
            passivate_after_s=settings.passivate_after_s,
            model_context_tokens=settings.model_context_tokens,
            max_outgoing_bytes=settings.max_outgoing_bytes,
            max_connections=settings.max_connections,
            max_connections_per_user=settings.max_connections_per_user,
            max_connections_per_session=settings.max_connections_per_session,
            messages_per_s=settings.messages_per_s,
            queries_per_s=settings.queries_per_s,
        )
        monitor = MonitorActor.start(
            interval_s=settings.monitor_interval_s,
            count_sessions=services.sessions.count_active,
            read_positions=lambda: read_positions(pool),
            read_learning_queue=lambda: read_learning_queue(pool, services.domains),
        )
        stack.push_async_callback(_stop_actor, monitor)
        directory = SessionDirectory(services, monitor)
        stack.push_async_callback(directory.shutdown)
        for work in (
            watch_views(database_url, pool, directory),
            _end_interrupted_turns(services, directory),
            watch_loop_lag(),
            presence.keep(),
            bury_dead_servers(database_url, log, journal),
        ):
            stack.push_async_callback(_cancel, asyncio.create_task(work))
        yield directory, monitor


def collect_rarely() -> None:
    """Have the collector stop the loop less often; `python -m bench.collecting` measures it."""
    gc.freeze()  # what stays for ever, mostly modules: looking at it stops the loop for 0.1 s
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])


def _allow_many_sockets() -> None:
    """A socket is a file for the system, and its default of 1,024 is meant for other programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(ValueError, OSError):  # some systems promise more than they allow
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def view_pool(database_url: str) -> AsyncConnectionPool:
    """The connections by which a server reads views; open it before use."""
    return AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=VIEW_POOL_SIZE,
        timeout=VIEW_TIMEOUT_S,
        reconnect_timeout=VIEW_TIMEOUT_S,  # then the next reader tries anew
        configure=_prefer_indexes,
        check=_check_idle,
        kwargs={"autocommit": True, "connect_timeout": 2},
        open=False,
    )


async def _prefer_indexes(conn: psycopg.AsyncConnection[Any]) -> None:
    """Every reader wants some rows of one session, for which there is an index.

    The planner does not know how many rows there are of which session, least of all while tables
    grow: it would rather look through a whole table for one row that it believes to be frequent.
    """
    await conn.execute("SET enable_seqscan = off")


async def _check_idle(conn: psycopg.AsyncConnection[Any]) -> None:
    """A round trip that finds a dead connection, not for one that was just asked for, too.

    What dies within that second is tried again by whoever reads (`actors.patience`).
    """
    asked_at = time.monotonic()  # noted here, as a pool that resets connections makes a task of it
    if asked_at - getattr(conn, "asked_at", 0.0) > CHECK_IDLE_S:
        await AsyncConnectionPool.check_connection(conn)
    conn.asked_at = asked_at  # type: ignore[attr-defined]


def _chat_model(settings: Settings, url: str, name: str) -> ChatModel:
    return ChatModel(
        base_url=url,
        model=name,
        api_key=settings.model_key.get_secret_value() if settings.model_key else None,
        first_token_timeout_s=settings.first_token_timeout_s,
        gap_timeout_s=settings.gap_timeout_s,
        turn_timeout_s=settings.turn_timeout_s,
    )


async def _stop_actor(ref: "pykka.ActorRef[Any]") -> None:
    await ref.stop(block=False)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _start_model(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    """The URL and the name of the chat model; starts the embedded one where none is configured."""
    if settings.model_url:
        return settings.model_url, settings.model or "default"
    # A port of our choice, so that a model server that is started again is where it was.
    process = ChildProcess(
        "model",
        [sys.executable, "-m", "language.model_server", "--port", str(_free_port())],
        wait_for_line=True,
    )
    started = time.monotonic()
    ready = await process.start(timeout_s=MODEL_START_TIMEOUT_S)
    stack.push_async_callback(process.stop)
    logger.info("The embedded model is ready after %.1f s", time.monotonic() - started)
    return ready["url"], ready["model"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def _end_interrupted_turns(services: Services, directory: SessionDirectory) -> None:
    """Wake the sessions in which a server that died has left a turn open.

    Which ones is in a view, so this waits until the view has read what had happened before. A
    client that connects earlier wakes its session itself.
    """
    head = await asyncio.to_thread(services.log.head)
    await wait_until_read(services.pool, SESSIONS, head)
    session_ids = await services.sessions.with_open_turns()
    for session_id in session_ids:
        directory.tell(session_id, Wake())
    if session_ids:
        logger.info("Looking after %d sessions with open turns", len(session_ids))
