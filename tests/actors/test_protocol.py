"""Whatever a client sends, it gets the request or a sentence that names what is wrong."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.protocol import (
    MAX_CONTEXT_BYTES,
    MAX_DEPTH,
    SESSION_REQUESTS,
    Code,
    GetMemory,
    Message,
    Ping,
    Query,
    RefusedError,
    SearchMemory,
    error_message,
    parse_message,
    rfc3339,
    timestamp,
)


def refusal(payload: str | bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        parse_message(payload)
    return caught.value


def refusal_or_none(payload: str | bytes) -> RefusedError | None:
    try:
        parse_message(payload)
    except RefusedError as error:
        return error
    return None


def of(type_: str, data: Any = None, **more: Any) -> str:
    return json.dumps({"type": type_, "data": data, **more})


NESTED = "[" * 100_000

BAD: dict[str, tuple[str | bytes, str, str]] = {
    "not JSON": ("{", Code.INVALID_JSON, "not JSON"),
    "nothing": ("", Code.INVALID_JSON, "not JSON"),
    "a bomb of arrays": (NESTED, Code.INVALID_JSON, "not JSON"),
    "a closed bomb of arrays": (
        '{"type":"ping","data":{"message":' + "[" * 200 + "]" * 200 + "}}",
        Code.INVALID_DATA,
        "`message`: expected at most 64 levels",
    ),
    "lone surrogate": ('{"type":"query","data":{"message":"\\ud800"}}', Code.INVALID_JSON, "JSON"),
    "NaN": ('{"type":"ping","data":{"message":NaN}}', Code.INVALID_JSON, "not JSON"),
    "binary": (b"{}", Code.INVALID_MESSAGE, "Binary"),
    "not an object": ("[]", Code.INVALID_MESSAGE, "JSON object"),
    "a string": ('"ping"', Code.INVALID_MESSAGE, "JSON object"),
    "no type": ("{}", Code.INVALID_MESSAGE, "`type`"),
    "a type that is a number": ('{"type":1}', Code.INVALID_MESSAGE, "`type`"),
    "an unknown type": (of("dance"), Code.UNKNOWN_TYPE, "'dance'"),
    "an id that is a number": (of("ping", id=7), Code.INVALID_MESSAGE, "`id`"),
    "a long id": (of("ping", id="x" * 65), Code.INVALID_MESSAGE, "`id`"),
    "data that is a list": (of("ping", []), Code.INVALID_DATA, "`data`"),
    "data that is a string": (of("ping", "hi"), Code.INVALID_DATA, "`data`"),
    "no message": (of("query"), Code.INVALID_DATA, "`message`"),
    "an empty message": (of("query", {"message": ""}), Code.INVALID_DATA, "`message`"),
    "white space": (of("query", {"message": " \n"}), Code.INVALID_DATA, "`message`"),
    "a message that is a number": (of("query", {"message": 1}), Code.INVALID_DATA, "`message`"),
    "a long message": (
        of("query", {"message": "x" * 32_001}),
        Code.INVALID_DATA,
        "`message`: string should have at most 32000",
    ),
    "NUL in a message": (of("query", {"message": "a\0b"}), Code.INVALID_DATA, "`message`"),
    "NUL deep in the context": (
        of("query", {"message": "a", "context": {"b": [{"c": "\0"}]}}),
        Code.INVALID_DATA,
        "`context.b.c`",
    ),
    "NUL in a key": (
        of("query", {"message": "a", "context": {"\0": 1}}),
        Code.INVALID_DATA,
        "`context`",
    ),
    "a large context": (
        of("query", {"message": "a", "context": {"b": "x" * MAX_CONTEXT_BYTES}}),
        Code.TOO_LARGE,
        "`context`",
    ),
    "a context that is a list": (
        of("query", {"message": "a", "context": []}),
        Code.INVALID_DATA,
        "`context`",
    ),
    "stream that is a word": (
        of("query", {"message": "a", "stream": "yes"}),
        Code.INVALID_DATA,
        "`stream`",
    ),
    "a negative offset": (of("get_memory", {"offset": -1}), Code.INVALID_DATA, "`offset`"),
    "a limit of zero": (of("get_memory", {"limit": 0}), Code.INVALID_DATA, "`limit`"),
    "a limit of 501": (of("get_memory", {"limit": 501}), Code.INVALID_DATA, "`limit`"),
    "a limit that is text": (of("get_memory", {"limit": "5"}), Code.INVALID_DATA, "`limit`"),
    "a limit that is true": (of("get_memory", {"limit": True}), Code.INVALID_DATA, "`limit`"),
    "an unknown kind of memory": (of("get_memory", {"type": "x"}), Code.INVALID_DATA, "`type`"),
    "a long search": (of("search_memory", {"query": "x" * 2001}), Code.INVALID_DATA, "`query`"),
    "a search without a query": (of("search_memory"), Code.INVALID_DATA, "`query`"),
    "a role that is none": (
        of("search_memory", {"query": "x", "filters": {"role": "king"}}),
        Code.INVALID_DATA,
        "`filters.role`",
    ),
    "a time without an offset": (
        of("search_memory", {"query": "x", "filters": {"since": "2026-01-01T00:00:00"}}),
        Code.INVALID_DATA,
        "`filters.since`: expected a time",
    ),
    "as_of that is a word": (of("get_graph", {"as_of": "now"}), Code.INVALID_DATA, "`as_of`"),
    "as_of that is negative": (of("get_graph", {"as_of": -1}), Code.INVALID_DATA, "`as_of`"),
    "as_of that is true": (of("get_graph", {"as_of": True}), Code.INVALID_DATA, "`as_of`"),
    "depth 4": (of("get_graph", {"depth": 4}), Code.INVALID_DATA, "`depth`"),
    "an unknown format": (of("get_graph", {"format": "png"}), Code.INVALID_DATA, "`format`"),
    "a turn that is no UUID": (of("cancel", {"turn_id": "1"}), Code.INVALID_DATA, "`turn_id`"),
    "a large ping": (of("ping", {"message": "x" * 5000}), Code.TOO_LARGE, "`data` of a ping"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_its_code_and_a_sentence_that_names_the_field(name: str) -> None:
    payload, code, words = BAD[name]

    error = refusal(payload)

    assert (error.code, words in str(error)) == (code, True), str(error)


def test_every_problem_is_listed_and_the_first_is_said() -> None:
    error = refusal(of("get_memory", {"limit": 0, "offset": -1}))

    assert [problem["field"] for problem in error.details] == ["limit", "offset"]
    assert str(error).startswith("`limit`")


def test_an_error_knows_the_request_it_answers() -> None:
    assert refusal(of("query", {}, id="7")).request_id == "7"
    assert refusal(of("dance", {}, id="7")).request_id == "7"


@given(payload=st.text() | st.binary())
def test_no_payload_is_answered_with_anything_but_a_refusal(payload: str | bytes) -> None:
    error = refusal_or_none(payload)

    if error is not None:
        assert str(error)
        assert orjson.loads(error_message(error, None).payload)["data"]["code"] == error.code


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = [
    "message", "context", "stream", "type", "limit", "offset", "as_of", "query", "filters",
    "format", "entity", "depth", "turn_id", "timestamp", "connection_id",
]  # fmt: skip


@given(
    type_=st.sampled_from(sorted(SESSION_REQUESTS)),
    data=st.dictionaries(st.sampled_from(FIELDS), ANYTHING),
    request_id=st.none() | st.text(),
)
def test_any_data_is_understood_or_refused(
    type_: str, data: dict[str, Any], request_id: str | None
) -> None:
    payload = json.dumps({"type": type_, "data": data, "id": request_id})

    error = refusal_or_none(payload)

    assert str(error) if error else parse_message(payload)[0].type == type_


def test_data_may_be_left_out_where_every_field_is_optional() -> None:
    assert parse_message('{"type":"ping"}') == (Ping(), None)
    assert parse_message('{"type":"get_memory","id":"a"}') == (GetMemory(), "a")


def test_fields_have_the_defaults_of_the_protocol() -> None:
    search, _ = parse_message(of("search_memory", {"query": "x"}))
    query, _ = parse_message(of("query", {"message": "x"}))

    assert isinstance(search, SearchMemory)
    assert (search.limit, search.offset, search.kind) == (10, 0, "hybrid")
    assert isinstance(query, Query)
    assert (query.context, query.stream) == ({}, True)


def test_deep_but_bearable_nesting_is_kept() -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH - 1):
        value = [value]

    request, _ = parse_message(of("ping", {"message": value}))

    assert isinstance(request, Ping)
    assert request.message == value


@given(text=st.text(), request_id=st.text(max_size=64))
def test_an_id_is_spliced_in_without_serialising_again(text: str, request_id: str) -> None:
    message = Message("pong", {"message": text}, position=3)

    assert orjson.loads(message.payload_for(request_id)) == {
        "type": "pong",
        "data": {"message": text},
        "position": 3,
        "id": request_id,
    }
    assert "id" not in orjson.loads(message.payload_for(None))


def test_a_timestamp_is_now_to_the_millisecond_also_when_a_second_begins() -> None:
    ends = datetime.now(UTC) + timedelta(seconds=1.1)
    while datetime.now(UTC) < ends:
        before = rfc3339(datetime.now(UTC))
        now = timestamp()
        after = rfc3339(datetime.now(UTC))

        assert before <= now <= after
