"""The rules by which a parsed sentence becomes statements. Precision comes before recall."""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

from spacy.tokens import Span, Token

from language.grammar import (
    LIKES,
    PLANS,
    QUANTITIES,
    WISHES,
    Mood,
    apposition_of,
    degrees_of,
    has_denial,
    has_negation,
    is_alternative,
    is_announced,
    is_capital,
    is_conditional,
    is_noun,
    is_numbered,
    is_partial,
    is_time,
    may_be_a_person,
    modality_of,
    mood_under,
    named_by,
    of_phrase,
    own_words,
    subjects_of,
    targets_of,
    times_of,
)
from language.plain_text import CODE
from language.statements import ExtractedStatement, Modality

MAX_NAME_WORDS = 7  # longer noun phrases are clauses that the parser took for names
MAX_SENTENCE_TOKENS = 120  # longer ones are lists or no prose, and rules climb their trees
_FIRST = {"i", "me", "myself"}
_SECOND = {"you", "yourself"}
_WE = {"we", "us", "ourselves"}
_THIRD = {"he", "she", "him"}  # "her" is a possessive too often
_EMPTY = {
    "it", "this", "that", "these", "those", "they", "them", "there", "one", "who", "which", "what",
    "someone", "somebody", "anyone", "anybody", "everyone", "everybody", "nobody", "something",
    "anything", "everything", "nothing", "thing", "lot", "kind", "way", "time", "bit", "fact",
    "her", "his", "its", "their", "each", "other", "others", "some", "all", "none", "both",
    "here", "ones", "things",
}  # fmt: skip
_BARE = {"general", "least", "course", "order", "addition", "case", "particular"}  # "in case"
_POINTING = {"this", "that", "these", "those", "another"}
_REPORTS = {"say", "tell", "claim", "report", "announce", "explain", "suggest", "insist", "deny",
            "mention", "state", "write", "swear", "argue", "warn", "add", "reply"}  # fmt: skip
_THOUGHTS = {"think", "believe", "suppose", "guess", "doubt", "wonder", "imagine", "assume",
             "suspect", "fear", "expect"}  # fmt: skip
_KNOWN = {"know", "remember", "see", "notice", "be", "discover", "find", "realize", "realise",
          "confirm", "show", "mean", "learn", "prove", "note", "reveal"}  # fmt: skip
_ALMOST = {"almost", "nearly"}
_STORY = re.compile(r"\W*As an? ([\w -]{2,40}), I\b")  # "As a reader, I want ..."
_QUOTES = '"\u201c\u201e'


@dataclass(frozen=True)
class Name:
    """A noun phrase as the graph calls it."""

    text: str
    type: str | None
    is_named: bool  # a proper name or a code, or somebody who speaks
    is_literal: bool = False
    is_resolved: bool = False  # "he" or "she" stood there


