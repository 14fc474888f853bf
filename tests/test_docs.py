"""The documents are true: what the code has, they name."""

import dataclasses
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from actors.protocol import MONITOR_REQUESTS, SESSION_REQUESTS, Close, Code
from actors.reads import ANSWERS
from events.aggregate import TopicMap
from events.log import AGGREGATES
from lorewire.app import serve
from lorewire.cli import app as cli
from lorewire.settings import PREFIX, Settings
from web.app import make_app

ROOT = Path(__file__).parents[1]
COMMON_FIELDS = {
    "originator_id", "originator_version", "originator_topic", "timestamp", "session_id", "cause",
}  # fmt: skip


def document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("topic", sorted(TopicMap.classes))
def test_every_domain_event_is_described_with_its_fields(topic: str) -> None:
    rows = [
        line for line in document("docs/events.md").splitlines() if line.startswith(f"| `{topic}`")
    ]

    assert len(rows) == 1
    for field in dataclasses.fields(TopicMap.classes[topic]):
        assert field.name in COMMON_FIELDS or f"`{field.name}" in rows[0], field.name
    assert AGGREGATES


def message_types() -> set[str]:
    """What the server sends: the first argument wherever a message is made."""
    calls = r"(?:\bMessage|_say|_tell|_tell_others|type_, data =)"
    made = re.compile(calls + r'\(?\s*\(?\s*"(\w+)"')
    sources = [*(ROOT / "actors").glob("*.py"), *(ROOT / "web").glob("*.py")]
    return {name for path in sources for name in made.findall(path.read_text(encoding="utf-8"))}


def test_every_message_type_is_described() -> None:
    known = message_types() | set(ANSWERS.values()) | set(SESSION_REQUESTS) | set(MONITOR_REQUESTS)
    text = document("docs/protocol.md")

    assert {"query_received", "query_response", "monitor_update", "graph_updated", "error"} <= known
    assert [name for name in sorted(known) if f"`{name}" not in text] == []


def test_every_field_of_a_request_is_described() -> None:
    text = document("docs/protocol.md")

    for request in SESSION_REQUESTS.values():
        for name, field in request.model_fields.items():
            assert f"`{field.alias or name}" in text, (request.type, name)


def test_every_code_is_described() -> None:
    text = document("docs/protocol.md")

    codes = [value for name, value in vars(Code).items() if name.isupper()]
    closes = [str(value) for name, value in vars(Close).items() if name.isupper()]
    assert [code for code in codes if f"`{code}`" not in text] == []
    assert [code for code in closes if code not in text] == []


def test_every_path_is_described() -> None:
    text = document("docs/protocol.md")
    app = make_app.__globals__
    source = Path(app["__file__"]).read_text(encoding="utf-8")

    paths = re.findall(r'\(r"(/[^"]*)"|SESSION \+ "(/[^"]*)"', source)
    for whole, tail in paths:
        path = whole or f"/api/v1/sessions/{{id}}{tail}"
        for pattern, name in (
            (r"/ws/sessions/([^/]+)", "/ws/sessions/{session_id}"),
            (r"/domains/([^/]+)", "/domains/{name}"),
            ("/entity/(.+)", "/entity/{entity_id}"),
            ("/statements/(.+)", "/statements/{statement_id}"),
            ("/merges/([^/]+)", "/merges/{merge_id}"),
        ):
            path = path.replace(pattern, name)
        assert path in text, path


def test_every_setting_is_described() -> None:
    text = document("docs/operations.md")

    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or PREFIX + name.upper()
        assert f"`{variable}`" in text, variable


def test_every_command_is_described() -> None:
    text = document("README.md") + document("docs/operations.md") + document("CHANGELOG.md")

    for command in cli.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__  # `import` is a word of Python's
        assert re.search(rf"\blorewire {name}\b|\| {name}\b", text), name


def test_metrics_that_are_described_exist() -> None:
    assert callable(serve)  # its modules have metrics, too
    described = set(re.findall(r"`(lorewire_\w+)`", document("docs/operations.md")))

    names = {metric.name for metric in REGISTRY.collect()}
    assert described - {"lorewire_epoch"} <= names


def test_every_decision_is_listed() -> None:
    text = document("docs/architecture.md")

    for path in (ROOT / "docs" / "adr").glob("*.md"):
        assert f"(adr/{path.name})" in text


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md", "docs/operations.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document(name)):
        if not target.startswith("http"):
            assert ((ROOT / name).parent / target).exists(), target
