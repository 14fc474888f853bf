"""The rules by which a parsed sentence becomes statements. Precision comes before recall."""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from spacy.language import Language
from spacy.tokens import Doc, Span, Token

from language.extraction import ExtractedStatement, Modality
from language.plain_text import CODE, names_in

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
_VAGUE = {"few", "little", "some", "most", "half", "such"}  # a subject that is not all of its kind
_POINTING = {"this", "that", "these", "those", "another"}
_UNTOLD = {"other", "same", "many", "several", "own", "certain", "various", "only", "more"}

_PLACES = {"in", "inside", "within"}
_WHERE = {*_PLACES, "at", "on", "near", "under", "behind", "above", "below", "beside"}
_LOOSE = {"during", "after", "before", "since", "until", "by", "without", "despite", "per", "like",
          "than", "because", "due", "according", "as", "for"}  # fmt: skip
_LIGHT = {"part", "place", "care", "access", "control", "advantage", "responsibility"}

_WISHES = {"want", "wish", "hope", "desire"}
_LIKES = {"like", "love", "prefer"}  # a wish only after "would"
_PLANS = {"plan", "intend", "go", "aim", "decide", "promise", "agree", "have", "need"}
_BEGUN = {"begin", "start", "continue", "keep", "manage"}
_ENDED = {"stop", "cease", "quit", "refuse", "fail", "forget", "use"}  # "used to live"
_REPORTS = {"say", "tell", "claim", "report", "announce", "explain", "suggest", "insist", "deny",
            "mention", "state", "write", "swear", "argue", "warn", "add", "reply"}  # fmt: skip
_THOUGHTS = {"think", "believe", "suppose", "guess", "doubt", "wonder", "imagine", "assume",
             "suspect", "fear", "expect"}  # fmt: skip
_KNOWN = {"know", "remember", "see", "notice", "be", "discover", "find", "realize", "realise",
          "confirm", "show", "mean", "learn", "prove", "note", "reveal"}  # fmt: skip
_POSSIBLE = {"can", "could", "may", "might", "must", "should", "would", "ought", "ca"}
_PLANNED = {"will", "shall", "'ll", "\u2019ll", "wo", "sha"}
_MAYBE = {"probably", "perhaps", "maybe", "possibly", "presumably", "likely", "apparently"}
_NEGATIONS = {"never", "no", "neither", "nor", "hardly", "barely", "longer", "not", "n't",
              "n\u2019t"}  # fmt: skip
_ALMOST = {"almost", "nearly"}
_CONDITIONS = {"if", "unless", "whether", "when", "whenever", "until", "once", "before", "till"}

_TIMES = {"DATE", "TIME"}
_TIME_WORDS = {
    "morning", "evening", "night", "day", "week", "month", "year", "moment", "today", "tomorrow",
    "yesterday", "tonight", "dawn", "dusk", "midnight", "noon", "past", "future", "winter",
    "summer", "spring", "autumn", "weekend", "now", "monday", "tuesday", "wednesday", "thursday",
    "friday", "saturday", "sunday",
}  # fmt: skip
_NO_START = {"for", "within", "after", "before", "during", "by"}  # no time since when it holds
_REPEATED = re.compile(r"(?i)(every|each|daily|weekly|monthly|annual|yearly)")
_QUANTITIES = {"CARDINAL", "QUANTITY", "PERCENT", "MONEY", "ORDINAL"}
_QUOTES = '"\u201c\u201e'
_INSIDE_NAMES = {"compound", "amod", "nummod", "flat", "nmod", "poss", "case", "quantmod"}
_ARGUMENTS = {"nsubj", "nsubjpass", "dobj", "pobj", "conj", "poss"}
_COMPLEMENTS = {"prep", "dobj", "attr", "acomp"}
_CONTINUED = {"prep", "agent", "oprd", "xcomp", "ccomp"}
_MISREAD = {"npadvmod", "advmod", "dep"}  # what the parser calls names that it does not know


