"""What benchmarks share: peers in an environment of their own, servers and clients as processes."""

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "peers"  # a virtual environment: what is compared is not what is shipped
PEERS_PYTHON = PEERS / "bin" / "python"
RATIOS = "LOREWIRE_BENCH_RATIOS"  # a file to which every ratio is appended, for `make bench`

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]
START_TIMEOUT_S = 90.0
TURNS_AT_ONCE = 30  # in one commit


def install_peers() -> None:
    """Install what Lorewire is compared with, once."""
    stamp = PEERS / ".installed"
    wanted = (Path(__file__).parent / "peers.txt").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Installing the peers ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
    pip = [str(PEERS_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(Path(__file__).parent / "peers.txt")], check=True)
    stamp.write_text(wanted)


def rounds_of(description: str, default: int = 5) -> int:
    """The number of rounds from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=default, help="median of so many")
    rounds: int = parser.parse_args().rounds
    return rounds


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def on_core(core: int | None, *arguments: object) -> list[str]:
    """A command that runs on one core; None: on all."""
    command = [str(argument) for argument in arguments]
    return command if core is None else ["taskset", "-c", str(core), *command]


@contextmanager
def process(
    *arguments: str | Path, core: int | None, env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A process on one core, ended with SIGTERM; its first line of output says that it is ready."""
    command = on_core(core, *arguments)
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}, cwd=ROOT
    )
    assert started.stdout is not None
    try:
        started.stdout.readline()
        if started.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended with {started.returncode}")
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(10)
        started.kill()
        started.wait()


@contextmanager
def worker(*arguments: str | Path) -> Iterator[Callable[[str], Any]]:
    """A process that calls `answer_lines`; yields what asks it, and waits for the answer."""
    command = on_core(None, *arguments)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as started:

        def ask(request: str) -> Any:
            assert started.stdin is not None
            assert started.stdout is not None
            print(request, file=started.stdin, flush=True)
            answer = started.stdout.readline()
            if not answer:
                raise SystemExit(f"{' '.join(command)} ended with {started.wait()}")
            return json.loads(answer)

        try:
            yield ask
        finally:
            started.kill()


def answer_lines(answer: Callable[[str], Any]) -> None:
    """Answer every line of standard input with one of JSON: what a `worker` does."""
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)


@contextmanager
def postgres() -> Iterator[str]:
    """An embedded PostgreSQL with durable commits and an empty database; yields its URL."""
    from lorewire.postgres import EmbeddedPostgres

    folder = tempfile.mkdtemp(prefix="lorewire-bench-", dir="/var/tmp")
    os.chmod(folder, 0o755)  # as root, the server has a user of its own
    server = EmbeddedPostgres(Path(folder) / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def new_database(database_url: str, name: str) -> str:
    """Another database of the same server, empty; its URL."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return database_url.replace(f"/{conn.info.dbname}", f"/{name}", 1)


@contextmanager
def lorewire(
    database_url: str, model_url: str, *, core: int | None = SERVER_CORE, **settings: int | str
) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """A server with its projector, on a model of ours; yields its port and its process."""
    port = free_port()
    env = settings_of(database_url, model_url, port, **settings)
    with process(sys.executable, "-m", "lorewire", "serve", core=core, env=env) as server:
        yield port, server


def settings_of(
    database_url: str, model_url: str, port: int, **settings: int | str
) -> dict[str, str]:
    """The environment of a server."""
    return {
        "DATABASE_URL": database_url,
        "LOREWIRE_MODEL_URL": model_url,
        "LOREWIRE_MODEL": "instant",
        "LOREWIRE_PORT": str(port),
        "LOREWIRE_LOG_LEVEL": "error",
        **{f"LOREWIRE_{name.upper()}": str(value) for name, value in settings.items()},
    }


@contextmanager
def instant_model() -> Iterator[str]:
    """A model server that answers at once; yields its URL."""
    port = free_port()
    arguments = (sys.executable, "-m", "bench.instant_model", str(port))
    with process(*arguments, core=CLIENT_CORE):
        yield f"http://127.0.0.1:{port}/v1"


def client(*arguments: object) -> Any:
    """Run the load client in a process of its own, on its own core; the figures that it prints."""
    command = on_core(CLIENT_CORE, PEERS_PYTHON, "-m", "bench.client", *arguments)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


@contextmanager
def hold_connections(
    port: int, connections: int, paths: Sequence[str], *, core: int | None = CLIENT_CORE
) -> Iterator[None]:
    """Idle connections of a client process, as many to each path."""
    holder = subprocess.Popen(
        on_core(core, PEERS_PYTHON, "-m", "bench.client", "idle", port, connections, *paths),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        json.loads(holder.stdout.readline())  # all are connected
        yield
    finally:
        holder.communicate("")


def open_session(port: int, **body: Any) -> str:
    """A new session of a Lorewire server; its id."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/sessions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        session_id: str = json.load(answer)["session_id"]
    return session_id


def add_turns(database_url: str, session_id: str, turns: Sequence[tuple[str, str]]) -> None:
    """Append turns to a session through its aggregate, with the snapshots that an actor takes."""
    from actors.live_session import SNAPSHOT_EVERY
    from events.aggregate import Cause
    from events.log import Log
    from events.session import Session

    log = Log(database_url)
    session = log.load(Session, UUID(session_id))
    assert session is not None
    for start in range(0, len(turns), TURNS_AT_ONCE):
        before = session.version
        for said, replied in turns[start : start + TURNS_AT_ONCE]:
            turn_id = uuid4()
            session.ask_query(turn_id, said, {}, stream=True, cause=Cause("ada"))
            session.start_reply()
            session.complete_reply(
                turn_id, text=replied, recalled=(), facts=(), model="m", usage=None, duration_ms=1
            )
        log.events.put(session.collect_events())
        if before // SNAPSHOT_EVERY != session.version // SNAPSHOT_EVERY:
            log.put_snapshot(Session.Snapshot.take(session))
    log.close()


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int) -> int:
    """Memory of a process, shared pages in part, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"no Pss of {pid}")


def percentile(figures: Sequence[float], percent: int) -> float:
    """So many percent of the figures are not above it; NaN where there are none."""
    return sorted(figures)[len(figures) * percent // 100] if figures else float("nan")


@dataclass(frozen=True)
class Ratio:
    """So many times another figure, with the lowest and the highest of the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{_number(self.median)}x"
        return f"{_number(self.median)}x ({_number(self.low)} to {_number(self.high)})"


def median(figures: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(figures)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; for `make bench`, keep its ratios as well.

    The first cells of a row, up to the first that was measured, name it: no float, no Ratio.
    """
    print(f"\n### {title}\n")
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(_cell(cell) for cell in row)} |")
    sys.stdout.flush()
    if path := os.environ.get(RATIOS):
        with open(path, "a") as file:
            for row in rows:
                names = [_cell(cell) for cell in itertools.takewhile(_is_name, row)]
                for column, cell in zip(columns, row, strict=True):
                    if isinstance(cell, Ratio):
                        ratio_of = " / ".join((title, *names, column))
                        file.write(json.dumps([ratio_of, str(cell)]) + "\n")


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """How many times theirs is ours: the median of the ratios within each round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def machine() -> str:
    """One line about the machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{len(CORES)} cores of {model}, Python {platform.python_version()}"


def wait_for_http(url: str) -> None:
    """Return when somebody answers, whatever it is."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} does not answer")
        time.sleep(0.05)


def _is_name(cell: object) -> bool:
    return not isinstance(cell, float | Ratio)


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return _number(cell)
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
