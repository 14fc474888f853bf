"""Extraction by the chat model: one call reads a turn, and what it can't show is dropped."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from language.chat import ChatMessage, ChatModel, Finished
from language.extraction import MAX_STATEMENTS, Passage
from language.prompts import cut, estimate_tokens
from language.statements import ExtractedStatement, Modality, Polarity

MAX_KNOWN_NAMES = 50
MAX_ENTITIES = 24  # two for each statement
MAX_ANSWER_TOKENS = 1500  # twelve statements with their quotes
BEFORE_SHARE = 0.3  # of what is left beside the instructions, for the turns before
NAMES_SHARE = 0.2  # of the same, for known names
AROUND_TOKENS = 80  # what JSON and chat templates put around everything
AROUND_NAME_TOKENS = 3  # around one name
AROUND_TEXT_TOKENS = 40  # around one text, with the names of speaker and addressee
MAX_NAME_CHARACTERS = 120  # longer ones are sentences
CONFIDENCE = 0.8  # between a named subject (0.9) and a pronoun (0.7) of the offline rules

_FIRST = {"i", "me", "myself", "my"}
_SECOND = {"you", "yourself", "your"}
_UNSAID = {
    "it", "he", "she", "they", "we", "us", "him", "her", "them", "this", "that", "these", "those",
    "there", "one", "who", "which", "what", "something", "someone", "everyone", "nobody",
}  # fmt: skip
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_DATE = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")

INSTRUCTIONS = """\
You read one turn of a conversation and write down what it states, as JSON and nothing else.

