"""The wheel has everything that an installed Lorewire needs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "web" / "static"


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


def test_the_page_is_in_the_wheel_as_it_is_built_now(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("web/static/")}

    built = {f"web/static/{path.name}" for path in STATIC.glob("[!.]*")}
    assert "web/static/index.html" in packed
    assert {name for name in packed if not name.endswith("/.built")} == built


def test_the_page_is_in_the_sources_for_those_who_cannot_build_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--sdist", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)

    [path] = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as sources:
        assert any(name.endswith("/web/static/index.html") for name in sources.getnames())


@pytest.mark.parametrize("kind", ["--wheel", "--sdist"])
def test_a_package_without_the_page_is_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    tree = tree_without_page(tmp_path)

    build = [sys.executable, "-m", "build", kind, "--outdir", str(tmp_path / "dist"), str(tree)]
    done = subprocess.run(build, capture_output=True, text=True)

    assert done.returncode != 0
    assert "make page" in done.stdout + done.stderr
    assert not list(tmp_path.glob("dist/*"))


def test_a_package_without_the_page_can_be_had(tmp_path: Path) -> None:
    tree = tree_without_page(tmp_path)

    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(tree)]
    environment = {**os.environ, "LOREWIRE_WITHOUT_PAGE": "1"}
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, env=environment)

    [path] = tmp_path.glob("*.whl")
    assert "web/page.py" in zipfile.ZipFile(path).namelist()


def tree_without_page(folder: Path) -> Path:
    """The sources as they are cloned: nothing is built."""
    tree = folder / "tree"
    tree.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    leave = shutil.ignore_patterns("static", "node_modules", "__pycache__")
    for room in ("lorewire", "web"):
        shutil.copytree(ROOT / room, tree / room, ignore=leave)
    return tree


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
