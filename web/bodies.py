"""What comes in over HTTP as JSON, as pydantic models."""

from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from actors.protocol import AsOf, Code, JsonObject, RefusedError, refuse_nul, refused
from events.session import SessionConfig

UserId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

Body = TypeVar("Body", bound=BaseModel)


class ConfigBody(BaseModel):
    """A session's configuration; what is left out keeps its default, or its present value."""

    model_config = ConfigDict(strict=True, extra="forbid")

    domain: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "dnd"
    llm_model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    enable_graph: bool = True
    max_memory_size: int | None = Field(None, ge=1, le=10_000_000)
    custom_config: JsonObject = Field(default_factory=dict)

    def new(self) -> SessionConfig:
        """The configuration of a new session."""
        return SessionConfig(**self.model_dump())

    def over(self, config: SessionConfig) -> SessionConfig:
        """A configuration with what was given here in place of what it had."""
        given = self.model_dump(include=self.model_fields_set)
        return SessionConfig(**{**vars(config), **given})


class OpenSessionBody(BaseModel):
    """`POST /api/v1/sessions`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    config: ConfigBody = Field(default_factory=ConfigBody)
    user_id: UserId = "anonymous"
    title: Title | None = None


class ReconfigureBody(BaseModel):
    """`PATCH /api/v1/sessions/{id}`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    config: ConfigBody | None = None
    title: Title | None = None


class SparqlBody(BaseModel):
    """`POST /api/v1/sessions/{id}/graph/sparql`, as JSON."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
    as_of: AsOf | None = None


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; an empty body is an empty object."""
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(Code.INVALID_JSON, f"The body is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise RefusedError(Code.INVALID_MESSAGE, "The body must be a JSON object.")
    if b"\\u0000" in body:
        refuse_nul(value, None)
    return value


def parse_body(body_class: type[Body], body: bytes) -> Body:
    """Check a request's body; raises RefusedError that names the first wrong field."""
    try:
        return body_class.model_validate(parse_object(body))
    except ValidationError as error:
        raise refused(error) from None
