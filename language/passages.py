"""Long texts in parts, each short enough to be about one thing."""

import re
from collections.abc import Iterator

MAX_WORDS = 200  # longer texts bury what they say among other words
MAX_CHARACTERS = 2000  # scripts without spaces; and what small embedding models read

Span = tuple[int, int]  # start and end in a text, in code points, end exclusive

# Where to cut, best first. What a cut leaves too long is cut at the next.
_ENDS = (
    re.compile(r"\n[^\S\n]*\n\s*"),  # of a paragraph
    re.compile(r"\n\s*"),  # of a line
    re.compile(r"[.!?…。！？]['\")\]]*\s+|[。！？]"),  # noqa: RUF001  (of a sentence)
    re.compile(r"\s+"),  # of a word
)
_WORD = re.compile(r"\S+")


def split_into_passages(text: str) -> list[Span]:
    """Consecutive parts that together are the text, each within both limits; at least one.

    Paragraphs stay whole where they fit, and short ones are joined to those before them.
    """
    if _fits(text, 0, len(text)):
        return [(0, len(text))]
    passages: list[Span] = []
    for start, end in _pieces(text, 0, len(text), 0):
        if passages and _fits(text, passages[-1][0], end):
            passages[-1] = passages[-1][0], end
        else:
            passages.append((start, end))
    return passages


def _pieces(text: str, start: int, end: int, level: int) -> Iterator[Span]:
    """The largest parts of text[start:end] that fit."""
    if _fits(text, start, end):
        yield start, end
    elif level == len(_ENDS):
        for first in range(start, end, MAX_CHARACTERS):
            yield first, min(first + MAX_CHARACTERS, end)
    else:
        for match in _ENDS[level].finditer(text, start, end):
            if match.end() < end:
                yield from _pieces(text, start, match.end(), level + 1)
                start = match.end()
        yield from _pieces(text, start, end, level + 1)


def _fits(text: str, start: int, end: int) -> bool:
    if end - start > MAX_CHARACTERS:
        return False
    if end - start < 2 * MAX_WORDS:  # so many words need as many characters between them
        return True
    return sum(1 for _ in _WORD.finditer(text, start, end)) <= MAX_WORDS
