"""Which names mean the same entity, by their spelling.

Names of one spelling (`normalised`) always do. Two rules say which spellings do, too, and both are
made to miss rather than to be wrong: a part of a person's name (`is_short_for`), and a slip of the
pen (`is_typo_of`). Meaning is no help: to embeddings "#91" and "#92" are the same thing.
"""

import re
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from hashlib import blake2b
from typing import Literal
from uuid import UUID

Kind = Literal["person", "thing"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ARTICLE_OR_TITLE = re.compile(
    r"(?:the|an?|captain|count(?:ess)?|doctor|dr|duchess|duke|dame|king|lady|lord|madam|master|mayor|miss"
    r"|mister|mrs?|ms|prince(?:ss)?|prof|professor|queen|sergeant|sir)\.?\s+(?=\S)"
)
_KEEPS_ITS_S = ("ss", "us", "is")

# What extractors call them: spaCy's labels and the words of domains. Any other type says nothing.
_PERSONS = frozenset({"person", "per", "character", "npc"})
_THINGS = frozenset(
    {
        *("gpe", "loc", "fac", "place", "location", "city", "town", "country", "building"),
        *("org", "organisation", "organization", "faction", "guild", "company", "team", "norp"),
        *("product", "item", "object", "tool", "software", "instrument", "material", "sample"),
        *("event", "date", "time", "law", "language", "work_of_art", "creature", "project"),
    }
)
# A name that has one of these more than another names something else: Aldermoor, Aldermoor Keep.
_CLASS_NOUNS = _words(
    """abbey academy agency alley army association avenue bank bar base bay beach board bridge
    brotherhood camp canyon castle cathedral cave chapel church circle city clan club coast college
    commission committee company cove coven corporation council county court cult department desert
    district division dungeon elder estate family farm fields fleet forest fort fortress foundation
    garden gardens gate group guild hall harbor harbour hill hills horse hospital hotel house
    inc industries inn institute island islands isle junior keep kingdom lab laboratory lake lane
    library ltd manor market marsh mine monastery mountain mountains museum office order palace park
    pass peak plaza port prison province pub quarter quay region republic river road ruins
    school sea senior series shop shore shrine society square stables station street swamp sword
    tavern team temple theatre times tomb tower town trial university vale valley village wall
    ward watch well wood woods younger jr sr"""
)
_LINKS_NAMES = _words("al bin da de del della den der di du ibn la le of the van von")
_NUMERAL = re.compile(r"(?=[ivxl])(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
MAX_REMEMBERED = 10_000  # names: whoever is spoken of, is spoken of again
_MIN_TYPO_LETTERS = 7
_MAX_TYPO_LETTERS = 40  # a longer one is no name, and would have as many keys as letters
_MIN_TYPO_RATIO = 0.88


@dataclass(frozen=True)
class Spelling:
    """One spelling, and what is known of those who are called so."""

    text: str  # normalised
    is_proper: bool = False  # it was once written with capitals, as the name of one thing
    kind: Kind | None = None  # what the first said to be of a kind was

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it consists of."""
        return tuple(self.text.split())


@lru_cache(MAX_REMEMBERED)
def normalised(name: str) -> str:
    """The spelling that names of one entity share: "The Rusty Keys" and "rusty key".

    Lower case, without article and title, the last word in the singular. Of 30 pairs of names for
    one thing this joins three quarters, of 30 pairs for different things none. Digits are never
    touched: "B-14" and "B-41" stay apart.
    """
    plain = unicodedata.normalize("NFKC", name).casefold().replace("\u2019", "'").strip()
    while match := _ARTICLE_OR_TITLE.match(plain):
        plain = plain[match.end() :]
    *first, last = plain.removesuffix("'").removesuffix("'s").split() or [plain]
    return " ".join([*first, _singular(last)])


@lru_cache(MAX_REMEMBERED)
def entity_id_of(session_id: UUID, name: str) -> str:
    """The id of the entity that has this name in a session; the same for all its spellings."""
    return _digest(f"{session_id}/entity/{normalised(name)}")


def literal_id_of(session_id: UUID, value: str) -> str:
    """The id of the node that stands for a date, a number or a text in a session."""
    return _digest(f"{session_id}/literal/{value}")


def is_proper(name: str) -> bool:
    """Whether a name is written as that of one thing: "Sara", "Lady of the Lake", not "a horse".

    Every word has its capital, but for those that join names.
    """
    words = name.split()
    return any(word[0].isupper() for word in words) and all(
        word[0].isupper() or word[0].isdigit() or word.casefold() in _LINKS_NAMES for word in words
    )


def kind_of(type: str | None) -> Kind | None:
    """Whether what has this type is a person or a thing; None: it does not say."""
    if type is None:
        return None
    word = type.casefold()
    return "person" if word in _PERSONS else "thing" if word in _THINGS else None


def is_short_for(short: Spelling, long: Spelling) -> bool:
    """Whether one name is a part of the other, and names the same person: "Sara", "Sara Holt".

    The beginning of a name may be left out, or its end; in both cases somebody has to have been
    taken for a person, and nobody for a thing. Numbers have to be the same, as always.
    """
    kinds = {short.kind, long.kind}
    if "person" not in kinds or "thing" in kinds:
        return False
    if not (short.is_proper and long.is_proper) or _numbers(short) != _numbers(long):
        return False
    part, whole = short.words, long.words
    if len(part) >= len(whole) or part[0] in _LINKS_NAMES or part[-1] in _CLASS_NOUNS:
        return False
    if any(word.endswith(("'s", "s'")) for word in whole):  # Sara's Horse
        return False
    if whole[: len(part)] == part:
        more = whole[len(part) :]
        return more[-1] not in _LINKS_NAMES and _CLASS_NOUNS.isdisjoint(more)
    if whole[-len(part) :] == part:
        more = whole[: -len(part)]
        return _LINKS_NAMES.isdisjoint(more) and _CLASS_NOUNS.isdisjoint(more)
    return False


def is_typo_of(one: Spelling, other: Spelling) -> bool:
    """Whether two long names of one word differ by a letter too many, or by two that are swapped.

    First and last letters are where names of different people differ: Alexander, Alexandra. A
    letter in place of another makes other words: phosphate, phosphite.
    """
    a, b = one.text, other.text
    return (
        a != b
        and one.is_proper
        and other.is_proper
        and {one.kind, other.kind} != {"person", "thing"}
        and (a[0], a[-1]) == (b[0], b[-1])
        and (len(a) != len(b) or sorted(a) == sorted(b))
        and not typo_keys(a).isdisjoint(typo_keys(b))
        and SequenceMatcher(None, a, b, autojunk=False).ratio() >= _MIN_TYPO_RATIO
    )


def typo_keys(text: str) -> set[str]:
    """Keys by which typos of a spelling can be found: those of its typos share one with it."""
    if not _MIN_TYPO_LETTERS <= len(text) <= _MAX_TYPO_LETTERS or not text.isalpha():
        return set()
    return _without_one_letter(text)


def is_named_in(name: str, text: str) -> bool:
    """Whether the name stands in the text as words of its own, whatever the case."""
    return bool(name) and bool(
        re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", text.casefold())
    )


def _numbers(spelling: Spelling) -> list[str]:
    return sorted(
        word
        for word in spelling.words
        if any(letter.isdigit() for letter in word) or _NUMERAL.fullmatch(word)
    )


def _without_one_letter(word: str) -> set[str]:
    return {word, *(word[:n] + word[n + 1 :] for n in range(len(word)))}


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.isalpha() or word.endswith(_KEEPS_ITS_S):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word.removesuffix("s")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=12).hexdigest()
