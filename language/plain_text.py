"""Markdown as plain text of the same length, so that places in it are places in the original."""

import re
from collections.abc import Iterable, Iterator

CODE = re.compile(r"[A-Za-z]+(?:[-_/][A-Za-z]+)*[-_/#]?\d[\w.\u2011-]*")  # B-14, SHOP-482, v2.1

_IN_TEXT = re.compile(rf"(?<![\w-]){CODE.pattern}(?<![.])(?![\w-])")
_NUMBERED = re.compile(  # a number alone is no name, with its noun it is
    r"(?i)\b(?:run|sample|batch|story|ticket|room|level|sprint|version|release|phase|test|film"
    rf"|experiment|chapter|session|quest|gate|floor|step|cabinet|drawer|shelf|rack|box|building"
    rf"|platform|page|section|figure) (?:{CODE.pattern}(?<!\.)|\d{{1,6}}"
    r"(?:\.\d+)*\b(?!\s?[%\u00b0]))"
)
_ONE_WORD = re.compile(  # degrees, "e-books", "out-of-stock"
    r"\u00b0\s?[CF]\b|\b[A-Za-z]-[a-z]+\b|\b[a-z]+(?:-[a-z]+){2,}\b"
)
_FENCED = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_URL = re.compile(r"https?://\S+|\]\([^)\s]*\)")
_NO_WORD = re.compile(r"\S{60,}")  # data; 20,000 brackets in a row take spaCy 40 s
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}|>|[-*+\u2022]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
_EMPHASIS = re.compile(r"\*\*|__|~~|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|[\[\]|]")
_MARKS = frozenset("*_~")
_BLOCK_END = re.compile(
    r"\n[ \t]*\n|\n(?=[ \t]*(?:#{1,6}|>|[-*+\u2022]|\d{1,3}[.)])[ \t])|\n(?=\|)"
    r"|(?m:(?<=\n)#{1,6} .*$|\A#{1,6} .*$)"  # a heading is a block of its own
)
_SURROGATE = re.compile("[\ud800-\udfff]")  # no character by itself, and spaCy refuses it


def blank_markup(text: str) -> str:
    """The text with code, links' targets and Markdown's marks replaced by blanks."""
    text = _SURROGATE.sub(" ", text)
    for pattern in (_FENCED, _INLINE_CODE, _URL, _NO_WORD, _LINE_MARK, _EMPHASIS):
        text = pattern.sub(_blanks, text)
    return text


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs and list items, each with its place; line breaks inside of one become blanks."""
    plain = blank_markup(text)
    start = 0
    for end in [*(match.end() for match in _BLOCK_END.finditer(text)), len(text)]:
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


def names_in(text: str, known_names: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Where codes and known names stand; upper and lower case are the same."""
    lower = text.lower()
    present = [name for name in known_names if len(name) > 1 and name.lower() in lower]
    for pattern in (_NUMBERED, _IN_TEXT, _ONE_WORD):
        yield from (match.span() for match in pattern.finditer(text))
    for name in present:
        yield from (m.span() for m in re.finditer(rf"(?i)\b{re.escape(name)}\b", text))


def _blanks(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())
