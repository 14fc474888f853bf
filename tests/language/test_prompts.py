"""Prompts fit their budget, and what matters most stays longest."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from language.chat import ChatMessage
from language.domains import load_domains
from language.prompts import (
    CUT_MARK,
    TOKENS_PER_MESSAGE,
    Prompt,
    RecalledMemory,
    estimate_tokens,
    write_prompt,
)

DND = load_domains()["dnd"]
MOMENT = datetime(2026, 1, 31, tzinfo=UTC)


def memory(number: int, text: str = "Kira is a ranger.") -> RecalledMemory:
    return RecalledMemory(f"q-{number}", "ada", MOMENT, text)


def turn(number: int, text: str = "word") -> list[ChatMessage]:
    return [
        ChatMessage("user", f"Question {number} {text}"),
        ChatMessage("assistant", f"Answer {number} {text}"),
    ]


def write(
    *,
    recalled: int = 0,
    facts: int = 0,
    turns: int = 0,
    query: str = "Who is Kira?",
    budget_tokens: int = 4000,
    text: str = "word",
) -> Prompt:
    return write_prompt(
        DND,
        recalled=[memory(n, f"Memory {n} {text}") for n in range(recalled)],
        facts=[f"Fact {n} {text}" for n in range(facts)],
        turns=[message for n in range(turns) for message in turn(n, text)],
        query=query,
        context={},
        budget_tokens=budget_tokens,
    )


def tokens(prompt: Prompt) -> int:
    return sum(estimate_tokens(m.content) + TOKENS_PER_MESSAGE for m in prompt.messages)


def test_a_prompt_has_instructions_notes_turns_and_the_query() -> None:
    prompt = write(recalled=1, facts=1, turns=1)

    assert [m.role for m in prompt.messages] == ["system", "user", "assistant", "user"]
    assert prompt.messages[0].content.startswith(DND.instructions)
    assert "- 2026-01-31 ada: Memory 0 word" in prompt.messages[0].content
    assert "- Fact 0 word" in prompt.messages[0].content
    assert prompt.messages[-1].content == "Who is Kira?"
    assert (prompt.recalled, prompt.facts) == (["q-0"], 1)


def test_the_context_goes_with_the_query() -> None:
    prompt = write_prompt(
        DND,
        recalled=[],
        facts=[],
        turns=[],
        query="Hi",
        context={"mood": "calm"},
        budget_tokens=900,
    )

    assert prompt.messages[-1].content == 'Hi\n\n(Context: {"mood":"calm"})'


def test_the_newest_turns_stay_and_the_best_memories() -> None:
    prompt = write(recalled=50, turns=50, budget_tokens=1200, text="word " * 20)

    shown = [m.content for m in prompt.messages[1:-1]]
    assert 0 < len(shown) < 100
    assert shown[-1].startswith("Answer 49")
    assert shown[0].startswith("Question")
    assert 0 < len(prompt.recalled) < 50
    assert prompt.recalled == [f"q-{n}" for n in range(len(prompt.recalled))]


def test_only_what_was_written_counts_as_recalled() -> None:
    prompt = write(recalled=50, budget_tokens=600, text="word " * 20)

    for number in range(50):
        is_there = f"Memory {number} " in prompt.messages[0].content
        assert is_there == (f"q-{number}" in prompt.recalled)


def test_a_query_that_is_too_long_is_cut_where_one_sees_it() -> None:
    prompt = write(query="word " * 6000, budget_tokens=1000)

    assert prompt.messages[-1].content.endswith(CUT_MARK)
    assert tokens(prompt) <= 1000


@given(
    recalled=st.integers(0, 20),
    facts=st.integers(0, 20),
    turns=st.integers(0, 20),
    query=st.text(min_size=1, max_size=3000),
    text=st.text(max_size=300),
    budget_tokens=st.integers(400, 4000),
)
def test_every_prompt_fits_its_budget_and_alternates(
    recalled: int, facts: int, turns: int, query: str, text: str, budget_tokens: int
) -> None:
    prompt = write(
        recalled=recalled,
        facts=facts,
        turns=turns,
        query=query,
        text=text,
        budget_tokens=budget_tokens,
    )

    assert tokens(prompt) <= budget_tokens
    roles = [m.role for m in prompt.messages]
    assert roles[0] == "system"
    assert roles[1:] == ["user", "assistant"] * (len(roles) // 2 - 1) + ["user"]
