"""`make bench` runs unattended: a part that fails or hangs says so, and the others go on."""

import json
from pathlib import Path

import pytest

from bench.__main__ import PARTS, Part, run
from bench.common import RATIOS, ratio, table
from bench.report import Section, compared, described


@pytest.fixture
def ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which tables append their ratios."""
    file = tmp_path / "ratios.jsonl"
    monkeypatch.setenv(RATIOS, str(file))
    return file


def test_a_ratio_is_taken_within_rounds() -> None:
    ours, theirs = [10.0, 40.0, 90.0], [10.0, 20.0, 30.0]

    measured = ratio(ours, theirs)

    assert str(measured) == "2x (1 to 3)"


def test_a_table_keeps_its_ratios_under_the_names_of_their_rows(
    ratios: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(1_000, "Lorewire", 12345.6, ratio([3.0], [2.0])), (1_000, "peer", 8230.4, "-")]

    table("Pings", ("connections", "server", "per s", "of peer"), rows)

    assert "| 1,000 | Lorewire | 12,346 | 1.5x |" in capsys.readouterr().out
    kept = [json.loads(line) for line in ratios.read_text().splitlines()]
    assert kept == [["Pings / 1,000 / Lorewire / of peer", "1.5x"]]


def test_a_part_that_fails_leaves_its_last_words() -> None:
    section = run(Part("sockets", ("--no-such-option",)))

    assert section.failure.startswith("It failed with status 2.")
    assert "--no-such-option" in section.failure


def test_a_part_that_takes_too_long_is_stopped() -> None:
    section = run(Part("rebuild", timeout_s=0.1))

    assert section.failure.startswith("It took longer than 0.1 s.")


def test_a_part_whose_file_is_not_there_says_where_to_get_it(tmp_path: Path) -> None:
    part = Part("retrieval", needs=tmp_path / "none.json", needs_what="Get it somewhere.")

    assert run(part).failure == "Get it somewhere."


def test_the_ratios_of_the_last_release_stand_beside_the_new_ones() -> None:
    before, now = {"Pings / of peer": "1.5x"}, {"Pings / of peer": "1.6x", "New / of peer": "2x"}

    text = compared(before, now)

    assert "| Pings / of peer | 1.5x | 1.6x |" in text
    assert "| New / of peer | - | 2x |" in text
    assert compared({}, now) == ""


def test_every_part_is_described_by_its_module() -> None:
    for part in PARTS:
        text = described(Section(part.name, part.arguments, "", "It failed."))

        assert text.startswith("## ")
        assert "**It failed.**" in text
        assert "    python -m" not in text
