"""What the parse of a sentence says: subjects, objects, negation, mood and times of a verb."""

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from spacy.language import Language
from spacy.tokens import Doc, Token

from language.plain_text import CODE, names_in
from language.statements import Modality

BATCH = 32  # texts that are parsed together; more gain next to nothing

_DEGREES = {"too", "more", "less", "most", "least"}
_VAGUE = {"few", "little", "some", "most", "half", "such"}  # a subject that is not all of its kind
_UNTOLD = {"other", "same", "many", "several", "own", "certain", "various", "only", "more"}
_PLACES = {"in", "inside", "within"}
_WHERE = {*_PLACES, "at", "on", "near", "under", "behind", "above", "below", "beside"}
_LOOSE = {"during", "after", "before", "since", "until", "by", "without", "despite", "per", "like",
          "than", "because", "due", "according", "as", "for"}  # fmt: skip
_LIGHT = {"part", "place", "care", "access", "control", "advantage", "responsibility"}
WISHES = {"want", "wish", "hope", "desire"}
LIKES = {"like", "love", "prefer"}  # a wish only after "would"
PLANS = {"plan", "intend", "go", "aim", "decide", "promise", "agree", "have", "need"}
_BEGUN = {"begin", "start", "continue", "keep", "manage"}
_ENDED = {"stop", "cease", "quit", "refuse", "fail", "forget", "use"}  # "used to live"
_POSSIBLE = {"can", "could", "may", "might", "must", "should", "would", "ought", "ca"}
_PLANNED = {"will", "shall", "'ll", "\u2019ll", "wo", "sha"}
_MAYBE = {"probably", "perhaps", "maybe", "possibly", "presumably", "likely", "apparently"}
_NEGATIONS = {"never", "no", "neither", "nor", "hardly", "barely", "longer", "not", "n't",
              "n\u2019t"}  # fmt: skip
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
QUANTITIES = {"CARDINAL", "QUANTITY", "PERCENT", "MONEY", "ORDINAL"}
_INSIDE_NAMES = {"compound", "amod", "nummod", "flat", "nmod", "poss", "case", "quantmod"}
_ARGUMENTS = {"nsubj", "nsubjpass", "dobj", "pobj", "conj", "poss"}
_COMPLEMENTS = {"prep", "dobj", "attr", "acomp"}
_CONTINUED = {"prep", "agent", "oprd", "xcomp", "ccomp"}
_MISREAD = {"npadvmod", "advmod", "dep"}  # what the parser calls names that it does not know


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


def modality_of(verb: Token) -> Modality:
    words = {c.lower_ for c in verb.children if c.dep_ == "aux"}
    if any(is_conditional(c, {"if", "unless"}) for c in verb.children if c.dep_ == "advcl"):
        return "possible"
    if words & _PLANNED:
        return "plan"
    if words & _POSSIBLE:
        return "wish" if verb.lemma_ in LIKES and "would" in words else "possible"
    before = verb.doc[max(verb.left_edge.i - 1, verb.sent.start)]
    if before.lower_ in _MAYBE or any(c.lower_ in _MAYBE for c in verb.children):
        return "possible"
    return "fact"


def mood_under(head: Token, modality: Modality) -> Mood | None:
    """How "to do" is meant after a verb such as "want"."""
    is_denied = has_negation(head)
    above = modality_of(head)
    if head.lemma_ in WISHES or (head.lemma_ in LIKES and above == "wish"):
        return Mood("wish", is_denied=is_denied)
    if head.lemma_ in PLANS:
        return Mood("plan", is_denied=is_denied)
    if head.lemma_ in _BEGUN:
        return Mood(above if modality == "fact" else modality, is_denied=is_denied)
    if head.lemma_ in _ENDED:
        return None if is_denied else Mood(above, is_denied=True)
    return None


def targets_of(verb: Token, *, is_passive: bool) -> Iterator[Target]:
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
        for token in (c for c in verb.children if c.dep_ == "oprd" and is_noun(c)):
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
                yield Target(name, each, is_denied=has_denial(preposition))


