"""Domain configurations: what an agent is for, what it knows from the start, how it speaks."""

import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("no NUL character, which PostgreSQL can't store")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_storable)
]


# Relations of which a thing has one at a time: what is said later ends what was said before.
FUNCTIONAL_RELATIONS = (
    *("located_in", "is_located_in", "located_at", "is_located_at", "is_in", "is_at", "stays_in"),
    *("lives_in", "lives_at", "resides_in", "works_at", "works_for", "employed_by"),
    *("owned_by", "is_owned_by", "has_owner", "belongs_to", "led_by", "is_led_by", "governed_by"),
    *("has_status", "status", "has_state", "assigned_to", "is_assigned_to", "married_to"),
)


class DomainError(Exception):
    """A domain's file is wrong; the text names the file, the field and what was expected."""


class Domain(BaseModel):
    """What a session of this domain starts with. One TOML file, called after its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    title: Text
    description: Text
    agent_name: Text  # the speaker of replies, in memory and in statements
    instructions: Text  # the beginning of every prompt
    seed: tuple[Text, ...] = ()  # paragraphs that become memory and graph when a session opens
    entity_types: tuple[Text, ...] = ()
    relation_types: tuple[Text, ...] = ()
    functional_relations: tuple[Text, ...] = FUNCTIONAL_RELATIONS  # see there
    extractor: Literal["offline", "model", "none"] = "offline"  # who reads turns for statements
    max_reply_tokens: int = Field(256, ge=16, le=32_768)


def load_domains(folder: Path | None = None) -> dict[str, Domain]:
    """The built-in domains and those of a folder, by name; the folder's own come first.

    Raises DomainError for a file that is not a domain.
    """
    domains: dict[str, Domain] = {}
    for source in (files("language") / "domains", folder):
        if source is None:
            continue
        if not source.is_dir():
            raise DomainError(f"{source} is not a folder. LOREWIRE_DOMAINS_DIR must name one.")
        for file in sorted(source.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                domain = _parse(file.name, _read(file))
                domains[domain.name] = domain
    return domains


def _read(file: Traversable) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DomainError(f"{file.name} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise DomainError(f"{file.name} can't be read: {error.strerror}.") from None


def _parse(file_name: str, text: str) -> Domain:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DomainError(f"{file_name} is not TOML: {error}.") from None
    try:
        return Domain(name=file_name.removesuffix(".toml"), **data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise DomainError(f"{file_name}, field `{field}`: {problem['msg']}.") from None
    except TypeError:
        raise DomainError(
            f"{file_name}, field `name`: it is the file's name, leave it out."
        ) from None
