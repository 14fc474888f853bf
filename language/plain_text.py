"""Markdown as plain text of the same length, so that places in it are places in the original."""

import re
from collections.abc import Iterator

_FENCED = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_URL = re.compile(r"https?://\S+|\]\([^)\s]*\)")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}|>|[-*+\u2022]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
_EMPHASIS = re.compile(r"\*\*|__|~~|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|[\[\]|]")
_MARKS = frozenset("*_~")
_BLOCK_END = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:#{1,6}|>|[-*+\u2022]|\d{1,3}[.)])[ \t])")


def blank_markup(text: str) -> str:
    """The text with code, links' targets and Markdown's marks replaced by blanks."""
    for pattern in (_FENCED, _INLINE_CODE, _URL, _LINE_MARK, _EMPHASIS):
        text = pattern.sub(_blanks, text)
    return text


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs and list items, each with its place; line breaks inside of one become blanks."""
    plain = blank_markup(text)
    start = 0
    for end in [*(match.start() for match in _BLOCK_END.finditer(text)), len(text)]:
        paragraph = plain[start:end]
        if paragraph.strip():
            yield start, re.sub(r"\s", " ", paragraph)
        start = end


def with_emphasis(text: str, start: int, end: int) -> str:
    """A part of the original text, with the marks of emphasis that stand right around it."""
    while start > 0 and text[start - 1] in _MARKS:
        start -= 1
    while end < len(text) and text[end] in _MARKS:
        end += 1
    return text[start:end]


def _blanks(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())
