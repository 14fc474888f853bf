"""Run every benchmark and write docs/benchmarks.md: `make bench`.

    python -m bench [NAME ...]

Each is a module of this folder and runs in a process of its own. Ratios of the last release, kept
in bench/results.json, are printed beside the new ones.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.common import PEERS_PYTHON, RESULTS, ROOT, install_peers, machine

# What to run, and with how many rounds so that all of it takes a quarter of an hour.
BENCHMARKS = {
    "sockets": ("--rounds", "5"),
    "turns": ("--rounds", "5"),
    "latency": (),
    "search": (),
    "rebuild": (),
    "start": (),
    "growth": (),
}
LAST_RELEASE = Path(__file__).parent / "results.json"
REPORT = ROOT / "docs" / "benchmarks.md"
NAMES = ("server", "connections", "sessions", "entries")  # columns that are no measurement
PACKAGES = ("tornado", "fastapi", "uvicorn", "langgraph", "sqlalchemy", "picows")


def main(names: list[str]) -> int:
    """Run the benchmarks and write the report; returns the exit status."""
    install_peers()
    started = time.monotonic()
    failed = []
    sections = []
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as results:
        for name in names or BENCHMARKS:
            command = [sys.executable, "-m", f"bench.{name}", *BENCHMARKS.get(name, ())]
            print(f"\n## {name}", flush=True)
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, RESULTS: results.name},
                stdout=subprocess.PIPE,
                text=True,
            )
            print(done.stdout, flush=True)
            if done.returncode:
                failed.append(name)
            text = f"`python -m bench.{' '.join([name, *BENCHMARKS.get(name, ())])}`"
            sections.append(f"## {name.capitalize()}\n\n{text}\n{done.stdout.rstrip()}\n")
        rows = [json.loads(line) for line in results]
    _compare(rows)
    minutes = (time.monotonic() - started) / 60
    if not names and not failed:
        REPORT.write_text("\n".join([_head(minutes), *sections]))
        print(f"Wrote {REPORT.relative_to(ROOT)} after {minutes:.0f} minutes.")
    for name in failed:
        print(f"bench.{name} failed", file=sys.stderr)
    return 1 if failed else 0


def _head(minutes: float) -> str:
    peers = subprocess.run(
        [PEERS_PYTHON, "-m", "pip", "freeze"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    used = [line for line in peers if line.partition("==")[0].lower() in PACKAGES]
    return (
        "# Benchmarks\n\n"
        f"Written by `make bench`, which took {minutes:.0f} minutes. Medians of the rounds, which"
        " are interleaved with the peer's; ratios are medians of the ratios within each round.\n\n"
        f"- Machine: {machine()}.\n"
        f"- Lorewire {version('lorewire')}; beside it {', '.join(used)}.\n"
        "- Server and client are processes of their own; figures per server-CPU-second suffer less"
        " from what else the machine does.\n"
    )


def _compare(rows: list[dict[str, Any]]) -> None:
    """Print the ratios of the last release beside these."""
    if not LAST_RELEASE.exists():
        return
    before = {_key(row): row["cells"] for row in json.loads(LAST_RELEASE.read_text())}
    print("\n## Beside the last release\n")
    for row in rows:
        old = before.get(_key(row), {})
        for column, cell in row["cells"].items():
            if "of " in column and column in old:
                print(f"{' / '.join(map(str, _key(row)))} {column}: {old[column]} -> {cell}")


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    """What names a row: its table and the cells that are no measurement."""
    cells = row["cells"]
    names = [cells[name] for name in NAMES if name in cells]
    return (row["title"], *names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
