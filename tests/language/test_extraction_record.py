"""The record of the offline extractor's precision is one of the extractor as it is."""

import pytest

from bench.extraction import VERDICTS, read_sessions, read_verdicts

MIN_RIGHT = 0.65  # of what is found in turns that no rule was made for


@pytest.mark.parametrize("number", [1, 2])
def test_every_statement_was_judged_and_enough_are_right(number: int) -> None:
    verdicts = read_verdicts(number)

    found = [verdicts.get((one.text, one.line)) for one in read_sessions(number)]

    assert len(found) > 70
    assert set(found) <= set(VERDICTS), "run `python -m bench.extraction`, and judge what is new"
    assert found.count("right") / len(found) >= MIN_RIGHT