The answer is {"entities": [...], "facts": [...]}.
An entity is {"name", "type" (one word, such as person, place, thing, or null), "aliases" (list)}.
A fact is an object with these keys, all of them:
"s": subject, "p": predicate (a short verb phrase, third person), "o": object;
"o_is_literal": true where the object is a number, a date, a property or a text, not a thing;
"polarity": "no" where the words deny it, else "yes";
"modality": "fact", "plan", "wish", "possible" or "reported" (somebody else's words);
"said_by": who is reported to have said it, else null;
"valid_from", "valid_to": when it holds, in the words of the turn or as a date, else null;
"quote": the words it rests on, copied exactly from the turn, at most one sentence;
"replaces": what the turn says was so before and is so no more, else null.

Rules. Take facts from the turn alone, never from what was said before it, which is there to tell
who "she" or "it" is. Use names as they stand in the text; for "I" and "you" write the name of who
speaks or is spoken to. Leave out questions, greetings, opinions and guesses of your own. At most 12
facts; none is a good answer."""


class Entity(BaseModel):
    """Something that facts are about."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    type: str | None
    aliases: list[str]


class Fact(BaseModel):
    """A statement as the model writes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    s: str
    p: str
    o: str
    o_is_literal: bool
    polarity: Polarity
    modality: Modality
    said_by: str | None
    valid_from: str | None
    valid_to: str | None
    quote: str
    replaces: str | None


class Answer(BaseModel):
    """What the model is asked to write. Longer lists are asked not to be, and are cut."""

    model_config = ConfigDict(extra="forbid", strict=True)

    entities: Annotated[list[Entity], Field(json_schema_extra={"maxItems": MAX_ENTITIES})]
    facts: Annotated[list[Fact], Field(json_schema_extra={"maxItems": MAX_STATEMENTS})]


RESPONSE_FORMAT: Mapping[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "statements", "strict": True, "schema": Answer.model_json_schema()},
}


class InvalidAnswerError(Exception):
    """What the model wrote is no JSON of the kind that it was asked for."""


@dataclass(frozen=True)
class Excerpt:
    """A turn as far as the model is shown it."""

    passages: Sequence[Passage]  # the turn
    before: Sequence[Passage]  # oldest first
    known_names: Sequence[str]
    said_on: date


class ModelExtractor:
    """Asks the chat model. Not reproducible: what it answered is what gets stored."""

    name = "model"
    version = "1"

    def __init__(self, model: ChatModel, *, context_tokens: int) -> None:
        """`context_tokens`: prompt and answer together."""
        self._model = model
        self._answer_tokens = min(MAX_ANSWER_TOKENS, context_tokens // 2)
        self._prompt_tokens = context_tokens - self._answer_tokens

    async def extract(
        self,
        passages: Sequence[Passage],
        *,
        before: Sequence[Passage],
        known_names: Sequence[str],
        said_at: datetime,
        model: str | None = None,
    ) -> list[tuple[Passage, ExtractedStatement]]:
        """The statements of a turn, in one call, each with the passage that it is quoted from.

        `before` are the turns before it, oldest first; `known_names` the likeliest first. Raises
        InvalidAnswerError, where another try may help, and what `ChatModel.stream` raises.
        """
        excerpt = self._fitting(passages, before, known_names, said_at.date())
        messages = [ChatMessage("system", INSTRUCTIONS), ChatMessage("user", _told(excerpt))]
        stream = self._model.stream(
            messages,
            max_tokens=self._answer_tokens,
            model=model,
            response_format=RESPONSE_FORMAT,
        )
        async with aclosing(stream) as parts:
            text = "".join([part async for part in parts if not isinstance(part, Finished)])
        return list(_shown(_parse(text), passages, excerpt))

    def signature(self, model: str | None) -> str:
        """Who reads, as stored events name it: `model/1/gpt-4o-mini`; `model` None: the default."""
        return f"{self.name}/{self.version}/{model or self._model.model}"

    async def close(self) -> None:
        """Close the connections to the model's server."""
        await self._model.close()

    def _fitting(
        self,
        passages: Sequence[Passage],
        before: Sequence[Passage],
        known_names: Sequence[str],
        said_on: date,
    ) -> Excerpt:
        """What there is room for: some names, some of what was said before, else the turn."""
        left = self._prompt_tokens - estimate_tokens(INSTRUCTIONS) - AROUND_TOKENS
        names, used = _fitting_names(known_names[:MAX_KNOWN_NAMES], int(left * NAMES_SHARE))
        kept, used_before = _fitting_passages(before[::-1], int(left * BEFORE_SHARE))
        shown, _ = _fitting_passages(passages, left - used - used_before)
        return Excerpt(shown, kept[::-1], names, said_on)


def _fitting_names(names: Sequence[str], budget_tokens: int) -> tuple[list[str], int]:
    """The first names that fit, and what they cost."""
    kept: list[str] = []
    used = 0
    for name in names:
        cost = estimate_tokens(name) + AROUND_NAME_TOKENS
        if used + cost > budget_tokens:
            break
        kept.append(name)
        used += cost
    return kept, used


def _fitting_passages(passages: Sequence[Passage], budget_tokens: int) -> tuple[list[Passage], int]:
    """All passages, the longer ones cut, and what they cost; what one leaves is for the others."""
    kept: list[Passage] = []
    used = 0
    for number, one in enumerate(passages):
        share = (budget_tokens - used) // (len(passages) - number) - AROUND_TEXT_TOKENS
        text = cut(one.text, max(share, 1))
        kept.append(Passage(text, one.speaker, one.addressee))
        used += estimate_tokens(text) + AROUND_TEXT_TOKENS
    return kept, used


def _told(excerpt: Excerpt) -> str:
    """The excerpt as JSON, so that nothing that was said can pass for something else."""
    return orjson.dumps(
        {
            "date": excerpt.said_on,
            "known names": excerpt.known_names,
            "before": [_line(one) for one in excerpt.before],
            "turn": [_line(one) for one in excerpt.passages],
        }
    ).decode()


def _line(passage: Passage) -> dict[str, str | None]:
    return {"speaker": passage.speaker, "to": passage.addressee, "text": passage.text}


def _parse(text: str) -> Answer:
    if fenced := _FENCE.match(text):  # servers without response_format
        text = fenced[1]
    try:
        return Answer.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InvalidAnswerError(f"{place or 'answer'}: {problem['msg']}") from None


def _shown(
    answer: Answer, passages: Sequence[Passage], excerpt: Excerpt
) -> Iterator[tuple[Passage, ExtractedStatement]]:
    """The facts that the turn's own words show: a quote from it, names from what was given."""
    types = {each.casefold(): one.type for one in answer.entities for each in _names(one)}
    given = "\n".join(
        [
            *excerpt.known_names,
            *(
                part
                for one in (*excerpt.before, *excerpt.passages)
                for part in (one.speaker, one.addressee or "", one.text)
            ),
        ]
    ).casefold()
    for fact in answer.facts[:MAX_STATEMENTS]:
        quote = fact.quote.strip()
        passage = next((one for one in passages if quote and quote in one.text), None)
        if passage is None:
            continue
        subject, object_ = (_resolved(name, passage) for name in (fact.s, fact.o))
        predicate = re.sub(r"\W+", "_", fact.p).strip("_").lower()[:MAX_NAME_CHARACTERS]
        if not predicate or not subject or not object_ or subject == object_:
            continue
        if not (_occurs(subject, given) and _occurs(object_, given)):
            continue
        yield (
            passage,
            ExtractedStatement(
                subject=subject,
                subject_type=_type(types.get(subject.casefold())),
                predicate=predicate,
                object=object_,
                object_type=_type(types.get(object_.casefold())),
                object_is_literal=fact.o_is_literal,
                quote=quote,
                polarity=fact.polarity,
                modality=fact.modality,
                said_by=_if_said(fact.said_by, given),
                valid_from=_time(fact.valid_from, passage),
                valid_to=_time(fact.valid_to, passage),
                confidence=CONFIDENCE,
                replaces=_if_said(fact.replaces, given),
            ),
        )


def _names(entity: Entity) -> list[str]:
    return [entity.name.strip(), *(alias.strip() for alias in entity.aliases)]


def _resolved(name: str, passage: Passage) -> str | None:
    """A name as the graph calls it; None where it stands for something unsaid, or is none."""
    name = " ".join(name.split())
    if name.lower() in _FIRST:
        return passage.speaker
    if name.lower() in _SECOND:
        return passage.addressee
    is_name = len(name) <= MAX_NAME_CHARACTERS and any(each.isalnum() for each in name)
    return name if is_name and name.lower() not in _UNSAID else None


def _occurs(name: str, given: str) -> bool:
    """Whether a name stands in the text, as whole words, in any case and across line breaks."""
    words = r"\s+".join(map(re.escape, name.casefold().split()))
    return re.search(rf"(?<!\w){words}(?!\w)", given) is not None


def _if_said(words: str | None, given: str) -> str | None:
    words = (words or "").strip()
    return words if words and _occurs(words, given) else None


def _time(words: str | None, passage: Passage) -> str | None:
    """A time in the turn's own words, or a date; anything else is invented."""
    words = (words or "").strip()
    if not words:
        return None
    return words if _DATE.fullmatch(words) or _occurs(words, passage.text.casefold()) else None


def _type(hint: str | None) -> str | None:
    """A type as one lower-case name, None where it is none."""
    return re.sub(r"\W+", "_", hint or "").strip("_").lower()[:MAX_NAME_CHARACTERS] or None
