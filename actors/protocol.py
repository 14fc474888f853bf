"""The wire protocol, lorewire.v1: names, limits, requests, messages. Shared with `web`."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

PROTOCOL = "lorewire.v1"

MAX_MESSAGE_BYTES = 256 * 1024  # of one WebSocket message; beyond, 1009
MAX_CONTEXT_BYTES = 16 * 1024
MAX_PING_BYTES = 4 * 1024  # "anything small"
MAX_ID_CHARS = 64
MAX_DEPTH = 64  # of nested arrays and objects in what clients send along

NUL = "\x00"  # PostgreSQL's text can't hold it


class Code:
    """Error codes, of `error` messages and of HTTP errors."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_DATA = "invalid_data"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    TOO_LARGE = "too_large"
    MODEL_UNAVAILABLE = "model_unavailable"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Close:
    """WebSocket close codes."""

    BAD_PARAMETER = 1008
    NO_SUCH_SESSION = 4004
    SESSION_DELETED = 4010
    HEARTBEAT_TIMEOUT = 4008
    SLOW_READER = 4009
    INTERNAL = 1011
    RESTARTING = 1012
    FULL = 1013


class RefusedError(Exception):
    """A request that is answered with an error; the text is a sentence the client can act on."""

    def __init__(
        self,
        code: str,
        sentence: str,
        *,
        details: Any = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.details = details
        self.request_id = request_id


def parse_moment(value: object) -> object:
    """A time, as RFC 3339 with its offset from UTC."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            try:
                return moment.astimezone(UTC)
            except OverflowError:
                pass  # in UTC, its year would be 0 or 10000
    raise ValueError("expected a time such as 2026-01-31T12:00:00Z")


def parse_as_of(value: object) -> object:
    """A position in the log or a time."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 2**63:
            return value
        raise ValueError("expected a position, which is never negative")
    try:
        return parse_moment(value)
    except ValueError:
        raise ValueError(
            "expected a position (an integer) or a time such as 2026-01-31T12:00:00Z"
        ) from None


def parse_uuid(value: object) -> object:
    """A UUID in its usual text form."""
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    raise ValueError("expected a UUID such as 123e4567-e89b-12d3-a456-426614174000")


def check_depth(value: Any, levels: int = MAX_DEPTH) -> Any:
    """JSON that is not nested too deeply to be written again."""
    if isinstance(value, dict | list):
        if levels == 0:
            raise ValueError(f"expected at most {MAX_DEPTH} levels of arrays and objects")
        for item in value.values() if isinstance(value, dict) else value:
            check_depth(item, levels - 1)
    return value


Json = Annotated[Any, AfterValidator(check_depth)]
JsonObject = Annotated[dict[str, Any], AfterValidator(check_depth)]
Moment = Annotated[datetime, BeforeValidator(parse_moment)]
AsOf = Annotated[int | datetime, BeforeValidator(parse_as_of)]
Id = Annotated[UUID, BeforeValidator(parse_uuid)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Request(BaseModel):
    """What a client asks for: the `data` of its message."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    type: ClassVar[str]


class Query(Request):
    """Ask the agent."""

    type = "query"
    message: Annotated[str, StringConstraints(min_length=1, max_length=32_000)]
    context: JsonObject = Field(default_factory=dict)
    stream: bool = True

    @field_validator("message")
    @classmethod
    def _says_something(cls, message: str) -> str:
        if not message.strip():
            raise ValueError("expected some text, not only white space")
        return message

    @field_validator("context")
    @classmethod
    def _is_small(cls, context: dict[str, Any]) -> dict[str, Any]:
        if len(orjson.dumps(context)) > MAX_CONTEXT_BYTES:
            raise TooLargeError(MAX_CONTEXT_BYTES)
        return context


class Cancel(Request):
    """Stop a turn."""

    type = "cancel"
    turn_id: Id | None = None


class Heartbeat(Request):
    """Say that the client lives."""

    type = "heartbeat"
    connection_id: Json = None
    timestamp: Json = None


class GetStatus(Request):
    """Ask how the session is."""

    type = "get_status"


class GetMemory(Request):
    """List what is remembered."""

    model_config = ConfigDict(strict=True, frozen=True, populate_by_name=True)

    type = "get_memory"
    kind: Literal["conversations", "entities", "facts"] = Field("conversations", alias="type")
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, lt=2**31)
    as_of: AsOf | None = None


class SearchFilters(BaseModel):
    """Which entries a search looks at."""

    model_config = ConfigDict(strict=True, frozen=True)

    role: Literal["user", "agent", "seed"] | None = None
    since: Moment | None = None
    until: Moment | None = None


class SearchMemory(Request):
    """Search what was said."""

    model_config = ConfigDict(strict=True, frozen=True, populate_by_name=True)

    type = "search_memory"
    query: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    limit: int = Field(10, ge=1, le=100)
    offset: int = Field(0, ge=0, lt=2**31)
    kind: Literal["hybrid", "semantic", "keyword"] = Field("hybrid", alias="type")
    filters: SearchFilters = Field(default_factory=SearchFilters)
    as_of: AsOf | None = None


class GetGraph(Request):
    """Look at the knowledge graph."""

    type = "get_graph"
    format: Literal["json", "d3", "turtle", "json-ld", "graphml"] = "json"
    include_metadata: bool = True
    entity: Text | None = None
    depth: int = Field(1, ge=1, le=3)
    node_limit: int | None = Field(None, ge=1, lt=2**31)
    edge_limit: int | None = Field(None, ge=1, lt=2**31)
    as_of: AsOf | None = None


class RetractStatement(Request):
    """Say that a statement was never right."""

    type = "retract_statement"
    statement_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = None


class MergeEntities(Request):
    """Say that two entities are one."""

    type = "merge_entities"
    kept: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]  # an id or a name
    merged: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class SplitEntities(Request):
    """Take a merge back."""

    type = "split_entities"
    merge_id: Id


class Ping(Request):
    """Measure the way there and back."""

    type = "ping"
    message: Json = None
    timestamp: Json = None


SESSION_REQUESTS: Mapping[str, type[Request]] = {
    request.type: request
    for request in (
        *(Query, Cancel, Heartbeat, GetStatus, GetMemory, SearchMemory, GetGraph),
        *(RetractStatement, MergeEntities, SplitEntities, Ping),
    )
}
MONITOR_REQUESTS: Mapping[str, type[Request]] = {Ping.type: Ping}


class TooLargeError(ValueError):
    """A field has more bytes than it may have."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"expected at most {max_bytes:,} bytes of JSON")


def parse_message(
    payload: str | bytes, requests: Mapping[str, type[Request]] = SESSION_REQUESTS
) -> tuple[Request, str | None]:
    """The request in a client's message, and the id that the client gave it.

    Raises RefusedError with the code, the sentence and, where it could be read, the id to answer
    with.
    """
    if isinstance(payload, bytes):
        raise RefusedError(
            Code.INVALID_MESSAGE, "Binary messages are not understood: send JSON as a text frame."
        )
    envelope = _parse_json(payload)
    if not isinstance(envelope, dict):
        raise RefusedError(
            Code.INVALID_MESSAGE, 'A message is a JSON object such as {"type": "ping", "data": {}}.'
        )
    request_id = _parse_id(envelope.get("id"))
    name = envelope.get("type")
    if not isinstance(name, str):
        raise RefusedError(
            Code.INVALID_MESSAGE,
            "`type` is missing or not a string: it names what is asked for.",
            details={"expected": sorted(requests)},
            request_id=request_id,
        )
    request_class = requests.get(name)
    if request_class is None:
        raise RefusedError(
            Code.UNKNOWN_TYPE,
            f"`type` {name[:64]!r} is not known here. Known are {', '.join(sorted(requests))}.",
            request_id=request_id,
        )
    data = envelope.get("data")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise RefusedError(
            Code.INVALID_DATA, "`data` must be a JSON object.", request_id=request_id
        )
    if request_class is Ping and len(payload) > MAX_PING_BYTES:
        raise RefusedError(
            Code.TOO_LARGE,
            f"`data` of a ping may have {MAX_PING_BYTES:,} bytes at most.",
            request_id=request_id,
        )
    if "\\u0000" in payload:
        refuse_nul(data, request_id)
    return parse_data(request_class, data, request_id), request_id


def parse_data(
    request_class: type[Request], data: dict[str, Any], request_id: str | None = None
) -> Request:
    """Check a request's data; raises RefusedError that names the first wrong field."""
    try:
        return request_class.model_validate(data)
    except ValidationError as error:
        raise refused(error, request_id) from None


def refused(error: ValidationError, request_id: str | None = None) -> RefusedError:
    """What a client is told about data that breaks the rules."""
    problems = [
        {"field": ".".join(str(part) for part in problem["loc"]), "problem": _say(problem)}
        for problem in error.errors(include_url=False, include_input=False)
    ]
    first = problems[0]
    code = Code.INVALID_DATA
    if any(
        isinstance(problem.get("ctx", {}).get("error"), TooLargeError) for problem in error.errors()
    ):
        code = Code.TOO_LARGE
    return RefusedError(
        code,
        f"`{first['field'] or 'data'}`: {first['problem']}.",
        details=problems,
        request_id=request_id,
    )


def refuse_nul(value: Any, request_id: str | None, path: str = "data") -> None:
    """Refuse text with NUL characters anywhere in a request, naming the field."""
    if isinstance(value, str):
        if NUL in value:
            raise RefusedError(
                Code.INVALID_DATA,
                f"`{path}` contains a NUL character, which can't be stored. Remove it.",
                request_id=request_id,
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            refuse_nul(key, request_id, path)
            refuse_nul(item, request_id, key if path == "data" else f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            refuse_nul(item, request_id, path)


def _parse_json(payload: str) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise RefusedError(Code.INVALID_JSON, f"The message is not JSON: {error}.") from None


def _parse_id(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= MAX_ID_CHARS and NUL not in value:
        return value
    raise RefusedError(
        Code.INVALID_MESSAGE,
        f"`id` must be a string of at most {MAX_ID_CHARS} characters, without NUL.",
    )


def _say(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]


class Message:
    """What the server says, serialised once for every connection that gets it."""

    __slots__ = ("ends", "frame", "payload", "type")

    def __init__(
        self,
        type: str,
        data: dict[str, Any],
        *,
        position: int | None = None,
        view_position: int | None = None,
        ends: UUID | None = None,
    ) -> None:
        """`ends` is the turn whose whole reply this is, where it is one."""
        envelope: dict[str, Any] = {"type": type, "data": data}
        if position is not None:
            envelope["position"] = position
        if view_position is not None:
            envelope["view_position"] = view_position
        self.type = type
        self.ends = ends
        self.payload = orjson.dumps(envelope, option=orjson.OPT_NON_STR_KEYS)
        self.frame: bytes | None = None  # kept by whoever frames it, so that it is framed once too

    def payload_for(self, request_id: str | None) -> bytes:
        """The payload as it goes to the connection that asked: with the id that it chose."""
        if request_id is None:
            return self.payload
        return b'%b,"id":%b}' % (self.payload[:-1], orjson.dumps(request_id))


class Piece(Message):
    """Text of a reply that is being written: the pieces `first` to `last`, as one.

    Pieces that wait for a slow reader are joined; whoever comes to a running turn gets all there is
    as one, with `first` = 1.
    """

    __slots__ = ("first", "last", "session_id", "text", "turn_id")

    def __init__(
        self, session_id: UUID, turn_id: UUID, text: str, *, first: int, last: int
    ) -> None:
        super().__init__(
            "query_response",
            {
                "session_id": session_id,
                "timestamp": timestamp(),
                "turn_id": turn_id,
                "message": text,
                "partial": True,
                "first_sequence": first,
                "sequence": last,
            },
        )
        self.session_id, self.turn_id, self.text = session_id, turn_id, text
        self.first, self.last = first, last

    def joined(self, later: "Piece") -> "Piece":
        """This and what follows it at once."""
        text = self.text + later.text
        return Piece(self.session_id, self.turn_id, text, first=self.first, last=later.last)


def session_message(
    session_id: UUID, type_: str, /, *, position: int | None = None, **data: Any
) -> Message:
    """A message of a session, with what every message of one has."""
    data["session_id"] = session_id
    data["timestamp"] = timestamp()
    return Message(type_, data, position=position)


def rfc3339(moment: datetime) -> str:
    """A time as the protocol writes it: UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def timestamp() -> str:
    """Now, as the protocol writes it."""
    second, ms = divmod(time.time_ns() // 1_000_000, 1_000)
    return f"{_to_the_second(second)}.{ms:03}Z"


@lru_cache(maxsize=1)  # every message has a timestamp, and many have the same second
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def error_message(error: RefusedError, session_id: UUID | None) -> Message:
    """The `error` message for a refused request."""
    data: dict[str, Any] = {"code": error.code, "error": str(error), "timestamp": timestamp()}
    if session_id is not None:
        data["session_id"] = session_id
    if error.details is not None:
        data["details"] = error.details
    return Message("error", data)
