import json
import subprocess
import sys

LOG_TWICE = """
import logging, sys
import structlog
from lorewire.logs import configure_logging
configure_logging(sys.argv[1], sys.argv[2])
logging.getLogger("events.journal").info("%d commits wait", 3)
structlog.get_logger("web").info("Closed", code=4008)
logging.getLogger("actors").info("Turn completed", extra={"turn": "t-1", "position": 7})
logging.getLogger("httpx").info("HTTP Request: POST")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("actors").exception("A turn failed")
"""


def logged(level: str, log_format: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", LOG_TWICE, level, log_format]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_json_is_one_object_a_line_whoever_logs() -> None:
    process = logged("info", "json")
    commits, closed, completed, failed = [json.loads(line) for line in process.stderr.splitlines()]

    assert process.stdout == ""
    assert (commits["event"], commits["level"]) == ("3 commits wait", "info")
    assert commits["logger"] == "events.journal"
    assert commits["timestamp"].endswith("Z")
    assert (closed["event"], closed["code"], closed["logger"]) == ("Closed", 4008, "web")
    assert (completed["event"], completed["turn"]) == ("Turn completed", "t-1")
    assert completed["position"] == 7
    assert "ZeroDivisionError" in failed["exception"]


def test_text_has_the_same_facts() -> None:
    lines = logged("info", "text").stderr.splitlines()

    assert "3 commits wait" in lines[0]
    assert "Closed" in lines[1]
    assert "code=4008" in lines[1]
    assert "turn=t-1" in lines[2]
    assert "position=7" in lines[2]


def test_what_is_below_the_level_is_not_logged() -> None:
    lines = logged("error", "json").stderr.splitlines()

    assert [json.loads(line)["event"] for line in lines] == ["A turn failed"]
