"""Domain files, ours and those of users."""

from pathlib import Path

import pytest

from language.domains import DomainError, load_domains

GOOD = """
title = "Chess"
description = "A club"
agent_name = "Coach"
instructions = "Be brief."
seed = ["Ada plays chess."]
"""


def test_the_built_in_domains_are_complete() -> None:
    domains = load_domains()

    assert set(domains) == {"dnd", "lab_assistant", "user_story"}
    for name, domain in domains.items():
        assert domain.name == name
        assert len(domain.seed) >= 4
        assert domain.entity_types
        assert domain.relation_types


def test_a_folder_adds_domains_and_replaces_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "chess.toml").write_text(GOOD)
    (tmp_path / "dnd.toml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("not a domain")

    domains = load_domains(tmp_path)

    assert set(domains) == {"dnd", "lab_assistant", "user_story", "chess"}
    assert domains["dnd"].title == "Chess"
    assert domains["chess"].seed == ("Ada plays chess.",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "chess.toml is not TOML"),
        (GOOD.replace("title", "titel"), "`title`"),
        (GOOD + 'colour = "red"', "`colour`"),
        (GOOD + "max_reply_tokens = 1", "`max_reply_tokens`"),
        (GOOD + 'extractor = "magic"', "`extractor`"),
        (GOOD.replace('["Ada plays chess."]', '"Ada"'), "`seed`"),
        (GOOD + 'name = "other"', "`name`"),
        (GOOD.replace("Be brief.", " "), "`instructions`"),
        (GOOD.replace("Ada plays chess.", "Ada\\u0000"), "`seed.0`"),
    ],
)
def test_a_bad_file_is_said_with_the_field(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "chess.toml").write_text(text)

    with pytest.raises(DomainError, match=r"chess\.toml") as caught:
        load_domains(tmp_path)

    assert words in str(caught.value)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="LOREWIRE_DOMAINS_DIR"):
        load_domains(tmp_path / "nowhere")


def test_a_file_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    (tmp_path / "chess.toml").write_bytes(b'title = "\xff"')

    with pytest.raises(DomainError, match=r"chess\.toml is not UTF-8"):
        load_domains(tmp_path)


def test_a_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "chess.toml").mkdir()

    with pytest.raises(DomainError, match=r"chess\.toml can't be read"):
        load_domains(tmp_path)
