"""`lorewire export`, `lorewire import` and `lorewire epoch`, as they are typed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from events.log import Log
from lorewire.database import migrate
from tests.conftest import temporary_database
from tests.projections.scenario import Scenario


@pytest.fixture
def target_url(postgres_server: str) -> Iterator[str]:
    """A second database, which has our tables and nothing in them."""
    with temporary_database(postgres_server) as url:
        migrate(url)
        yield url


@pytest.fixture
def session_id(migrated_database_url: str) -> UUID:
    """A session of three events."""
    with closing(Log(migrated_database_url)) as log:
        scenario = Scenario(log)
        session_id = scenario.open()
        scenario.ask(session_id, "Who lives in the mist?")
        scenario.fail(session_id, "A wi")
    return session_id


def lorewire(
    database_url: str, *arguments: str, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with `given` as its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "lorewire", *arguments],
        input=given,
        capture_output=True,
        env={**os.environ, "DATABASE_URL": database_url},
    )


def states(url: str, session_id: UUID) -> list[tuple[bytes]]:
    with psycopg.connect(url) as conn:
        return conn.execute(
            "SELECT state FROM lorewire_events WHERE session_id = %s ORDER BY notification_id",
            (session_id,),
        ).fetchall()


def test_a_session_goes_through_a_pipe(
    migrated_database_url: str, target_url: str, session_id: UUID
) -> None:
    exported = lorewire(migrated_database_url, "export", str(session_id))
    imported = lorewire(target_url, "import", "-", given=exported.stdout)

    count = len(states(migrated_database_url, session_id))
    assert (exported.returncode, imported.returncode) == (0, 0)
    assert f"{count} events of session {session_id} are exported." in exported.stderr.decode()
    assert f"Session {session_id} is imported: {count} events" in imported.stdout.decode()
    assert states(target_url, session_id) == states(migrated_database_url, session_id)


def test_a_session_goes_through_a_file(
    migrated_database_url: str, target_url: str, session_id: UUID, tmp_path: Path
) -> None:
    path = str(tmp_path / "session.jsonl")

    exported = lorewire(migrated_database_url, "export", str(session_id), "--output", path)
    imported = lorewire(target_url, "import", path)

    assert (exported.returncode, exported.stdout, imported.returncode) == (0, b"", 0)
    assert states(target_url, session_id) == states(migrated_database_url, session_id)


def test_what_is_wrong_is_said_in_one_line(
    migrated_database_url: str, target_url: str, session_id: UUID, tmp_path: Path
) -> None:
    whole = lorewire(migrated_database_url, "export", str(session_id)).stdout
    wrong = whole.replace(b'"message":"Who lives in the mist?"', b'"message":3')
    assert wrong != whole

    unknown = lorewire(migrated_database_url, "export", str(uuid4()))
    missing = lorewire(target_url, "import", str(tmp_path / "nothing.jsonl"))
    changed = lorewire(target_url, "import", "-", given=wrong)

    for ran in (unknown, missing, changed):
        assert ran.returncode == 1
        assert ran.stdout == b""
        assert len(ran.stderr.splitlines()) == 1
    assert changed.stderr.startswith(b"Line 3 can't be imported: `state.message` of the event: ")
    assert states(target_url, session_id) == []


def test_a_log_has_one_name_until_it_is_given_another(migrated_database_url: str) -> None:
    first, same = (lorewire(migrated_database_url, "epoch").stdout for _ in range(2))

    new = lorewire(migrated_database_url, "epoch", "--new").stdout

    assert first == same
    assert len(first.split()) == 1
    assert new != first
    assert lorewire(migrated_database_url, "epoch").stdout == new
