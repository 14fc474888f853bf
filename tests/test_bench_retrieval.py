"""The retrieval benchmark reads LoCoMo's format, and counts what is found."""

import json
from pathlib import Path

import pytest

from bench.retrieval import LIMIT, measure, read
from language.embedding import WordLlamaEmbedder

# Invented: LoCoMo itself must not be shipped.
SAMPLE = {
    "conversation": {
        "speaker_a": "Mira",
        "speaker_b": "Joss",
        "session_2_date_time": "12:05 am on 3 June, 2025",
        "session_2": [
            {"speaker": "Joss", "dia_id": "D2:1", "text": "My sister moved to Lisbon."},
            {"speaker": "Mira", "dia_id": "D2:2", "text": "Look!", "blip_caption": "a red kite"},
        ],
        "session_1_date_time": "1:56 pm on 8 May, 2025",
        "session_1": [
            {"speaker": "Mira", "dia_id": "D1:1", "text": "I adopted a beagle."},
            *(
                {"speaker": "Joss", "dia_id": f"D1:{n}", "text": f"Number {n} is about nothing."}
                for n in range(2, 40)
            ),
        ],
    },
    "qa": [
        {"question": "Which beagle was adopted?", "category": 4, "evidence": ["D1:1"]},
        {"question": "Who flew a kite to Lisbon?", "category": 1, "evidence": ["D2:01; D:2:2"]},
        {"question": "Which cat was adopted?", "category": 5, "evidence": ["D1:1"]},
        {"question": "Does nobody know?", "category": 3, "evidence": []},
        {"question": "Is that evidence there?", "category": 3, "evidence": ["D9:9", "D"]},
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([SAMPLE]), encoding="utf-8")
    return path


def test_turns_come_in_order_and_questions_with_their_evidence(file: Path) -> None:
    (conversation,) = read(file)

    assert len(conversation.entries) == 41
    assert conversation.entries[0].text == "I adopted a beagle."
    assert conversation.entries[-1].text == "Look! a red kite"
    assert conversation.entries[-2].said_at.isoformat() == "2025-06-03T00:05:00+00:00"
    assert [question.evidence for question in conversation.questions] == [{0}, {39, 40}, {0}]


def test_recall_is_counted_by_category(file: Path) -> None:
    recalls = measure(read(file), WordLlamaEmbedder(), use_ts_rank=True)

    single, multi, temporal, _, adversarial, answerable = recalls["hybrid"]
    assert (single, multi, adversarial, answerable) == (1, 1, 1, 1)
    assert temporal != temporal  # no question, no figure
    assert recalls["grep"][0] == recalls["ts_rank of bare texts"][0] == 1
    assert recalls["hybrid, without embedder"][-1] == 1
    assert len(recalls) == 7
    assert LIMIT < 39
