"""Query parameters, checked as strictly as JSON is."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tornado.web import RequestHandler

from actors.protocol import NUL, Code, RefusedError, Request, parse_data

MAX_USER_ID_CHARS = 128
MAX_POSITION = 2**63 - 1

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def flag(handler: RequestHandler, name: str, *, default: bool) -> bool:
    """A truth value: true, false, 1 or 0."""
    text = handler.get_query_argument(name, None)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise RefusedError(Code.INVALID_DATA, f"`{name}` must be true or false, not {text[:40]!r}.")
    return _FLAGS[text.lower()]


def integer(
    handler: RequestHandler, name: str, *, default: int, low: int = 0, high: int = MAX_POSITION
) -> int:
    """A whole number between two bounds, both included."""
    text = handler.get_query_argument(name, None)
    if text is None:
        return default
    try:
        value = TypeAdapter(int).validate_python(text)
    except ValidationError:
        value = low - 1
    if not low <= value <= high:
        raise RefusedError(
            Code.INVALID_DATA,
            f"`{name}` must be a whole number from {low} to {high}, not {text[:40]!r}.",
        )
    return value


def user_id(handler: RequestHandler) -> str | None:
    """The user that the client says it is."""
    text = handler.get_query_argument("user_id", None)
    if text is None:
        return None
    if not 0 < len(text) <= MAX_USER_ID_CHARS or NUL in text:
        raise RefusedError(
            Code.INVALID_DATA, f"`user_id` must have 1 to {MAX_USER_ID_CHARS} characters, no NUL."
        )
    return text


def read_request(
    handler: RequestHandler, request_class: type[Request], names: Mapping[str, type]
) -> Request:
    """A socket request from query parameters: the same fields, the same checks.

    `names` says which parameters there are, and whether they are written as text, numbers or truth
    values.
    """
    data: dict[str, Any] = {}
    for name, kind in names.items():
        text = handler.get_query_argument(name, None)
        if text is None:
            continue
        if kind is bool:
            data[name] = flag(handler, name, default=False)
        elif kind is int or (name == "as_of" and text.lstrip("-").isdigit()):
            data[name] = integer(handler, name, default=0, low=-MAX_POSITION)
        else:
            data[name] = text
    return parse_data(request_class, data)
