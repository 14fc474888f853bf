"""What can be set from outside, all of it through environment variables."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from platformdirs.unix import Unix
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.shards import MAX_SHARDS

PREFIX = "LOREWIRE_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SettingsError(Exception):
    """A setting is wrong; the text names the variable and says what was expected."""


def default_data_dir() -> Path:
    """The user's data folder, `/var/lib/lorewire` for root.

    The embedded PostgreSQL never runs as root: its own user must reach the folder, so root's is
    not in a home. The others' is the Unix one on every system: the usual one on macOS has a blank
    in its path, which the embedded PostgreSQL can't start from.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/lorewire")
    return Unix("lorewire", appauthor=False).user_data_path


def _loopback(host: str) -> str:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(
            "a loopback address such as 127.0.0.1, since everyone who reaches the server may "
            "read every session; put a proxy that checks who connects in front of it"
        )
    return host


def _postgresql_url(url: str) -> str:
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("a URL such as postgresql://user:password@host:5432/database")
    return url


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("a URL such as http://127.0.0.1:11434/v1")
    return url.rstrip("/")


_EMBEDDING = {
    "embedding_url": "the URL of an OpenAI-compatible server, such as http://127.0.0.1:11434/v1",
    "embedding_model": "the name of the embedding model there",
    "embedding_dimensions": "how many numbers a vector of the embedding model has",
}


class Settings(BaseSettings):
    """The settings with their defaults; a field `port` is the variable LOREWIRE_PORT."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True
    )

    # Where the other parts are. What is not set is embedded.
    database_url: Annotated[str, AfterValidator(_postgresql_url)] | None = Field(
        None, validation_alias="DATABASE_URL"
    )
    model_url: Annotated[str, AfterValidator(_http_url)] | None = None  # OpenAI-compatible, to /v1
    model: str | None = None  # the model's name there
    model_key: SecretStr | None = None
    data_dir: Path = Field(default_factory=default_data_dir)  # of the embedded parts

    # Where clients find the server.
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)  # 0: any free one

    # What sessions know and do.
    domains_dir: Path | None = None  # *.toml files beside the built-in domains
    embedder: Literal["wordllama", "openai", "none"] = "wordllama"
    embedding_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None,
        validate_default=True,  # of "openai", to /v1
    )
    embedding_model: str | None = Field(None, validate_default=True)
    embedding_dimensions: int | None = Field(None, ge=1, le=8192, validate_default=True)
    embedding_key: SecretStr | None = None
    embedding_min_cosine: float = Field(0.2, ge=-1, le=1)  # texts about other things stay below
    embedding_timeout_s: Seconds = 30  # one request; a search waits 2 s
    record_reads: Literal["all", "searches", "none"] = "all"  # which reads become stored events
    passivate_after_s: Seconds = 300  # without messages and connections, an actor leaves memory
    model_context_tokens: int = Field(4096, ge=512)  # prompt and reply together

    # How the views are kept.
    shards: int = Field(1, ge=1, le=MAX_SHARDS)  # parts of the sessions, for as many projectors

    # Domains whose extractor is the chat model.
    learning_concurrency: int = Field(4, ge=1, le=64)  # turns that are read at once
    extraction_timeout_s: Seconds = 60  # one call to the model
    extraction_patience_s: Seconds = 300  # with a model that can't be reached, for one turn

    # How long to wait for others.
    journal_timeout_s: Seconds = 10  # a command, for a database that is gone
    first_token_timeout_s: Seconds = 60  # a turn, for the model's first token (it may be loading)
    gap_timeout_s: Seconds = 30  # a turn, for the next token
    turn_timeout_s: Seconds = 300  # a turn, for the whole reply
    heartbeat_interval_s: Seconds = 25  # between pings to a client
    pong_timeout_s: Seconds = 8  # a client, to answer a ping (or to say anything else)
    heartbeat_timeout_s: Seconds = 60  # of silence, then the connection is closed
    max_outgoing_bytes: int = Field(1024 * 1024, ge=16 * 1024)  # that wait for one slow reader
    drain_grace_s: float = Field(20, ge=0, allow_inf_nan=False)  # at the end, for running turns
    monitor_interval_s: Seconds = 5  # between updates to monitors

    # How much of it one server, one user, one session may take.
    max_connections: int = Field(10_000, ge=1)  # beyond, new ones are closed with 1013
    max_connections_per_user: int = Field(1_000, ge=1)
    max_connections_per_session: int = Field(1_000, ge=1)
    messages_per_s: Seconds = 200  # of one user, beside bursts; beyond, `rate_limited`
    queries_per_s: Seconds = 20  # likewise

    # What is logged, to standard error.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @field_validator("embedding_url", "embedding_model", "embedding_dimensions")
    @classmethod
    def _embedding_is_described(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.data.get("embedder") == "openai":
            raise ValueError(f"{_EMBEDDING[str(info.field_name)]}, since LOREWIRE_EMBEDDER=openai")
        return value


def load_settings(**options: object) -> Settings:
    """The settings from the environment; options that are not None come first.

    Raises SettingsError for the first wrong value.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        variable = name if name == "DATABASE_URL" else PREFIX + name.upper()
        expected = str(problem.get("ctx", {}).get("error") or _expected(problem["msg"]))
        value = "" if variable == "DATABASE_URL" else f", not {problem['input']!r}"
        raise SettingsError(f"{variable} must be {expected}{value}.") from None


def _expected(message: str) -> str:
    """The end of a pydantic message ("Input should be a valid integer, ..."), as a noun."""
    return message.removeprefix("Input should be ")