class ClauseReader:
    """Reads the sentences of one text, in order; remembers who was named last."""

    def __init__(
        self,
        speaker: str,
        addressee: str | None,
        known_names: frozenset[str],
        verbs: Container[str],
    ) -> None:
        """`known_names` in lower case. `verbs`: the lemmas that are verbs, others are misread."""
        self._speaker = speaker
        self._addressee = addressee
        self._known = known_names
        self._verbs = verbs
        self._last_person: Name | None = None
        self._role: str | None = None  # who "I" is in a user story

    def read(self, sentence: Span, quote: str) -> Iterator[ExtractedStatement]:
        """The statements of one sentence; a question makes none."""
        if "?" in quote[-3:] or not quote or len(sentence) > MAX_SENTENCE_TOKENS:
            return
        several = False
        story = _STORY.match(sentence.text)
        self._role = story[1].strip() if story else None
        for token in sentence:
            yield from self._kinds(token, quote)
            if token.pos_ in ("VERB", "AUX") and token.dep_ not in ("aux", "auxpass"):
                yield from self._clause(token, quote)
            if token.dep_ in ("nsubj", "nsubjpass") and may_be_a_person(token):
                self._last_person = self._name(token)
                several = bool(token.conjuncts)
        if several:
            self._last_person = None

    # -- clauses

    def _clause(self, verb: Token, quote: str) -> Iterator[ExtractedStatement]:
        if not self._is_readable(verb):
            return
        mood = self._mood(verb)
        if mood is None:
            return
        since, until = times_of(verb)
        for subject_token, is_passive in subjects_of(verb):
            subject = self._name(subject_token)
            if subject is None or is_partial(subject_token, verb):
                continue
            is_denied = has_negation(verb) or has_denial(subject_token) or mood.is_denied
            for target in targets_of(verb, is_passive=is_passive):
                name = self._name(target.token, is_object=True)
                if name is None or name.text.lower() == subject.text.lower():
                    continue
                if name.is_literal and target.predicate.startswith("located_"):
                    continue
                left, right = (name, subject) if target.is_agent else (subject, name)
                if left.is_literal:
                    continue
                modality = mood.modality
                if is_alternative(subject_token) or is_alternative(target.token):
                    modality = "possible"
                yield _statement(
                    left,
                    target.predicate,
                    right,
                    quote,
                    is_negated=is_denied or target.is_denied or has_denial(target.token),
                    mood=Mood(modality, mood.said_by),
                    since=since,
                    until=until,
                )

    def _is_readable(self, verb: Token) -> bool:
        if verb.dep_ in ("amod", "pcomp", "csubj") or verb.lemma_ == "let":
            return False
        if verb.dep_ == "acl" and not is_announced(verb):
            return False
        if any(is_conditional(each) for each in (verb, *verb.ancestors)):
            return False
        if any(child.lower_ in _ALMOST for child in verb.children):
            return False
        return verb.pos_ == "AUX" or verb.lemma_.lower().rpartition("-")[2] in self._verbs

    def _mood(self, verb: Token) -> Mood | None:
        """How a clause is meant; None where it says nothing by itself."""
        complements = {c.dep_ for c in verb.children}
        if verb.lemma_ in _REPORTS | _THOUGHTS | {"ask"} and "ccomp" in complements:
            return None
        if "xcomp" in complements and any(
            c.dep_ == "xcomp" and c.pos_ in ("VERB", "AUX") for c in verb.children
        ):
            return None
        modality = modality_of(verb)
        head = verb.head
        if verb.dep_ == "conj" and head.pos_ in ("VERB", "AUX") and modality == "fact":
            return self._mood_above(head)
        if verb.dep_ == "xcomp":
            return mood_under(head, modality)
        if verb.dep_ == "ccomp":
            return self._reported(verb, modality)
        if verb.lemma_ in WISHES and modality == "fact":
            return Mood("wish")
        source = self._source(verb)
        if source:
            return Mood("reported", source)
        if verb.dep_ in ("relcl", "advcl"):
            above = next((a for a in verb.ancestors if a.dep_ == "ccomp"), None)
            return self._reported(above, modality) if above else Mood(modality)
        return Mood(modality)

    def _mood_above(self, head: Token) -> Mood | None:
        if head.dep_ == "xcomp":
            return mood_under(head.head, modality_of(head))
        if head.dep_ == "conj" and modality_of(head) == "fact":
            return self._mood_above(head.head)
        if head.dep_ == "ccomp":
            return self._reported(head, modality_of(head))
        return Mood(modality_of(head))

    def _reported(self, verb: Token, modality: Modality) -> Mood | None:
        head = verb.head
        is_negated = has_negation(head)
        if head.lemma_ in _REPORTS:
            subjects = [c for c in head.children if c.dep_ in ("nsubj", "nsubjpass")]
            source = next((name for name in map(self._name, subjects) if name), None)
            if source is None or is_negated or modality_of(head) != "fact":
                return None
            return Mood("reported", source.text, is_denied=head.lemma_ == "deny")
        if head.lemma_ in _THOUGHTS:
            return None if is_negated or head.lemma_ in ("doubt", "wonder") else Mood("possible")
        if head.lemma_ in WISHES | LIKES:
            return None if is_negated else Mood("wish")
        is_spliced = verb.i < head.i and not any(c.dep_ == "mark" for c in verb.children)
        if head.lemma_ in PLANS and not is_spliced:
            return None if is_negated else Mood("plan")
        if is_spliced or (head.lemma_ in _KNOWN and not is_negated):
            return Mood(modality)
        return None

    def _source(self, verb: Token) -> str | None:
        """Who stands behind "according to"."""
        for word in verb.children:
            if word.lower_ == "according":
                for token in (t for to in word.children for t in to.children if t.dep_ == "pobj"):
                    name = self._name(token)
                    return name.text if name else None
        return None

    def _kinds(self, token: Token, quote: str) -> Iterator[ExtractedStatement]:
        """ "Kira, the ranger" and "the ranger Kira": is_a; "Kira's brother Tobin": brother_of."""
        name, noun = apposition_of(token)
        if name is None or noun is None or noun.tag_ in ("NNS", "NNPS"):
            return
        subject = self._name(name)
        if subject is None or not subject.is_named or CODE.fullmatch(subject.text):
            return
        owner = next((c for c in noun.children if c.dep_ == "poss"), None)
        if owner is not None:
            text = self._owner(owner) if owner.pos_ == "PRON" else None
            kin = Name(text, None, True) if text else self._name(owner)
            predicate = f"{noun.lemma_.lower()}_of"
        else:
            kin = self._noun(noun)
            predicate = "is_a"
        if kin and not kin.is_literal and kin.text != subject.text:
            yield _statement(subject, predicate, kin, quote, is_negated=False, mood=Mood("fact"))

    # -- names

    def _name(self, token: Token, *, is_object: bool = False) -> Name | None:
        """What a noun is called in the graph; None where it stands for something unsaid."""
        word = token.lower_
        if word in _FIRST and token.pos_ == "PRON" and self._role:
            return Name(self._role, "role", False)
        if word in _FIRST and token.pos_ == "PRON":
            return Name(self._speaker, "person", True)
        if word in _SECOND:
            return Name(self._addressee, "person", True) if self._addressee else None
        if word in _WE and token.pos_ == "PRON":
            return Name(f"{self._speaker} (group)", None, True)
        if word in _THIRD:
            return self._person_meant(token)
        if word in _EMPTY or token.pos_ in ("PRON", "DET") or is_time(token):
            return None
        if any(c.lower_ in _POINTING and c.dep_ == "det" for c in token.children):
            return None
        if word in _BARE and not list(token.children):
            return None
        if token.dep_ == "acomp" or token.tag_ == "VBN":
            text = " ".join([*degrees_of(token), token.text])
            return Name(text, None, False, is_literal=True) if is_object else None
        named = named_by(token)
        if named is not None:
            name = self._noun(named)
            return Name(name.text, token.lemma_.lower(), True) if name else None
        name = self._noun(token)
        return None if name and name.is_literal and not is_object else name

    def _noun(self, token: Token) -> Name | None:
        if not is_noun(token):
            return None
        words = own_words(token)
        text = self._text(token, words)
        if text is None or len(text.split()) > MAX_NAME_WORDS:
            return None
        if text.lower() in _EMPTY:
            return None
        kind = token.ent_type_.lower() or None
        of = of_phrase(token)
        *before, last = text.split()
        if CODE.fullmatch(last) and of is None:
            return Name(last, before[-1].lower() if before else kind, True)
        if is_numbered(token.text):
            return Name(text[0].upper() + text[1:], text.split()[0].lower(), True)
        is_literal = (
            token.pos_ == "NUM"
            or token.ent_type_ in QUANTITIES
            or (of is not None and (of.pos_ == "NUM" or of.ent_type_ in QUANTITIES))
            or any(w.like_num and not w.is_alpha and not CODE.fullmatch(w.text) for w in words)
            or (words[0].i > 0 and token.doc[words[0].i - 1].text in _QUOTES)
        )
        is_named = token.pos_ == "PROPN" or text.lower() in self._known or is_capital(token)
        return Name(text, kind, is_named and not is_literal, is_literal)

    def _text(self, token: Token, words: list[Token]) -> str | None:
        """The words of a name: what belongs to its head, without articles; "my" gets its owner."""
        parts: list[str] = []
        for before, word in zip([None, *words], words, strict=False):
            if before is not None and any(
                each.pos_ == "DET" or each.text == "-" for each in token.doc[before.i + 1 : word.i]
            ):
                return None  # two names that the parser took for one, or one torn apart
            if word.dep_ == "poss" and word.pos_ == "PRON":
                owner = self._owner(word)
                if owner is None:
                    return None
                parts.append(f"{owner}'s ")
            else:
                parts.append(word.text_with_ws)
        of = of_phrase(token)
        if of is not None:
            rest = self._text(of, own_words(of))
            if rest is None or of.pos_ == "PRON":
                return None
            has_the = any(c.lower_ == "the" for c in of.children)
            the = "the " if has_the and token.text[:1].isupper() else ""
            parts.append(f" of {the}{rest}")
        text = re.sub(r"\s+", " ", "".join(parts)).strip(" \"'\u201c\u201d\u2018\u2019.,;:!()/-")
        return text if any(character.isalnum() for character in text) else None

    def _owner(self, word: Token) -> str | None:
        match word.lower_:
            case "my":
                return self._role or self._speaker
            case "your":
                return self._addressee
            case "our":
                return f"{self._speaker} (group)"
            case "his" | "her":
                person = self._person_meant(word)
                return person.text if person else None
        return None

    def _person_meant(self, word: Token) -> Name | None:
        """The last named person, unless another one is named between."""
        person = self._last_person
        if person is None:
            return None
        for other in word.sent:
            if other.i >= word.i:
                break
            if other.ent_type_ == "PERSON" and other.text not in person.text:
                return None
        return Name(person.text, person.type, True, is_resolved=True)


def _statement(
    subject: Name,
    predicate: str,
    name: Name,
    quote: str,
    *,
    is_negated: bool,
    mood: Mood,
    since: str | None = None,
    until: str | None = None,
) -> ExtractedStatement:
    confidence = 0.9 if subject.is_named else 0.5
    if subject.is_resolved or name.is_resolved:
        confidence = 0.7
    return ExtractedStatement(
        subject=subject.text,
        subject_type=subject.type,
        predicate=re.sub(r"[^\w]+", "_", predicate).strip("_").lower(),
        object=name.text,
        object_type=name.type,
        object_is_literal=name.is_literal,
        quote=quote,
        polarity="no" if is_negated else "yes",
        modality=mood.modality,
        said_by=mood.said_by,
        valid_from=since,
        valid_to=until,
        confidence=confidence,
    )