def _copula(verb: Token) -> Iterator[Target]:
    if (there := _stands_there(verb)) is not None:
        for preposition in verb.subtree:
            is_near = preposition.head in (verb, there)
            if preposition.dep_ == "prep" and preposition.lower_ in _PLACES and is_near:
                for each in _objects_of(preposition):
                    yield Target("located_in", each)
        return
    for token in verb.children:
        if token.dep_ == "attr" and token.i > verb.i and is_noun(token):
            of = of_phrase(token)
            words = {c.lower_ for c in token.children}
            owner = next((c for c in token.children if c.dep_ == "poss"), None)
            if token.pos_ == "NOUN" and of is not None and not words & {"a", "an"}:
                for each in _with_conjuncts(of):
                    yield Target(f"{token.lemma_.lower()}_of", each)
            elif token.pos_ == "NOUN" and owner is not None and owner.pos_ != "PRON":
                yield Target(f"{token.lemma_.lower()}_of", owner)
            else:
                for each in _with_conjuncts(token):
                    is_number = each.ent_type_ in QUANTITIES or _is_counted(each)
                    is_kind = not is_number and (each.pos_ == "NOUN" or words & {"a", "an"})
                    yield Target("is_a" if is_kind else "is", each)
        elif token.dep_ == "acomp" and token.pos_ == "ADJ":
            prepositions = [c for c in token.children if c.dep_ == "prep"]
            if any(c.dep_ in ("xcomp", "ccomp", "conj", "advcl") for c in token.children):
                continue
            how = "_".join(["is", *degrees_of(token), token.lower_])
            for preposition in prepositions:
                for each in _objects_of(preposition):
                    yield Target(f"{how}_{preposition.lower_}", each)
            if not prepositions:
                yield Target("is", token)
        elif token.dep_ == "prep" and token.lower_ in _WHERE:
            where = "in" if token.lower_ in _PLACES else token.lower_
            for each in _objects_of(token):
                yield Target(f"located_{where}", each, is_denied=has_denial(token))


def _is_counted(token: Token) -> bool:
    return any(c.dep_ == "nummod" and c.i < token.i for c in token.children)


def degrees_of(adjective: Token) -> list[str]:
    """ "Too" and "more", without which the adjective would say something else."""
    return [c.lower_ for c in adjective.children if c.dep_ == "advmod" and c.lower_ in _DEGREES]


def subjects_of(verb: Token) -> Iterator[tuple[Token, bool]]:
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
            name, noun = apposition_of(target)
            for each in _with_conjuncts(name if name is not None and noun == target else target):
                yield each, subject.dep_ == "nsubjpass"
    elif verb.dep_ in ("conj", "xcomp") and verb.head.pos_ in ("VERB", "AUX"):
        is_passive = any(c.dep_ == "auxpass" for c in verb.children)
        for each, was_passive in subjects_of(verb.head):
            yield each, is_passive or (was_passive and verb.tag_ == "VBN")
    elif (there := _stands_there(verb)) is not None:
        yield there, False
    elif verb.tag_ in ("VBZ", "VBD", "VBP"):
        before = [c for c in verb.children if c.i < verb.i and c.dep_ in (*_MISREAD, "aux", "neg")]
        names = [c for c in before if c.dep_ in _MISREAD and _is_misread_name(c)]
        if names and names[-1] == before[0]:
            yield names[-1], False


def is_partial(subject: Token, verb: Token) -> bool:
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
        return next((c for c in verb.children if c.dep_ == "attr" and is_noun(c)), None)
    return None


def _direct_objects(verb: Token) -> list[Token]:
    found = [c for c in verb.children if c.dep_ in ("dobj", "attr", "oprd") and is_noun(c)]
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
        if not is_time(token) and not _is_instead(preposition.head, token):
            yield from _with_conjuncts(token)


def _with_conjuncts(token: Token) -> list[Token]:
    others = (word for word in token.conjuncts if word.i > token.i and is_noun(word))
    return [token, *(word for word in others if not _is_instead(token, word))]


def _is_instead(start: Token, token: Token) -> bool:
    """Whether "instead of" or "rather than" stands between."""
    if token.i <= start.i:
        return False
    return any(w.lower_ in ("instead", "rather") for w in token.doc[start.i + 1 : token.i])


def is_alternative(token: Token) -> bool:
    group = (token, *token.conjuncts)
    return any(c.lower_ == "or" for each in group for c in each.children if c.dep_ == "cc")


def is_conditional(verb: Token, words: Container[str] = frozenset(_CONDITIONS)) -> bool:
    return verb.dep_ in ("advcl", "ccomp") and any(
        c.dep_ in ("mark", "advmod") and c.lower_ in words for c in verb.children
    )


def is_announced(verb: Token) -> bool:
    """ "Decision: the shop supports PayPal"."""
    return any(
        c.dep_ == "nsubj" and c.left_edge.i > 0 and verb.doc[c.left_edge.i - 1].text == ":"
        for c in verb.children
    )


