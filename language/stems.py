"""Words as a search compares them: without stop words, reduced to their stems."""

import re
import threading
import unicodedata
from functools import lru_cache
from itertools import chain

import Stemmer

MAX_KNOWN_WORDS = 50_000  # of all sessions; the words of a language come again and again

# A number, a word, or a code such as B-14, SHOP-482, v2.1: kept whole.
_WORD = re.compile(r"[^\W_]+(?:['\u2019.\-][^\W_]+)*")
_CLITIC = re.compile(r"'(?:s|t|re|ve|ll|d|m)$")  # Kira's, don't

# PostgreSQL's list for English (snowball/stopwords/english.stop), 127 words.
STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she
    her hers herself it its itself they them their theirs themselves what which who whom this that
    these those am is are was were be been being have has had having do does did doing a an the and
    but if or because as until while of at by for with about against between into through during
    before after above below to from up down in out on off over under again further then once here
    there when where why how all any both each few more most other some such no nor not only own
    same so than too very s t can will just don should now
    """.split()  # noqa: SIM905  (a list of 127 strings reads worse)
)

# The stemmer keeps the word in itself while it works, and searches run in threads: without the lock
# they get stems of each other's words, and the cache keeps these.
_stemmer = Stemmer.Stemmer("english")
_stemming = threading.Lock()


def content_stems(text: str) -> list[str]:
    """The stems of a text's words, in order, with repeats, stop words left out.

    A code such as "B-14", or a name such as "O'Brien", gives itself and its parts, so that it is
    found by either.
    """
    words = map(str.lower, _WORD.findall(unicodedata.normalize("NFC", text)))
    return list(chain.from_iterable(map(_stems_of, words)))


@lru_cache(maxsize=MAX_KNOWN_WORDS)
def _stems_of(word: str) -> tuple[str, ...]:
    whole = _CLITIC.sub("", word.replace("\u2019", "'"))
    parts = re.split(r"['.\-]", whole)
    with _stemming:
        stems = [_stemmer.stemWord(part) for part in parts if part not in STOP_WORDS]
    return tuple(stems) if len(parts) == 1 else (whole, *stems)
