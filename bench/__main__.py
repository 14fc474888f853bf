"""Run every benchmark and write docs/benchmarks.md: `make bench`.

    python -m bench [--release] [NAME ...]

Each part is a module of this folder and runs in a process of its own, for a limited time; one that
fails leaves its error on the page, and the others go on. The ratios of the last release are in
bench/release.json and printed beside the new ones; `--release` keeps these there. Named parts are
run alone, and the page stays as it is.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.common import RATIOS, ROOT, install_peers
from bench.report import Section, compared, page

REPORT = ROOT / "docs" / "benchmarks.md"
RELEASE = Path(__file__).parent / "release.json"
LOCOMO = ROOT / "build" / "locomo10.json"
STOP_S = 20.0  # for a part that took too long, to stop its servers
LAST_LINES = 3  # of what a failed part has said


@dataclass(frozen=True)
class Part:
    """A module, and how long it may take: several times what it does."""

    name: str
    arguments: tuple[str, ...] = ()
    timeout_s: float = 300.0
    needs: Path | None = None
    needs_what: str = ""


PARTS = (
    Part("sockets", ("--rounds", "5"), timeout_s=480),
    Part("turns", ("--rounds", "5"), timeout_s=480),
    Part("latency", ("--rounds", "5")),
    Part("search", timeout_s=480),
    Part(
        "retrieval",
        (str(LOCOMO.relative_to(ROOT)), "--ts-rank"),
        needs=LOCOMO,
        needs_what="Not run: its licence does not let us ship the file. Put LoCoMo's"
        " data/locomo10.json (https://github.com/snap-research/locomo) into build/.",
    ),
    Part("rebuild", ("--rounds", "5", "--turns", "10000")),
    Part("start", ("--rounds", "5")),
    Part("growth", ("--rounds", "5")),
    Part("collecting", ("--rounds", "5")),
)


def main() -> int:
    """Run the parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="parts; all, and the page, by default")
    parser.add_argument("--release", action="store_true", help="keep the ratios for the next one")
    options = parser.parse_args()
    if unknown := set(options.names) - {part.name for part in PARTS}:
        parser.error(f"no part {', '.join(unknown)}")
    install_peers()
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as ratios:
        os.environ[RATIOS] = ratios.name
        wanted = [part for part in PARTS if not options.names or part.name in options.names]
        sections = [run(part) for part in wanted]
        now: dict[str, str] = dict(json.loads(line) for line in ratios)
    before: dict[str, str] = json.loads(RELEASE.read_text()) if RELEASE.exists() else {}
    print(compared(before, now))
    if not options.names:
        REPORT.write_text(page(sections, before, now))
        print(f"Wrote {REPORT.relative_to(ROOT)}.")
    if options.release:
        RELEASE.write_text(json.dumps(before | now, indent=1) + "\n")
    # What was not run, as its file is not there, has not failed.
    return 1 if any(section.failure and section.seconds for section in sections) else 0


def run(part: Part) -> Section:
    """Run one part, and print what it prints."""
    if part.needs is not None and not part.needs.exists():
        print(f"\n## {part.name}\n\n{part.needs_what}", flush=True)
        return Section(part.name, part.arguments, "", part.needs_what)
    command = [sys.executable, "-m", f"bench.{part.name}", *part.arguments]
    print(f"\n## {' '.join(command[1:])}", flush=True)
    started = time.monotonic()
    # Files, as a pipe would stay open for as long as anything that the part has started.
    with tempfile.TemporaryFile("w+") as output_file, tempfile.TemporaryFile("w+") as error_file:
        failure = _run(command, part.timeout_s, output_file, error_file)
        output, said = _all_of(output_file), _all_of(error_file)
    seconds = time.monotonic() - started
    print(f"{output}\n{said}\n{seconds:.0f} s", flush=True)
    if failure:
        last = " ".join(said.strip().splitlines()[-LAST_LINES:])
        failure = f"It {failure}. {last}".strip()
        print(failure, flush=True)
    return Section(part.name, part.arguments, output, failure, seconds)


def _run(command: list[str], timeout_s: float, output: IO[str], errors: IO[str]) -> str:
    """How a command failed; empty where it did not."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=output, stderr=errors, start_new_session=True
    )
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _interrupt(process)
        return f"took longer than {timeout_s:g} s"
    except KeyboardInterrupt:
        _interrupt(process)
        raise
    finally:
        _kill_group(process.pid)
    return f"failed with status {status}" if status else ""


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Ctrl-C: it stops its servers, and its PostgreSQL."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)


def _all_of(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