@dataclass(frozen=True)
class Name:
    """A noun phrase as the graph calls it."""

    text: str
    type: str | None
    is_named: bool  # a proper name or a code, or somebody who speaks
    is_literal: bool = False
    is_resolved: bool = False  # "he" or "she" stood there


@dataclass(frozen=True)
class Target:
    """What a verb says of its subject."""

    predicate: str
    token: Token
    is_agent: bool = False  # of a passive: really the subject
    is_denied: bool = False  # "in argon, not in air"


@dataclass(frozen=True)
class Mood:
    """How a clause is meant."""

    modality: Modality
    said_by: str | None = None
    is_denied: bool = False


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

    def read(self, sentence: Span, quote: str) -> Iterator[ExtractedStatement]:
        """The statements of one sentence; a question makes none."""
        if "?" in quote[-3:] or not quote or len(sentence) > MAX_SENTENCE_TOKENS:
            return
        several = False
        for token in sentence:
            yield from self._kinds(token, quote)
            if token.pos_ in ("VERB", "AUX") and token.dep_ not in ("aux", "auxpass"):
                yield from self._clause(token, quote)
            if token.dep_ in ("nsubj", "nsubjpass") and _may_be_a_person(token):
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
        since, until = _when(verb)
        for subject_token, is_passive in _subjects(verb):
            subject = self._name(subject_token)
            if subject is None or _is_partial(subject_token, verb):
                continue
            is_denied = _is_negated(verb) or _is_denied(subject_token) or mood.is_denied
            for target in _targets(verb, is_passive=is_passive):
                name = self._name(target.token, is_object=True)
                if name is None or name.text.lower() == subject.text.lower():
                    continue
                if name.is_literal and target.predicate.startswith("located_"):
                    continue
                left, right = (name, subject) if target.is_agent else (subject, name)
                if left.is_literal:
                    continue
                modality = mood.modality
                if _is_alternative(subject_token) or _is_alternative(target.token):
                    modality = "possible"
                yield _statement(
                    left,
                    target.predicate,
                    right,
                    quote,
                    is_negated=is_denied or target.is_denied or _is_denied(target.token),
                    mood=Mood(modality, mood.said_by),
                    since=since,
                    until=until,
                )

    def _is_readable(self, verb: Token) -> bool:
        if verb.dep_ in ("amod", "pcomp", "csubj") or verb.lemma_ == "let":
            return False
        if verb.dep_ == "acl" and not _is_announced(verb):
            return False
        if any(_is_conditional(each) for each in (verb, *verb.ancestors)):
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
        modality = _own_modality(verb)
        head = verb.head
        if verb.dep_ == "conj" and head.pos_ in ("VERB", "AUX") and modality == "fact":
            return self._mood_above(head)
        if verb.dep_ == "xcomp":
            return _under(head, modality)
        if verb.dep_ == "ccomp":
            return self._reported(verb, modality)
        if verb.lemma_ in _WISHES and modality == "fact":
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
            return _under(head.head, _own_modality(head))
        if head.dep_ == "conj" and _own_modality(head) == "fact":
            return self._mood_above(head.head)
        if head.dep_ == "ccomp":
            return self._reported(head, _own_modality(head))
        return Mood(_own_modality(head))

    def _reported(self, verb: Token, modality: Modality) -> Mood | None:
        head = verb.head
        is_negated = _is_negated(head)
        if head.lemma_ in _REPORTS:
            subjects = [c for c in head.children if c.dep_ in ("nsubj", "nsubjpass")]
            source = next((name for name in map(self._name, subjects) if name), None)
            if source is None or is_negated or _own_modality(head) != "fact":
                return None
            return Mood("reported", source.text, is_denied=head.lemma_ == "deny")
        if head.lemma_ in _THOUGHTS:
            return None if is_negated or head.lemma_ in ("doubt", "wonder") else Mood("possible")
        if head.lemma_ in _WISHES | _LIKES:
            return None if is_negated else Mood("wish")
        if head.lemma_ in _PLANS:
            return None if is_negated else Mood("plan")
        is_spliced = verb.i < head.i and not any(c.dep_ == "mark" for c in verb.children)
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
        name, noun = _apposition(token)
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
        if word in _FIRST and token.pos_ == "PRON":
            return Name(self._speaker, "person", True)
        if word in _SECOND:
            return Name(self._addressee, "person", True) if self._addressee else None
        if word in _WE and token.pos_ == "PRON":
            return Name(f"{self._speaker} (group)", None, True)
        if word in _THIRD:
            return self._person_meant(token)
        if word in _EMPTY or token.pos_ in ("PRON", "DET") or _is_time(token):
            return None
        if any(c.lower_ in _POINTING and c.dep_ == "det" for c in token.children):
            return None
        if word in _BARE and not list(token.children):
            return None
        if token.dep_ == "acomp" or token.tag_ == "VBN":
            return Name(token.text, None, False, is_literal=True) if is_object else None
        named = _named_by(token)
        if named is not None:
            name = self._noun(named)
            return Name(name.text, token.lemma_.lower(), True) if name else None
        name = self._noun(token)
        return None if name and name.is_literal and not is_object else name

    def _noun(self, token: Token) -> Name | None:
        if not _is_noun(token):
            return None
        words = _own_words(token)
        text = self._text(token, words)
        if text is None or len(text.split()) > MAX_NAME_WORDS:
            return None
        if text.lower() in _EMPTY:
            return None
        kind = token.ent_type_.lower() or None
        of = _of(token)
        *before, last = text.split()
        if CODE.fullmatch(last) and of is None:
            return Name(last, before[-1].lower() if before else kind, True)
        if _is_numbered(token.text):
            return Name(text[0].upper() + text[1:], text.split()[0].lower(), True)
        is_literal = (
            token.pos_ == "NUM"
            or token.ent_type_ in _QUANTITIES
            or (of is not None and (of.pos_ == "NUM" or of.ent_type_ in _QUANTITIES))
            or any(w.like_num and not w.is_alpha and not CODE.fullmatch(w.text) for w in words)
            or (words[0].i > 0 and token.doc[words[0].i - 1].text in _QUOTES)
        )
        is_named = token.pos_ == "PROPN" or text.lower() in self._known or _is_capital(token)
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
        of = _of(token)
        if of is not None:
            rest = self._text(of, _own_words(of))
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
                return self._speaker
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


