import os
from pathlib import Path

import pytest

from lorewire.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name == "DATABASE_URL" or name.startswith("LOREWIRE_"):
            monkeypatch.delenv(name)


def test_with_nothing_set_everything_is_embedded_and_on_loopback() -> None:
    settings = load_settings()

    assert settings.database_url is None
    assert settings.model_url is None
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.heartbeat_interval_s < settings.heartbeat_timeout_s


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada@db/lore")
    monkeypatch.setenv("LOREWIRE_MODEL_URL", "http://127.0.0.1:11434/v1/")
    monkeypatch.setenv("LOREWIRE_MODEL", "llama3.2")
    monkeypatch.setenv("LOREWIRE_DATA_DIR", "/srv/lore")

    settings = load_settings()

    assert settings.database_url == "postgresql://ada@db/lore"
    assert settings.model_url == "http://127.0.0.1:11434/v1"
    assert settings.model == "llama3.2"
    assert settings.data_dir == Path("/srv/lore")


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("LOREWIRE_PORT", "")

    settings = load_settings()

    assert (settings.database_url, settings.port) == (None, 8000)


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREWIRE_PORT", "9000")

    assert load_settings(port=9001).port == 9001
    assert load_settings(port=None).port == 9000


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LOREWIRE_PORT", "many", "LOREWIRE_PORT must be a valid integer.*'many'"),
        ("LOREWIRE_PORT", "70000", "LOREWIRE_PORT must be less than or equal to 65535.*'70000'"),
        (
            "LOREWIRE_EMBEDDER",
            "best",
            "LOREWIRE_EMBEDDER must be 'wordllama', 'openai' or 'none'.*'best'",
        ),
        ("LOREWIRE_JOURNAL_TIMEOUT_S", "0", "LOREWIRE_JOURNAL_TIMEOUT_S must be greater than 0"),
        ("LOREWIRE_JOURNAL_TIMEOUT_S", "inf", "LOREWIRE_JOURNAL_TIMEOUT_S must be a finite number"),
        ("LOREWIRE_HOST", "0.0.0.0", "LOREWIRE_HOST must be a loopback address.*'0.0.0.0'"),
        ("LOREWIRE_HOST", "example", "LOREWIRE_HOST must be a loopback address.*'example'"),
        ("LOREWIRE_MODEL_URL", "localhost:1", "LOREWIRE_MODEL_URL must be a URL such as"),
        ("DATABASE_URL", "mysql://ada:secret@db/lore", "DATABASE_URL must be a URL such as"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable_and_what_was_expected(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=sentence) as raised:
        load_settings()

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_every_loopback_address_is_accepted(host: str) -> None:
    assert load_settings(host=host).host == host


def test_the_models_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREWIRE_MODEL_KEY", "sk-secret")

    settings = load_settings()

    assert settings.model_key is not None
    assert settings.model_key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="others have theirs at home")
def test_roots_data_is_not_in_a_home() -> None:
    assert load_settings().data_dir == Path("/var/lib/lorewire")
