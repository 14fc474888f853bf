"""The rules by which a parsed sentence becomes statements. Precision comes before recall."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from spacy.tokens import Span, Token

from language.extraction import ExtractedStatement, Modality

MAX_NAME_WORDS = 7  # longer noun phrases are clauses that the parser took for names

_CODE = re.compile(r"^(?=.*\d)[A-Za-z]*[#-]?\d[\w.-]*$")
_FIRST = {"i", "me", "myself"}
_SECOND = {"you", "yourself"}
_WE = {"we", "us", "ourselves"}
_THIRD = {"he", "she", "him"}  # "her" is a possessive too often
_PLACES = {"in", "inside", "within"}
_WHERE = {*_PLACES, "at", "on", "near", "under", "behind", "above", "below", "beside"}
_WISHES = {"want", "wish", "hope", "like", "love", "need", "prefer", "desire"}
_PLANS = {"plan", "intend", "go", "aim", "decide", "promise", "agree"}
_TRIES = {"try", "seem", "appear", "consider", "attempt", "expect", "happen", "fail", "refuse"}
_REPORTS = {"say", "tell", "claim", "report", "announce", "explain", "suggest", "insist", "deny"}
_THOUGHTS = {"think", "believe", "suppose", "guess", "doubt", "wonder", "imagine", "assume"}
_POSSIBLE = {"can", "could", "may", "might", "must", "should", "would", "ought"}
_PLANNED = {"will", "shall", "'ll", "wo", "sha"}
_NEGATIONS = {"never", "no", "neither", "nor", "hardly", "barely", "longer"}
_EMPTY = {
    "it", "this", "that", "these", "those", "they", "them", "there", "one", "who", "which", "what",
    "someone", "somebody", "anyone", "anybody", "everyone", "everybody", "nobody", "something",
    "anything", "everything", "nothing", "thing", "lot", "kind", "way", "time", "bit", "fact",
    "her", "his", "its", "their", "each", "other", "others", "some", "all", "none", "both",
}  # fmt: skip
_TIMES = {"DATE", "TIME"}
_QUANTITIES = {"CARDINAL", "QUANTITY", "PERCENT", "MONEY", "ORDINAL"}
_INSIDE_NAMES = {"compound", "amod", "nummod", "flat", "nmod", "poss", "case", "quantmod"}


@dataclass(frozen=True)
class Name:
    """A noun phrase as the graph calls it."""

    text: str
    type: str | None
    is_named: bool  # a proper name or a code, or somebody who speaks
    is_literal: bool = False


class ClauseReader:
    """Reads the sentences of one text, in order; remembers who was named last."""

    def __init__(self, speaker: str, addressee: str | None, known_names: frozenset[str]) -> None:
        self._speaker = speaker
        self._addressee = addressee
        self._known = known_names
        self._last_person: Name | None = None

    def read(self, sentence: Span, quote: str) -> Iterator[ExtractedStatement]:
        """The statements of one sentence; a question makes none."""
        if quote.endswith("?") or not quote:
            return
        for token in sentence:
            if token.dep_ == "appos":
                yield from self._apposition(token, quote)
            elif token.pos_ in ("VERB", "AUX") and token.dep_ not in ("aux", "auxpass"):
                yield from self._clause(token, quote)
            if token.ent_type_ == "PERSON" and token.dep_ in ("nsubj", "nsubjpass"):
                self._last_person = self._name(token)

    # -- clauses

    def _clause(self, verb: Token, quote: str) -> Iterator[ExtractedStatement]:
        if _is_conditional(verb) or verb.dep_ in ("amod", "pcomp", "acl", "csubj"):
            return
        if any(word.lower_ in ("instead", "rather") for word in verb.subtree):
            return  # the parser often takes what is not meant for what is
        modality, said_by, is_said = self._modality(verb)
        if not is_said:
            return
        polarity = _is_negated(verb)
        when = _when(verb)
        for subject_token, is_passive in _subjects(verb):
            subject = self._name(subject_token)
            if subject is None:
                continue
            for predicate, object_token, swap in self._objects(verb, is_passive=is_passive):
                name = self._name(object_token, is_object=True)
                if name is None or name.text.lower() == subject.text.lower():
                    continue
                left, right = (name, subject) if swap else (subject, name)
                if left.is_literal:
                    continue
                is_no = polarity or any(c.lower_ == "no" for c in object_token.children)
                yield _statement(left, predicate, right, quote, is_no, modality, said_by, when)

    def _objects(self, verb: Token, *, is_passive: bool) -> Iterator[tuple[str, Token, bool]]:
        """Predicate, object, and whether the object is really the subject."""
        if verb.lemma_ == "be" and not is_passive:
            yield from self._copula(verb)
            return
        particle = next((f"_{c.lower_}" for c in verb.children if c.dep_ == "prt"), "")
        direct = [c for c in verb.children if c.dep_ in ("dobj", "attr", "oprd") and _is_noun(c)]
        for token in direct:
            if not is_passive:
                for each in _with_conjuncts(token):
                    yield _third_person(verb) + particle, each, False
        for preposition in (c for c in verb.children if c.dep_ in ("prep", "agent")):
            for token in (c for c in preposition.children if c.dep_ == "pobj"):
                if token.ent_type_ in _TIMES:
                    continue
                for each in _with_conjuncts(token):
                    if preposition.dep_ == "agent" or (is_passive and preposition.lower_ == "by"):
                        yield _third_person(verb) + particle, each, True
                    elif is_passive:
                        yield f"{verb.lower_}{particle}_{preposition.lower_}", each, False
                    elif not direct:
                        yield f"{_third_person(verb)}{particle}_{preposition.lower_}", each, False

    def _copula(self, verb: Token) -> Iterator[tuple[str, Token, bool]]:
        for token in verb.children:
            if token.dep_ in ("attr", "nsubj") and token.i > verb.i and _is_noun(token):
                of = [c for c in token.children if c.dep_ == "prep" and c.lower_ == "of"]
                targets = [t for c in of for t in c.children if t.dep_ == "pobj"]
                if targets and token.pos_ == "NOUN":
                    for each in _with_conjuncts(targets[0]):
                        yield f"{token.lemma_.lower()}_of", each, False
                else:
                    for each in _with_conjuncts(token):
                        is_kind = each.pos_ == "NOUN" or any(
                            child.lower_ in ("a", "an") for child in each.children
                        )
                        yield "is_a" if is_kind else "is", each, False
            elif token.dep_ == "acomp" and not list(token.children):
                yield "is", token, False
            elif token.dep_ == "prep" and token.lower_ in _WHERE:
                for place in (c for c in token.children if c.dep_ == "pobj"):
                    if place.ent_type_ not in _TIMES:
                        where = "in" if token.lower_ in _PLACES else token.lower_
                        yield f"located_{where}", place, False

    def _apposition(self, token: Token, quote: str) -> Iterator[ExtractedStatement]:
        head = token.head
        if not (_is_noun(head) and token.pos_ == "NOUN" and head.pos_ == "PROPN"):
            return
        subject, name = self._name(head), self._name(token, is_object=True)
        if subject and name and not name.is_literal:
            yield _statement(subject, "is_a", name, quote, False, "fact", None, None)

    def _modality(self, verb: Token) -> tuple[Modality, str | None, bool]:
        """How a clause is meant, by whom it is reported, and whether it says anything."""
        words = {c.lower_ for c in verb.children if c.dep_ == "aux"}
        modality: Modality = "fact"
        if words & _PLANNED:
            modality = "plan"
        elif words & _POSSIBLE:
            modality = "possible"
        if any(_is_conditional(c) for c in verb.children if c.dep_ == "advcl"):
            modality = "possible"
        head = verb.head
        if verb.dep_ == "conj" and head.pos_ in ("VERB", "AUX") and modality == "fact":
            return self._modality(head)
        if verb.dep_ == "xcomp":
            if head.lemma_ in _WISHES:
                return "wish", None, True
            if head.lemma_ in _PLANS:
                return "plan", None, True
            return modality, None, head.lemma_ not in _TRIES and "to" not in words
        if verb.dep_ == "ccomp":
            return self._reported(head, modality)
        is_frame = verb.lemma_ in _WISHES and any(c.dep_ == "xcomp" for c in verb.children)
        is_wish = verb.lemma_ in ("want", "need", "wish")
        return "wish" if is_wish and modality == "fact" else modality, None, not is_frame

    def _reported(self, head: Token, modality: Modality) -> tuple[Modality, str | None, bool]:
        if head.lemma_ in _REPORTS:
            sources = [self._name(token) for token, _ in _subjects(head)]
            source = next((name for name in sources if name), None)
            return "reported", source.text if source else None, source is not None
        if head.lemma_ in _THOUGHTS:
            return "possible", None, True
        if head.lemma_ in _WISHES:
            return "wish", None, True
        return modality, None, head.lemma_ in ("know", "remember", "see", "notice", "be")

    # -- names

    def _name(self, token: Token, *, is_object: bool = False) -> Name | None:
        """What a noun is called in the graph; None where it stands for something unsaid."""
        word = token.lower_
        if word in _FIRST:
            return Name(self._speaker, "person", True)
        if word in _SECOND:
            return Name(self._addressee, "person", True) if self._addressee else None
        if word in _WE:
            return Name(f"{self._speaker} (group)", None, True)
        if word in _THIRD:
            return self._last_person
        if word in _EMPTY or token.ent_type_ in _TIMES or token.pos_ in ("PRON", "DET"):
            return None
        if token.dep_ == "acomp":
            return Name(token.text, None, False, is_literal=True)
        if not _is_noun(token):
            return None
        text = self._text(token)
        if text is None or len(text.split()) > MAX_NAME_WORDS:
            return None
        is_code = _has_code(text.split())
        is_literal = not is_code and (
            token.pos_ == "NUM" or token.ent_type_ in _QUANTITIES or _is_measured(token)
        )
        if is_literal and not is_object:
            return None
        is_named = is_code or token.pos_ == "PROPN" or text.lower() in self._known
        return Name(text, token.ent_type_.lower() or None, is_named, is_literal)

    def _text(self, token: Token) -> str | None:
        """The words of a name: what belongs to its head, without articles; "my" gets its owner."""
        words = sorted(_name_tokens(token), key=lambda word: word.i)
        parts: list[str] = []
        for word in words:
            if word.dep_ == "poss" and word.pos_ == "PRON":
                owner = self._owner(word)
                if owner is None:
                    return None
                parts.append(f"{owner}'s ")
            else:
                parts.append(word.text_with_ws)
        text = re.sub(r"\s+", " ", "".join(parts)).strip(" \"'\u201c\u201d\u2018\u2019.,;:!()")
        return text if any(character.isalnum() for character in text) else None

    def _owner(self, word: Token) -> str | None:
        match word.lower_:
            case "my":
                return self._speaker
            case "your":
                return self._addressee
            case "our":
                return f"{self._speaker} (group)"
            case "his" | "her":
                return self._last_person.text if self._last_person else None
        return None


def _name_tokens(token: Token) -> Iterator[Token]:
    yield token
    for child in token.children:
        if child.dep_ == "punct" and child.text == "-" and child.i < token.i:
            yield child
        elif child.dep_ in _INSIDE_NAMES:
            is_code = bool(_CODE.match(child.text))
            if child.dep_ == "amod" and child.pos_ == "ADJ" and child.lower_ in ("other", "same"):
                continue
            if child.i < token.i or child.dep_ in ("flat", "case") or is_code:
                yield from _name_tokens(child) if child.dep_ != "poss" else child.subtree
        elif child.dep_ == "prep" and child.lower_ == "of" and child.i == token.i + 1:
            yield from (word for word in child.subtree if word.dep_ not in ("relcl", "punct"))


def _subjects(verb: Token) -> Iterator[tuple[Token, bool]]:
    own = [c for c in verb.children if c.dep_ in ("nsubj", "nsubjpass") and c.i < verb.i]
    if own:
        for subject in own:
            target = subject
            if verb.dep_ == "relcl" and subject.lower_ in ("who", "which", "that"):
                target = verb.head
            for each in _with_conjuncts(target):
                yield each, subject.dep_ == "nsubjpass"
    elif verb.dep_ in ("conj", "xcomp") and verb.head.pos_ in ("VERB", "AUX"):
        yield from _subjects(verb.head)


def _with_conjuncts(token: Token) -> list[Token]:
    return [token, *(word for word in token.conjuncts if word.i > token.i and _is_noun(word))]


def _has_code(words: list[str]) -> bool:
    """Whether a name has a code, such as B-14, SHOP-482 or the number in "Run 37"."""
    if any(_CODE.match(word) and not word.isdigit() for word in words):
        return True
    return len(words) > 1 and words[-1].isdigit()


def _is_measured(token: Token) -> bool:
    """Whether a number in figures stands before it, as in "900 degrees"."""
    return any(
        c.dep_ == "nummod" and c.i < token.i and c.text[:1].isdigit() for c in token.children
    )


def _is_noun(token: Token) -> bool:
    return token.pos_ in ("NOUN", "PROPN", "NUM", "PRON", "X", "SYM")


def _is_conditional(verb: Token) -> bool:
    words = {"if", "unless", "whether", "when", "whenever"}
    return verb.dep_ in ("advcl", "ccomp") and any(
        c.dep_ in ("mark", "advmod") and c.lower_ in words for c in verb.children
    )


def _is_negated(verb: Token) -> bool:
    if any(c.dep_ == "neg" or c.lower_ in _NEGATIONS for c in verb.children):
        return True
    subjects = (c for c in verb.children if c.dep_ in ("nsubj", "nsubjpass"))
    if any(word.lower_ == "no" for subject in subjects for word in subject.children):
        return True
    return verb.dep_ == "xcomp" and _is_negated(verb.head)


def _when(verb: Token) -> str | None:
    """The first time or date that the clause names, in its own words."""
    for token in verb.subtree:
        if token.ent_type_ in _TIMES and token.ent_iob_ == "B":
            words = [token]
            while words[-1].i + 1 < len(token.doc) and token.doc[words[-1].i + 1].ent_iob_ == "I":
                words.append(token.doc[words[-1].i + 1])
            return "".join(word.text_with_ws for word in words).strip()
    return None


def _third_person(verb: Token) -> str:
    lemma = verb.lemma_.lower()
    if lemma == "have":
        return "has"
    if lemma == "be":
        return "is"
    if re.search(r"(s|x|z|ch|sh|o)$", lemma):
        return lemma + "es"
    if re.search(r"[^aeiou]y$", lemma):
        return lemma[:-1] + "ies"
    return lemma + "s"


def _statement(
    subject: Name,
    predicate: str,
    name: Name,
    quote: str,
    is_negated: bool,
    modality: Modality,
    said_by: str | None,
    when: str | None,
) -> ExtractedStatement:
    return ExtractedStatement(
        subject=subject.text,
        subject_type=subject.type,
        predicate=re.sub(r"[^\w]+", "_", predicate).strip("_").lower(),
        object=name.text,
        object_type=name.type,
        object_is_literal=name.is_literal,
        quote=quote,
        polarity="no" if is_negated else "yes",
        modality=modality,
        said_by=said_by,
        valid_from=when,
        valid_to=None,
        confidence=(0.5, 0.7, 0.9)[subject.is_named + (name.is_named or name.is_literal)],
    )