# -- clauses


def _own_modality(verb: Token) -> Modality:
    words = {c.lower_ for c in verb.children if c.dep_ == "aux"}
    if any(_is_conditional(c, {"if", "unless"}) for c in verb.children if c.dep_ == "advcl"):
        return "possible"
    if words & _PLANNED:
        return "plan"
    if words & _POSSIBLE:
        return "wish" if verb.lemma_ in _LIKES and "would" in words else "possible"
    before = verb.doc[max(verb.left_edge.i - 1, verb.sent.start)]
    if before.lower_ in _MAYBE or any(c.lower_ in _MAYBE for c in verb.children):
        return "possible"
    return "fact"


def _under(head: Token, modality: Modality) -> Mood | None:
    """How "to do" is meant after a verb such as "want"."""
    is_denied = _is_negated(head)
    above = _own_modality(head)
    if head.lemma_ in _WISHES or (head.lemma_ in _LIKES and above == "wish"):
        return Mood("wish", is_denied=is_denied)
    if head.lemma_ in _PLANS:
        return Mood("plan", is_denied=is_denied)
    if head.lemma_ in _BEGUN:
        return Mood(above if modality == "fact" else modality, is_denied=is_denied)
    if head.lemma_ in _ENDED:
        return None if is_denied else Mood(above, is_denied=True)
    return None


