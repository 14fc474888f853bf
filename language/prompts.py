"""Prompts: instructions, notes from memory and graph, the last turns, the query."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from language.chat import ChatMessage
from language.domains import Domain

NOTES_HEADING = "Notes from earlier, for you only, not part of this talk:"
CUT_MARK = " [...]"
TOKENS_PER_MESSAGE = 8  # what chat templates put around each message
MEMORY_SHARE = 0.5  # of what is left for notes; the last turns come before, facts after
NOTE_SHARE = 0.25  # of that, for one note: a file that was pasted leaves room for other memories

# Bytes of which three make a token, and those of which it takes one and a half; others are one.
_CHEAP = b"abcdefghijklmnopqrstuvwxyz "
_NOT_ASCII = bytes(range(128, 256))
_RUN = re.compile(rb"[a-z0-9]+")


@dataclass(frozen=True)
class RecalledMemory:
    """Something that was said earlier and may matter now."""

    entry_id: str
    speaker: str
    said_at: datetime
    text: str


@dataclass(frozen=True)
class Prompt:
    """What the model is asked, and which memories it was really given."""

    messages: list[ChatMessage]
    recalled: list[str]  # entry ids, best first
    facts: int  # how many of the facts, from the first


def estimate_tokens(text: str) -> int:
    """Tokens of a text for a model whose tokenizer is unknown.

    Goes by UTF-8 bytes. Small vocabularies spell out what is not plain words: SmolLM2's takes one
    token for each digit and two for a Chinese character. Against it, this gives 1.5 times the
    tokens of English prose, 1.0 to 1.7 times those of other languages and of code, 0.9 to 1.0 times
    those of figures and UUIDs, and 0.8 times those of invented names, one after the other.
    Larger vocabularies mostly take fewer.
    """
    data = text.encode(errors="replace")
    dear = data.translate(None, _CHEAP)
    others = len(dear.translate(None, _NOT_ASCII))
    thirds = (len(data) - len(dear)) + 2 * (len(dear) - others) + 3 * others
    # Letters among figures, as in a UUID, are no word: they are spelled out too.
    mixed = (run for run in _RUN.findall(data) if not run.isalpha() and not run.isdigit())
    thirds += 2 * sum(len(run.translate(None, b"0123456789")) for run in mixed)
    return thirds // 3 + 1


def write_prompt(
    domain: Domain,
    *,
    recalled: Sequence[RecalledMemory],
    facts: Sequence[str],
    turns: Sequence[ChatMessage],
    query: str,
    context: Mapping[str, Any],
    budget_tokens: int,
) -> Prompt:
    """Fit what matters into a budget of tokens.

    Instructions and the query are always there; a query that is too long by itself is cut, visibly.
    Then come the last turns, newest first; then memories, best first; then facts. `turns` are
    user and assistant messages by turns, oldest first.
    """
    question = _with_context(query, context)
    left = budget_tokens - 2 * TOKENS_PER_MESSAGE - estimate_tokens(domain.instructions)
    question = cut(question, max(left, 32))
    left -= estimate_tokens(question)
    notes_left = int(left * MEMORY_SHARE) if recalled or facts else 0
    shown_turns, used = _newest_that_fit(turns, left - notes_left)
    left -= used
    max_note = int(left * NOTE_SHARE)
    memories = [
        _note(f"{memory.said_at:%Y-%m-%d} {memory.speaker}: {memory.text}", max_note)
        for memory in recalled
    ]
    shown_memories, used = _first_that_fit(memories, left)
    shown_facts, _ = _first_that_fit([_note(fact, max_note) for fact in facts], left - used)
    messages = [
        ChatMessage("system", _system(domain.instructions, shown_memories, shown_facts)),
        *shown_turns,
        ChatMessage("user", question),
    ]
    return Prompt(
        messages,
        [memory.entry_id for memory in recalled[: len(shown_memories)]],
        len(shown_facts),
    )


def _system(instructions: str, memories: Sequence[str], facts: Sequence[str]) -> str:
    parts = [instructions.strip()]
    if facts:
        parts.append("\n".join(["Known facts:", *facts]))
    if memories:
        parts.append("\n".join([NOTES_HEADING, *memories]))
    return "\n\n".join(parts)


def _with_context(query: str, context: Mapping[str, Any]) -> str:
    if not context:
        return query
    return f"{query}\n\n(Context: {orjson.dumps(dict(context)).decode()})"


def cut(text: str, max_tokens: int) -> str:
    """The beginning of a text, of about so many tokens; what is cut ends visibly."""
    if estimate_tokens(text) <= max_tokens:
        return text
    left = max_tokens - estimate_tokens(CUT_MARK)
    fitting = bisect_right(range(len(text)), left, key=lambda end: estimate_tokens(text[:end]))
    return text[: max(fitting - 1, 0)] + CUT_MARK


def _note(text: str, max_tokens: int) -> str:
    """One line, so that what somebody said can't pass for a heading or another note."""
    return cut(f"- {' '.join(text.split())}", max_tokens)


def _newest_that_fit(
    turns: Sequence[ChatMessage], budget_tokens: int
) -> tuple[list[ChatMessage], int]:
    """Whole turns, so that user and assistant keep alternating."""
    kept: list[ChatMessage] = []
    used = 0
    for start in range(len(turns) - 2, -1, -2):
        pair = turns[start : start + 2]
        cost = sum(estimate_tokens(message.content) + TOKENS_PER_MESSAGE for message in pair)
        if used + cost > budget_tokens:
            break
        kept[:0] = pair
        used += cost
    return kept, used


def _first_that_fit(lines: Sequence[str], budget_tokens: int) -> tuple[list[str], int]:
    kept: list[str] = []
    used = estimate_tokens(NOTES_HEADING)
    for line in lines:
        cost = estimate_tokens(line) + 1
        if used + cost > budget_tokens:
            break
        kept.append(line)
        used += cost
    return kept, used if kept else 0
