import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lorewire.processes import ChildFailedError, ChildProcess

READY = """
import json, os, time
from lorewire.processes import exit_when_parent_is_gone
exit_when_parent_is_gone()
print(json.dumps({"pid": os.getpid()}), flush=True)
time.sleep(600)
"""
DEAF_TO_SIGTERM = """
import json, os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(json.dumps({"pid": os.getpid()}), flush=True)
time.sleep(600)
"""
TALKATIVE = """
import pathlib, sys
print("{}", flush=True)
for _ in range(10_000):
    print("x" * 100, flush=True)
pathlib.Path(sys.argv[1]).touch()
sys.stdin.read()
"""
PARENT = """
import asyncio, sys
from lorewire.processes import ChildProcess

async def main():
    child = ChildProcess("child", [sys.executable, "-c", sys.argv[1]], wait_for_line=True)
    print((await child.start())["pid"], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def child(source: str, *arguments: str, wait_for_line: bool = True) -> ChildProcess:
    command = [sys.executable, "-c", source, *arguments]
    return ChildProcess("test child", command, wait_for_line=wait_for_line)


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_child_says_when_it_is_ready_and_is_gone_after_stop() -> None:
    process = child(READY)

    ready = await process.start()
    pid = process.pid
    await process.stop()

    assert ready == {"pid": pid}
    assert process.pid is None
    assert not psutil.pid_exists(ready["pid"])


async def test_a_child_is_in_a_session_of_its_own_so_that_ctrl_c_spares_it() -> None:
    process = child(READY)
    await process.start()
    assert process.pid is not None

    session = os.getsid(process.pid)

    assert session == process.pid != os.getsid(0)
    await process.stop()


async def test_a_child_that_dies_is_started_again() -> None:
    process = child(READY)
    first = (await process.start())["pid"]

    os.kill(first, signal.SIGKILL)
    await eventually(lambda: process.pid not in (None, first))

    await process.stop()
    assert process.pid is None


async def test_a_child_that_keeps_dying_is_started_ever_more_rarely(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    process = child(
        f"print('started', file=open({str(log)!r}, 'a')); raise SystemExit(3)", wait_for_line=False
    )

    await process.start()
    await asyncio.sleep(2.5)  # started at 0, after 0.5 s, after another 1 s; then not for 2 s
    await process.stop()

    assert log.read_text().count("started") == 3


async def test_a_child_that_is_not_ready_in_time_is_an_error_and_gone() -> None:
    process = child("import time; time.sleep(600)")

    with pytest.raises(ChildFailedError, match=r"not ready after 0\.3 s"):
        await process.start(timeout_s=0.3)

    assert process.pid is None


async def test_a_child_that_ends_before_it_is_ready_is_an_error() -> None:
    with pytest.raises(ChildFailedError, match="status 3"):
        await child("raise SystemExit(3)").start()


async def test_a_first_line_that_is_no_json_object_is_an_error() -> None:
    process = child("import time; print('hello', flush=True); time.sleep(600)")

    with pytest.raises(ChildFailedError, match="hello"):
        await process.start()

    assert process.pid is None


async def test_what_a_child_writes_after_its_line_never_blocks_it(tmp_path: Path) -> None:
    done = tmp_path / "done"
    process = child(TALKATIVE, str(done))

    await process.start()
    await eventually(done.exists)

    await process.stop()


async def test_a_child_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorewire.processes.STOP_TIMEOUT_S", 0.2)
    process = child(DEAF_TO_SIGTERM)
    pid = (await process.start())["pid"]

    await process.stop()

    assert not psutil.pid_exists(pid)


def test_a_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, READY], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))

    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    psutil.wait_procs([orphan], timeout=5)

    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