def _targets(verb: Token, *, is_passive: bool) -> Iterator[Target]:
    if verb.lemma_ == "be" and not is_passive:
        yield from _copula(verb)
        return
    particle = next((f"_{c.lower_}" for c in verb.children if c.dep_ == "prt"), "")
    predicate = verb.lower_ if is_passive else _third_person(verb)
    direct = [] if is_passive else _direct_objects(verb)
    for token in direct:
        if token.lower_ in _LIGHT:
            for preposition in (c for c in token.children if c.dep_ == "prep"):
                for each in _objects_of(preposition):
                    yield Target(f"{predicate}_{token.lower_}_{preposition.lower_}", each)
            continue
        for each in _with_conjuncts(token):
            yield Target(predicate + particle, each)
    if is_passive:
        for token in (c for c in verb.children if c.dep_ == "oprd" and _is_noun(c)):
            yield Target(predicate, token)
        is_now = any(c.lower_ in ("is", "are") for c in verb.children if c.dep_ == "auxpass")
        if is_now and not {c.dep_ for c in verb.children} & _CONTINUED:
            yield Target("is", verb)  # "is broken" is a state
    for preposition in (c for c in verb.children if c.dep_ in ("prep", "agent")):
        is_agent = is_passive and preposition.lower_ == "by"
        if not is_agent and (direct or preposition.lower_ in _LOOSE - {"for", "as"}):
            continue
        for each in _objects_of(preposition):
            if is_agent:
                yield Target(_third_person(verb) + particle, each, is_agent=True)
            else:
                name = f"{predicate}{particle}_{preposition.lower_}"
                yield Target(name, each, is_denied=_is_denied(preposition))


def _copula(verb: Token) -> Iterator[Target]:
    if (there := _stands_there(verb)) is not None:
        for preposition in verb.subtree:
            is_near = preposition.head in (verb, there)
            if preposition.dep_ == "prep" and preposition.lower_ in _PLACES and is_near:
                for each in _objects_of(preposition):
                    yield Target("located_in", each)
        return
    for token in verb.children:
        if token.dep_ == "attr" and token.i > verb.i and _is_noun(token):
            of = _of(token)
            words = {c.lower_ for c in token.children}
            owner = next((c for c in token.children if c.dep_ == "poss"), None)
            if token.pos_ == "NOUN" and of is not None and not words & {"a", "an"}:
                for each in _with_conjuncts(of):
                    yield Target(f"{token.lemma_.lower()}_of", each)
            elif token.pos_ == "NOUN" and owner is not None and owner.pos_ != "PRON":
                yield Target(f"{token.lemma_.lower()}_of", owner)
            else:
                for each in _with_conjuncts(token):
                    is_number = each.ent_type_ in _QUANTITIES
                    is_kind = not is_number and (each.pos_ == "NOUN" or words & {"a", "an"})
                    yield Target("is_a" if is_kind else "is", each)
        elif token.dep_ == "acomp" and token.pos_ == "ADJ":
            prepositions = [c for c in token.children if c.dep_ == "prep"]
            if any(c.dep_ in ("xcomp", "ccomp", "conj", "advcl") for c in token.children):
                continue
            for preposition in prepositions:
                for each in _objects_of(preposition):
                    yield Target(f"is_{token.lower_}_{preposition.lower_}", each)
            if not prepositions:
                yield Target("is", token)
        elif token.dep_ == "prep" and token.lower_ in _WHERE:
            where = "in" if token.lower_ in _PLACES else token.lower_
            for each in _objects_of(token):
                yield Target(f"located_{where}", each, is_denied=_is_denied(token))


