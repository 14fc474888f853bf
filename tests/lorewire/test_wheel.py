"""The wheel has everything that an installed Lorewire needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    [path] = folder.glob("lorewire-*.whl")
    return path


def test_migrations_domains_and_pins_are_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    expected = [
        *(ROOT / "migrations" / "versions").glob("0*.py"),
        *(ROOT / "language" / "domains").glob("*.toml"),
        ROOT / "lorewire" / "models.txt",
        ROOT / "lorewire" / "py.typed",
        ROOT / "migrations" / "env.py",
        *(path for room in ("web", "actors", "events") for path in (ROOT / room).glob("*.py")),
    ]
    assert {str(path.relative_to(ROOT)) for path in expected} <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_what_is_installed_from_the_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert "serve" in run("-m", "lorewire", "--help")
    loaded = "import language.domains as d, lorewire; print(sorted(d.load_domains()), lorewire)"
    said = run("-c", loaded)
    assert "['dnd', 'lab_assistant', 'user_story']" in said
    assert str(site) in said
