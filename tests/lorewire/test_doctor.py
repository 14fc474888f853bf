"""What `lorewire doctor` says about set-ups, good and bad."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from lorewire.doctor import Finding, examine
from lorewire.settings import Settings
from tests.databases import allow_connections, refuse_connections
from tests.embedding_server import MODEL as EMBEDDING_MODEL
from tests.embedding_server import embedding_server
from tests.scripted_model import ScriptedModel


async def findings(tmp_path: Path, **options: Any) -> dict[str, Finding]:
    settings = Settings(**{"data_dir": tmp_path, "embedder": "none", **options})
    return {finding.subject: finding async for finding in examine(settings)}


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def test_an_embedded_set_up_is_sound(tmp_path: Path) -> None:
    found = await findings(tmp_path)

    assert [f.text for f in found.values() if not f.is_sound] == []
    assert "will be made" in found["database"].text
    assert found["domains"].text == "dnd, lab_assistant, user_story"
    assert is_empty(tmp_path)  # it changes nothing


async def test_a_migrated_database_is_sound(tmp_path: Path, migrated_database_url: str) -> None:
    found = await findings(tmp_path, database_url=migrated_database_url)

    assert found["database"] == Finding("database", True, "reachable, migrated, views up to date")


async def test_a_view_that_stands_still_is_said(tmp_path: Path, migrated_database_url: str) -> None:
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO lorewire_tracking VALUES ('memory', 3)")
        conn.execute("SELECT setval('lorewire_events_notification_id_seq', 5000)")
        conn.execute(
            "SELECT lorewire_append(array[gen_random_uuid()], '{1}', '{T}', '{x}',"
            " array[null]::uuid[])"
        )

    found = await findings(tmp_path, database_url=migrated_database_url)

    assert not found["database"].is_sound
    assert "the view memory is 4,998 positions behind, at 3" in found["database"].text
    assert "Is a projector running?" in found["database"].text


async def test_what_is_set_aside_is_said(tmp_path: Path, migrated_database_url: str) -> None:
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO lorewire_set_aside (follower, position, topic, error, tries)"
            " VALUES ('graph', 8, 'KnowledgeExtracted', E'ValueError: no\\n...', 5),"
            " ('graph', 7, 'KnowledgeExtracted', E'KeyError: 3\\n...', 5)"
        )

    found = await findings(tmp_path, database_url=migrated_database_url)

    assert not found["database"].is_sound
    assert "graph has set aside 2 events" in found["database"].text
    assert "KnowledgeExtracted at 7: KeyError: 3." in found["database"].text
    assert "lorewire project --retry" in found["database"].text


async def test_a_database_that_is_gone_is_said_without_its_password(
    tmp_path: Path, migrated_database_url: str
) -> None:
    refuse_connections(migrated_database_url)
    try:
        found = await findings(tmp_path, database_url=migrated_database_url)
    finally:
        allow_connections(migrated_database_url)

    assert not found["database"].is_sound
    assert "Check DATABASE_URL" in found["database"].text


async def test_a_database_without_our_tables_is_said(tmp_path: Path, postgres_server: str) -> None:
    found = await findings(tmp_path, database_url=postgres_server)

    assert found["database"].text == "has no tables of ours. Run `lorewire migrate`."


async def test_models_are_looked_at(tmp_path: Path) -> None:
    async with ScriptedModel() as model:
        good = await findings(tmp_path, model_url=model.url, model="scripted")
        nameless = await findings(tmp_path, model_url=model.url)
        model.fail(401)
        refused = await findings(tmp_path, model_url=model.url, model="scripted")

    assert good["model"].is_sound
    assert "LOREWIRE_MODEL is not set" in nameless["model"].text
    assert "HTTP 401" in refused["model"].text
    assert "LOREWIRE_MODEL_KEY" in refused["model"].text


@pytest.mark.parametrize(
    ("made_with", "embedder", "said"),
    [
        ("another-9", "wordllama", "memory's vectors were made with another-9: search goes by"),
        ("another-9", "none", "none, but memory's vectors were made with another-9"),
        (None, "wordllama", "memory has no vectors: search finds it by words alone"),
        ("wordllama-128", "wordllama", "some of memory has no vectors"),
        (None, "none", None),
    ],
)
async def test_vectors_that_search_can_not_use_are_said(
    made_with: str | None,
    embedder: str,
    said: str | None,
    tmp_path: Path,
    migrated_database_url: str,
) -> None:
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute("UPDATE lorewire_views SET made_with = %s WHERE name = 'memory'", (made_with,))
        conn.execute(
            "INSERT INTO memory_entries (version, session_id, entry_id, position, role, speaker,"
            " text, said_at, stems) SELECT version, gen_random_uuid(), 's-0', 1, 'seed', 'Keep',"
            " 'Old.', now(), 'old' FROM lorewire_views WHERE name = 'memory'"
        )

    found = await findings(tmp_path, database_url=migrated_database_url, embedder=embedder)

    assert found["embedding"].is_sound == (said is None)
    assert (said or "none") in found["embedding"].text
    assert said is None or "Run `lorewire rebuild memory`" in found["embedding"].text


async def test_an_embedding_endpoint_is_asked(tmp_path: Path) -> None:
    with embedding_server(dimensions=8) as server:
        options = {
            **{"embedder": "openai", "embedding_url": server.url},
            **{"embedding_model": EMBEDDING_MODEL},
        }
        good = await findings(tmp_path, **options, embedding_dimensions=8)
        bad = await findings(tmp_path, **options, embedding_dimensions=9)

    assert good["embedding"] == Finding("embedding", True, f"{EMBEDDING_MODEL}@8")
    assert not bad["embedding"].is_sound
    assert "vectors of 8 numbers" in bad["embedding"].text


@pytest.mark.parametrize("text", ["title = 3", "nonsense"])
async def test_a_bad_domain_is_said(tmp_path: Path, text: str) -> None:
    domains = tmp_path / "domains"
    domains.mkdir()
    (domains / "chess.toml").write_text(text)

    found = await findings(tmp_path, domains_dir=domains)

    assert not found["domains"].is_sound
    assert "chess.toml" in found["domains"].text