def _subjects(verb: Token) -> Iterator[tuple[Token, bool]]:
    """The subjects, and whether the clause is a passive."""
    own = [c for c in verb.children if c.dep_ in ("nsubj", "nsubjpass") and c.i < verb.i]
    if own:
        if any(c.dep_ in ("aux", "auxpass") and c.i < own[0].i for c in verb.children):
            return  # a question that nothing marks as one
        for subject in own:
            target = subject
            if verb.dep_ == "relcl" and subject.lower_ in ("who", "which", "that"):
                target = verb.head
                if target.tag_ == "NNS":
                    continue  # "guards who drink" are not the guards
            name, noun = _apposition(target)
            for each in _with_conjuncts(name if name is not None and noun == target else target):
                yield each, subject.dep_ == "nsubjpass"
    elif verb.dep_ in ("conj", "xcomp") and verb.head.pos_ in ("VERB", "AUX"):
        is_passive = any(c.dep_ == "auxpass" for c in verb.children)
        for each, was_passive in _subjects(verb.head):
            yield each, is_passive or (was_passive and verb.tag_ == "VBN")
    elif (there := _stands_there(verb)) is not None:
        yield there, False
    elif verb.tag_ in ("VBZ", "VBD", "VBP"):
        before = [c for c in verb.children if c.i < verb.i and c.dep_ in (*_MISREAD, "aux", "neg")]
        names = [c for c in before if c.dep_ in _MISREAD and _is_misread_name(c)]
        if names and names[-1] == before[0]:
            yield names[-1], False


def _is_partial(subject: Token, verb: Token) -> bool:
    """Whether only some of those that the subject's name would mean are meant."""
    if any(c.lower_ in _VAGUE for c in subject.children):
        return True
    is_plural = subject.tag_ == "NNS"
    if is_plural and any(c.dep_ == "relcl" and c != verb for c in subject.children):
        return True  # "users who forget it"
    siblings = verb.lemma_ == "be" and any(c.tag_ == "NNS" for c in verb.children if c.i > verb.i)
    return siblings and bool(subject.conjuncts) and not is_plural  # "are siblings": of each other


def _stands_there(verb: Token) -> Token | None:
    """What "there is"."""
    if any(c.dep_ == "expl" for c in verb.children):
        return next((c for c in verb.children if c.dep_ == "attr" and _is_noun(c)), None)
    return None


def _direct_objects(verb: Token) -> list[Token]:
    found = [c for c in verb.children if c.dep_ in ("dobj", "attr", "oprd") and _is_noun(c)]
    following = verb.nbor(1) if verb.i + 1 < len(verb.doc) else None
    if not found and following is not None and following.head == verb:
        found = [following] if _is_misread_name(following) else []
    found = [c for c in found if c.i > verb.i and not _is_instead(verb, c)]
    return found[-1:] if verb.lemma_ != "be" else found  # "hands Tamsin the blade"


def _objects_of(preposition: Token) -> Iterator[Token]:
    found = [c for c in preposition.children if c.dep_ == "pobj"]
    if not found and preposition.i + 1 < len(preposition.doc):
        following = preposition.nbor(1)
        is_near = following.head in (preposition, preposition.head)
        found = [following] if is_near and _is_misread_name(following) else []
    for token in found:
        if not _is_time(token) and not _is_instead(preposition.head, token):
            yield from _with_conjuncts(token)


def _with_conjuncts(token: Token) -> list[Token]:
    others = (word for word in token.conjuncts if word.i > token.i and _is_noun(word))
    return [token, *(word for word in others if not _is_instead(token, word))]


def _is_instead(start: Token, token: Token) -> bool:
    """Whether "instead of" or "rather than" stands between."""
    if token.i <= start.i:
        return False
    return any(w.lower_ in ("instead", "rather") for w in token.doc[start.i + 1 : token.i])


def _is_alternative(token: Token) -> bool:
    group = (token, *token.conjuncts)
    return any(c.lower_ == "or" for each in group for c in each.children if c.dep_ == "cc")


def _is_conditional(verb: Token, words: Container[str] = frozenset(_CONDITIONS)) -> bool:
    return verb.dep_ in ("advcl", "ccomp") and any(
        c.dep_ in ("mark", "advmod") and c.lower_ in words for c in verb.children
    )


def _is_announced(verb: Token) -> bool:
    """ "Decision: the shop supports PayPal"."""
    return any(
        c.dep_ == "nsubj" and c.left_edge.i > 0 and verb.doc[c.left_edge.i - 1].text == ":"
        for c in verb.children
    )