def has_negation(verb: Token) -> bool:
    said = [c.i for c in verb.children if c.i > verb.i and c.dep_ in _COMPLEMENTS]
    for child in verb.children:
        if child.dep_ in ("neg", "advmod", "preconj") and child.lower_ in _NEGATIONS:
            # "in argon, not in air" denies what follows alone
            return not any(place < child.i for place in said)
    has_subject = any(c.dep_ in ("nsubj", "nsubjpass") for c in verb.children)
    is_shared = verb.dep_ == "conj" and not has_subject and verb.head.pos_ in ("VERB", "AUX")
    has_or = any(c.lower_ in ("or", "nor") for c in verb.head.children)
    return is_shared and has_or and has_negation(verb.head)


def has_denial(token: Token) -> bool:
    """ "No band", "neither Kira nor Tobin", "in argon, not in air"."""
    first = min(token.left_edge.i, token.i)
    if first > token.sent.start and token.doc[first - 1].lower_ in ("not", "nor", "neither"):
        return True
    group = (token, *token.conjuncts)
    own = any(c.lower_ in ("no", "neither", "not") and c.i < token.i for c in token.children)
    return own or any(c.lower_ == "neither" for each in group for c in each.children)


def times_of(verb: Token) -> tuple[str | None, str | None]:
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


def own_words(token: Token) -> list[Token]:
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
                found += own_words(child)
    return sorted(found, key=lambda word: word.i)


def of_phrase(token: Token) -> Token | None:
    for child in token.children:
        if child.dep_ == "prep" and child.lower_ == "of" and child.i == token.i + 1:
            return next((c for c in child.children if c.dep_ == "pobj" and is_noun(c)), None)
    return None


def named_by(token: Token) -> Token | None:
    """The name that follows its noun: "the product Shoply", "story SHOP-482"."""
    if token.i + 1 >= len(token.doc) or token.pos_ != "NOUN" or token.tag_ == "NNS":
        return None
    after = token.nbor(1)
    belongs = after.head in (token, token.head) and after.dep_ in ("appos", *_MISREAD)
    is_name = after.pos_ == "PROPN" and after.text[:1].isupper()
    return after if belongs and (is_name or CODE.fullmatch(after.text)) else None


def apposition_of(token: Token) -> tuple[Token | None, Token | None]:
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


def is_noun(token: Token) -> bool:
    if token.pos_ in ("NOUN", "PROPN", "NUM", "PRON", "X", "SYM"):
        return True
    # The tagger calls names that it does not know anything; their place and look tell more.
    looks_named = CODE.fullmatch(token.text) or is_numbered(token.text) or is_capital(token)
    return bool(looks_named) and token.dep_ in _ARGUMENTS


def _is_misread_name(token: Token) -> bool:
    return token.pos_ == "PROPN" and token.dep_ in _MISREAD and not is_time(token)


def is_capital(token: Token) -> bool:
    """A capital that no beginning of a sentence asks for."""
    return token.text[:1].isupper() and token.left_edge.i > token.sent.start


def is_numbered(text: str) -> bool:
    """ "Run 37", which stands as one token."""
    return " " in text and text[-1].isdigit()


def is_time(token: Token) -> bool:
    is_entity = token.ent_type_ in _TIMES and not CODE.fullmatch(token.text)
    return (is_entity and not is_numbered(token.text)) or token.lower_ in _TIME_WORDS


def may_be_a_person(token: Token) -> bool:
    """A name without an article; spaCy's types are wrong too often to ask for PERSON."""
    has_article = any(c.pos_ == "DET" for c in token.children)
    is_code = bool(CODE.fullmatch(token.text)) or is_numbered(token.text)
    is_name = token.pos_ == "PROPN" or named_by(token) is not None
    return is_name and not is_code and (not has_article or token.pos_ == "NOUN")


def parse(nlp: Language, texts: Iterable[tuple[str, Sequence[str]]]) -> list[Doc]:
    """The parsed texts, each with the names known to it: codes and names are one token each.

    Many at once take half of the time of one by one.
    """
    docs: list[Doc] = []
    starts: list[set[int]] = []
    for text, known_names in texts:
        spans = sorted(names_in(text, known_names), key=lambda span: (span[0], -span[1]))
        docs.append(_tokens(nlp, text, spans))
        starts.append({start for start, _ in spans})
    parsed = list(nlp.pipe(docs, batch_size=BATCH))
    for doc, at in zip(parsed, starts, strict=True):
        for token in doc:
            if token.idx in at and token.text[:1].isupper() and token.pos_ != "NOUN":
                token.pos_ = "PROPN"
    return parsed


def _tokens(nlp: Language, text: str, spans: Sequence[tuple[int, int]]) -> Doc:
    doc = nlp.make_doc(text)
    taken = 0
    with doc.retokenize() as retokenizer:
        for start, end in spans:
            span = doc.char_span(start, end)
            if span is not None and span.start >= taken:
                retokenizer.merge(span)
                taken = span.end
    return doc
