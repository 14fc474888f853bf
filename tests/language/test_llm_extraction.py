"""The model as an extractor: what it is asked, and what of its answers is believed."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from language.chat import ChatModel, NoUsableReplyError
from language.extraction import MAX_STATEMENTS, Passage
from language.llm_extraction import (
    INSTRUCTIONS,
    MAX_KNOWN_NAMES,
    RESPONSE_FORMAT,
    Answer,
    InvalidAnswerError,
    ModelExtractor,
)
from language.prompts import estimate_tokens
from language.statements import ExtractedStatement
from tests.scripted_model import ScriptedModel

TURN = [
    Passage("I moved to Rivermoor in 2024. Kira is not a ranger any more.", "ada", "Sage"),
    Passage("Kira, the smith, sold the forge to Tobin.", "Sage", "ada"),
]
SAID_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def fact(s: str, p: str, o: str, quote: str, **more: Any) -> dict[str, Any]:
    """A fact as the model is asked to write it."""
    return {
        "s": s,
        "p": p,
        "o": o,
        "o_is_literal": False,
        "polarity": "yes",
        "modality": "fact",
        "said_by": None,
        "valid_from": None,
        "valid_to": None,
        "quote": quote,
        "replaces": None,
        **more,
    }


def answer(*facts: dict[str, Any], entities: Sequence[dict[str, Any]] = ()) -> str:
    return json.dumps({"entities": list(entities), "facts": list(facts)})


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.fixture
async def extractor(scripted: ScriptedModel) -> AsyncIterator[ModelExtractor]:
    chat = ChatModel(base_url=scripted.url, model="scripted", api_key=None)
    extractor = ModelExtractor(chat, context_tokens=4096)
    yield extractor
    await extractor.close()


async def extract(
    extractor: ModelExtractor,
    passages: Sequence[Passage] = TURN,
    before: Sequence[Passage] = (),
    known_names: Sequence[str] = (),
) -> list[tuple[Passage, ExtractedStatement]]:
    return await extractor.extract(
        passages, before=before, known_names=known_names, said_at=SAID_AT
    )


async def told(extractor: ModelExtractor, **more: Any) -> list[str]:
    found = await extract(extractor, **more)
    return [f"{one.subject} | {one.predicate} | {one.object}" for _, one in found]


async def test_a_turn_is_one_call_and_each_statement_has_its_speaker(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.say(
        answer(
            fact("I", "moved to", "Rivermoor", "I moved to Rivermoor in 2024", valid_from="2024"),
            fact(
                *("Kira", "is a", "ranger", "Kira is not a ranger any more."),
                polarity="no",
                replaces="Kira is a ranger",
            ),
            fact("Kira", "sold to", "Tobin", "sold the forge to Tobin"),
            entities=[{"name": "Kira", "type": "Person", "aliases": ["the smith"]}],
        )
    )

    found = await extract(extractor)

    assert [(passage.speaker, one.subject, one.predicate) for passage, one in found] == [
        ("ada", "ada", "moved_to"),
        ("ada", "Kira", "is_a"),
        ("Sage", "Kira", "sold_to"),
    ]
    moved, ranger, sold = (one for _, one in found)
    assert (moved.valid_from, moved.valid_to) == ("2024", None)
    assert (ranger.polarity, ranger.subject_type) == ("no", "person")
    assert sold.object == "Tobin"
    assert len(scripted.requests) == 1


async def test_it_is_asked_with_the_schema_and_what_helps_to_understand(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.say(answer())
    names = [f"{first}ira{second}" for first in "bdfghklm" for second in "bdfghklm"]

    await extract(extractor, before=[Passage("Who?", "ada", "Sage")], known_names=names)

    (request,) = scripted.requests
    system, user = request["messages"]
    shown = json.loads(user["content"])
    assert request["response_format"] == RESPONSE_FORMAT
    assert system["content"] == INSTRUCTIONS
    assert shown["date"] == "2026-01-31"
    assert shown["before"] == [{"speaker": "ada", "to": "Sage", "text": "Who?"}]
    assert [line["text"] for line in shown["turn"]] == [passage.text for passage in TURN]
    assert shown["known names"] == names[:MAX_KNOWN_NAMES]


def test_the_schema_is_one_that_strict_servers_take() -> None:
    schema = Answer.model_json_schema()

    for each in (schema, *schema["$defs"].values()):
        assert each["additionalProperties"] is False
        assert set(each["required"]) == set(each["properties"])
    assert schema["properties"]["facts"]["maxItems"] == MAX_STATEMENTS


@pytest.mark.parametrize(
    "invented",
    [
        fact("Kira", "sold", "forge", "Kira sold the mill"),  # a quote that nobody said
        fact("Kira", "sold", "forge", ""),
        fact("Kira", "sold", "forge", "  "),
        fact("Mia", "sold", "forge", "sold the forge"),  # a name that nobody mentioned
        fact("Kira", "sold", "mill", "sold the forge"),
        fact("Kira", "sold", "for", "sold the forge"),  # a part of a word
        fact("she", "sold", "forge", "sold the forge"),
        fact("Kira", "is", "Kira", "Kira, the smith"),
        fact("Kira", "!", "forge", "sold the forge"),
        fact("Kira", "sold", "", "sold the forge"),
        fact("Kira", "sold", "\0", "sold the forge"),
    ],
)
async def test_what_the_turn_does_not_show_is_dropped(
    invented: dict[str, Any], scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.say(answer(invented, fact("Kira", "sold", "forge", "sold the forge")))

    assert await told(extractor) == ["Kira | sold | forge"]


async def test_a_quote_from_before_the_turn_is_no_quote_but_its_names_may_be_meant(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    before = [Passage("Garrick guards the mill.", "ada", "Sage")]
    scripted.say(
        answer(
            fact("Garrick", "guards", "mill", "Garrick guards the mill."),
            fact("Kira", "sold to", "Garrick", "sold the forge to Tobin"),
            fact("Mia", "knows", "Kira", "Kira is not a ranger"),
        )
    )

    assert await told(extractor, before=before, known_names=["Mia"]) == [
        "Kira | sold_to | Garrick",
        "Mia | knows | Kira",
    ]


async def test_times_and_sources_that_nobody_mentioned_are_left_out(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.say(
        answer(
            fact(
                *("Kira", "sold", "forge", "sold the forge"),
                valid_from="2025-12-01",
                valid_to="the day before yesterday",
                said_by="Mia",
                replaces="Kira owned a castle",
            )
        )
    )

    [(_, found)] = await extract(extractor)

    assert (found.valid_from, found.valid_to) == ("2025-12-01", None)
    assert (found.said_by, found.replaces) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "Kira sold the forge.",
        '{"facts": []}',
        '{"entities": [], "facts": {}}',
        '{"entities": [], "facts": [{"s": "Kira"}]}',
        answer(fact("Kira", "sold", "forge", "sold the forge", o_is_literal="no")),
        answer(fact("Kira", "sold", "forge", "sold the forge", polarity="maybe")),
        answer(fact("Kira", "sold", "forge", "sold the forge", price=3)),
        answer(fact("Kira", 7, "forge", "sold the forge")),  # type: ignore[arg-type]
        answer(fact("Kira", "sold", "forge", "sold the forge"))[:-5],
        '{"entities": [], "facts": [], "note": "\\ud800"}',
    ],
)
async def test_an_answer_of_another_kind_is_invalid(
    text: str, scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.say(text)

    with pytest.raises(InvalidAnswerError):
        await extract(extractor)


async def test_more_facts_than_asked_for_are_cut(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    facts = [fact("Kira", f"sold {number}", "forge", "sold the forge") for number in range(20)]
    scripted.say(answer(*facts))

    assert len(await extract(extractor)) == MAX_STATEMENTS


async def test_a_server_without_response_formats_is_asked_without(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.refuses_response_format = True
    text = answer(fact("Kira", "sold", "forge", "sold the forge"))
    scripted.say(f"```json\n{text}\n```")
    scripted.say(text)

    assert await told(extractor) == ["Kira | sold | forge"]
    assert await told(extractor) == ["Kira | sold | forge"]
    assert "response_format" not in scripted.requests[-1]


async def test_a_request_that_is_refused_is_not_one_to_repeat(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    scripted.fail(400)

    with pytest.raises(NoUsableReplyError):
        await extract(extractor)


async def test_a_turn_that_is_too_long_is_shown_in_part(
    scripted: ScriptedModel, extractor: ModelExtractor
) -> None:
    words = "Kira sold the forge to Tobin. " * 2000
    long = [Passage(words, "ada", "Sage"), Passage(words, "Sage", "ada")]
    scripted.say(answer(fact("Kira", "sold", "forge", "Kira sold the forge to Tobin.")))

    found = await extract(extractor, long, before=long * 2, known_names=["Tobin"] * 50)

    assert len(found) == 1
    (request,) = scripted.requests
    asked = sum(estimate_tokens(message["content"]) for message in request["messages"])
    assert asked + request["max_tokens"] <= 4096