def _is_negated(verb: Token) -> bool:
    said = [c.i for c in verb.children if c.i > verb.i and c.dep_ in _COMPLEMENTS]
    for child in verb.children:
        if child.dep_ in ("neg", "advmod", "preconj") and child.lower_ in _NEGATIONS:
            # "in argon, not in air" denies what follows alone
            return not any(place < child.i for place in said)
    has_subject = any(c.dep_ in ("nsubj", "nsubjpass") for c in verb.children)
    is_shared = verb.dep_ == "conj" and not has_subject and verb.head.pos_ in ("VERB", "AUX")
    has_or = any(c.lower_ in ("or", "nor") for c in verb.head.children)
    return is_shared and has_or and _is_negated(verb.head)


def _is_denied(token: Token) -> bool:
    """ "No band", "neither Kira nor Tobin", "in argon, not in air"."""
    first = min(token.left_edge.i, token.i)
    if first > token.sent.start and token.doc[first - 1].lower_ in ("not", "nor", "neither"):
        return True
    group = (token, *token.conjuncts)
    own = any(c.lower_ in ("no", "neither", "not") and c.i < token.i for c in token.children)
    return own or any(c.lower_ == "neither" for each in group for c in each.children)


def _when(verb: Token) -> tuple[str | None, str | None]:
    """Since when and until when, in the clause's own words."""
    since: str | None = None
    until: str | None = None
    for token in verb.subtree:
        is_first = token.ent_iob_ == "B" and token.ent_type_ in _TIMES
        if not is_first and not (token.lower_ in _TIME_WORDS and not token.ent_type_):
            continue
        if next((a for a in token.ancestors if a.pos_ in ("VERB", "AUX")), None) != verb:
            continue
        words = [token]
        while is_first and words[-1].i + 1 < len(token.doc) and words[-1].nbor(1).ent_iob_ == "I":
            words.append(words[-1].nbor(1))
        text = "".join(word.text_with_ws for word in words).strip()
        before = {a.lower_ for a in token.ancestors if a.pos_ in ("ADP", "SCONJ")}
        if _REPEATED.match(text) or before & _NO_START:
            continue
        if before & {"until", "till"}:
            until = until or text
        else:
            since = since or text
    return since, until


def _third_person(verb: Token) -> str:
    lemma, form = verb.lemma_.lower(), verb.lower_
    if form == lemma + "es" and not re.search(r"(s|x|z|ch|sh|o)$", lemma):
        return form  # "hates", which the lemmatizer takes for a form of "hat"
    if form == lemma + "ed" and re.search(r"^[^aeiou]+[aeiou][bdgkmptz]$", lemma):
        lemma += "e"  # "hated": of "hat" it would be "hatted"
    if lemma in ("have", "be"):
        return {"have": "has", "be": "is"}[lemma]
    if re.search(r"(s|x|z|ch|sh|o)$", lemma):
        return lemma + "es"
    if re.search(r"[^aeiou]y$", lemma):
        return lemma[:-1] + "ies"
    return lemma + "s"


# -- names


def _own_words(token: Token) -> list[Token]:
    """The words of a noun phrase up to its head, and a code that follows it."""
    found = [token]
    is_name = token.text[:1].isupper() and not token.text.isupper()  # "checkout API" is none
    for child in token.children:
        if child.dep_ == "punct" and child.text == "-" and child.i < token.i:
            found.append(child)
        elif child.dep_ in _INSIDE_NAMES:
            if child.i > token.i:
                if CODE.fullmatch(child.text) or child.dep_ == "flat":
                    found.append(child)
            elif child.dep_ == "poss":
                found += [w for w in child.subtree if w.pos_ != "DET"]
            elif child.lower_ in _UNTOLD or (is_name and child.text.islower()):
                continue  # "brave Kira", "paladin Aldric": the name alone
            else:
                found += _own_words(child)
    return sorted(found, key=lambda word: word.i)


def _of(token: Token) -> Token | None:
    for child in token.children:
        if child.dep_ == "prep" and child.lower_ == "of" and child.i == token.i + 1:
            return next((c for c in child.children if c.dep_ == "pobj" and _is_noun(c)), None)
    return None


def _named_by(token: Token) -> Token | None:
    """The name that follows its noun: "the product Shoply", "story SHOP-482"."""
    if token.i + 1 >= len(token.doc) or token.pos_ != "NOUN" or token.tag_ == "NNS":
        return None
    after = token.nbor(1)
    belongs = after.head in (token, token.head) and after.dep_ in ("appos", *_MISREAD)
    is_name = after.pos_ == "PROPN" and after.text[:1].isupper()
    return after if belongs and (is_name or CODE.fullmatch(after.text)) else None


def _apposition(token: Token) -> tuple[Token | None, Token | None]:
    """The name and the noun that says what it is, where the token is the later of both."""
    if token.dep_ == "appos":
        head = token.head
        if head.pos_ == "PROPN" and token.pos_ == "NOUN" and not token.conjuncts:
            return head, token
        if head.pos_ == "NOUN" and token.pos_ == "PROPN" and token.text[:1].isupper():
            return token, head
    if token.dep_ in ("nsubj", "nsubjpass") and token.pos_ == "NOUN" and token.left_edge.i > 0:
        before = token.doc[token.left_edge.i - 1]
        is_name = before.pos_ == "PROPN" and before.dep_ in _MISREAD and before.head == token.head
        if is_name and token.left_edge.lower_ == "the":
            return before, token
    return None, None


def _is_noun(token: Token) -> bool:
    if token.pos_ in ("NOUN", "PROPN", "NUM", "PRON", "X", "SYM"):
        return True
    # The tagger calls names that it does not know anything; their place and look tell more.
    looks_named = CODE.fullmatch(token.text) or _is_numbered(token.text) or _is_capital(token)
    return bool(looks_named) and token.dep_ in _ARGUMENTS


def _is_misread_name(token: Token) -> bool:
    return token.pos_ == "PROPN" and token.dep_ in _MISREAD and not _is_time(token)


def _is_capital(token: Token) -> bool:
    """A capital that no beginning of a sentence asks for."""
    return token.text[:1].isupper() and token.left_edge.i > token.sent.start


def _is_numbered(text: str) -> bool:
    """ "Run 37", which stands as one token."""
    return " " in text and text[-1].isdigit()


def _is_time(token: Token) -> bool:
    is_entity = token.ent_type_ in _TIMES and not CODE.fullmatch(token.text)
    return (is_entity and not _is_numbered(token.text)) or token.lower_ in _TIME_WORDS


def _may_be_a_person(token: Token) -> bool:
    """A name without an article; spaCy's types are wrong too often to ask for PERSON."""
    has_article = any(c.pos_ == "DET" for c in token.children)
    is_code = bool(CODE.fullmatch(token.text)) or _is_numbered(token.text)
    is_name = token.pos_ == "PROPN" or _named_by(token) is not None
    return is_name and not is_code and (not has_article or token.pos_ == "NOUN")


def parse(nlp: Language, text: str, known_names: Sequence[str]) -> Doc:
    """The parsed text, where each code and each known name is one token and known to be a name."""
    doc = nlp.make_doc(text)
    spans = sorted(names_in(text, known_names), key=lambda span: (span[0], -span[1]))
    taken = 0
    with doc.retokenize() as retokenizer:
        for start, end in spans:
            span = doc.char_span(start, end)
            if span is not None and span.start >= taken:
                retokenizer.merge(span)
                taken = span.end
    doc = nlp(doc)
    starts = {start for start, _ in spans}
    for token in doc:
        if token.idx in starts and token.text[:1].isupper() and token.pos_ != "NOUN":
            token.pos_ = "PROPN"
    return doc


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
