"""The chat model: replies as they come, and a clear sentence when none comes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from language.chat import ChatMessage, ChatModel, Finished, ModelUnavailableError, Usage
from tests.scripted_model import ScriptedModel

HELLO = [ChatMessage("system", "Be brief."), ChatMessage("user", "hello there")]


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.fixture
async def chat(scripted: ScriptedModel) -> AsyncIterator[ChatModel]:
    chat = ChatModel(
        base_url=scripted.url,
        model="scripted",
        api_key=None,
        first_token_timeout_s=0.4,
        gap_timeout_s=0.2,
        turn_timeout_s=1.0,
    )
    yield chat
    await chat.close()


async def reply(chat: ChatModel) -> list[str | Finished]:
    return [part async for part in chat.stream(HELLO, max_tokens=50)]


async def failure(chat: ChatModel) -> tuple[list[str | Finished], str]:
    parts: list[str | Finished] = []
    try:
        async for part in chat.stream(HELLO, max_tokens=50):
            parts.append(part)
    except ModelUnavailableError as error:
        return parts, str(error)
    raise AssertionError(f"a reply came: {parts}")


async def test_a_reply_comes_in_pieces_and_ends_with_what_it_cost(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.say("You", " said", " hello")

    parts = await reply(chat)

    assert parts[:-1] == ["You", " said", " hello"]
    assert isinstance(parts[-1], Finished)
    assert isinstance(parts[-1].usage, Usage)
    assert parts[-1].finish_reason == "stop"
    assert scripted.requests[0]["messages"] == [vars(message) for message in HELLO]
    assert scripted.requests[0]["max_tokens"] == 50


async def test_a_server_that_does_not_know_about_usage_is_asked_without(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.refuses_usage_option = True

    first, second = await reply(chat), await reply(chat)

    assert [isinstance(parts[-1], Finished) for parts in (first, second)] == [True, True]
    assert len(scripted.requests) == 3  # the first reply took two requests, the second one


async def test_a_model_that_says_nothing_is_given_up(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.hang_after(0)

    parts, sentence = await failure(chat)

    assert parts == []
    assert "nothing has come from it for 0.4 s" in sentence
    assert scripted.url in sentence


async def test_a_model_that_stops_in_the_middle_is_given_up(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.hang_after(2)

    parts, sentence = await failure(chat)

    assert parts == ["You", " said:"]
    assert "nothing has come from it for 0.2 s" in sentence


async def test_a_reply_that_never_ends_is_given_up(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.piece_delay_s = 0.1
    scripted.say(*(["word "] * 50))

    parts, sentence = await failure(chat)

    assert 5 < len(parts) < 15
    assert "longer than 1 s" in sentence


async def test_a_connection_that_is_cut_in_the_middle_is_said(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.cut_after(2)

    parts, sentence = await failure(chat)

    assert parts == ["You", " said:"]
    assert "gave no reply" in sentence


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_http_errors_are_said(scripted: ScriptedModel, chat: ChatModel, status: int) -> None:
    scripted.fail(status)

    _, sentence = await failure(chat)

    assert f"HTTP {status}" in sentence


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<html>Bad gateway</html>",
        b"data: {}\n\n",
        b"data: x\n\n",
        b"data: [1]\n\ndata: [DONE]\n\n",
        b'data: {"choices": []}\n\ndata: [DONE]\n\n',
        b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n',
        b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
        b'data: {"error": {"message": "out of memory"}}\n\n',
    ],
)
async def test_nonsense_is_no_reply(scripted: ScriptedModel, chat: ChatModel, body: bytes) -> None:
    scripted.talk_nonsense(body)

    _, sentence = await failure(chat)

    assert sentence.startswith("The language model 'scripted' at ")


async def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    chat = ChatModel(
        base_url="http://ada:secret@127.0.0.1:9/v1?key=secret", model="m", api_key="key"
    )

    _, sentence = await failure(chat)

    assert "can't be reached" in sentence
    assert "LOREWIRE_MODEL_URL" in sentence
    assert "secret" not in sentence
    assert "secret" not in str(await chat.check())
    await chat.close()


@pytest.mark.parametrize(
    ("credentials", "authorization"),
    [("", "Bearer key"), ("ada:s%40cret@", "Basic YWRhOnNAY3JldA==")],
)
async def test_a_user_and_password_in_the_url_are_sent_instead_of_the_key(
    scripted: ScriptedModel, credentials: str, authorization: str
) -> None:
    url = scripted.url.replace("http://", f"http://{credentials}")
    chat = ChatModel(base_url=url, model="scripted", api_key="key")

    parts = await reply(chat)
    await chat.close()

    assert len(parts) > 1
    assert scripted.authorizations == [authorization]


async def test_what_no_database_can_hold_is_removed(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    scripted.say("a\0b", "\0", "c")

    assert (await reply(chat))[:-1] == ["ab", "c"]


async def test_closing_the_stream_stops_the_model(scripted: ScriptedModel, chat: ChatModel) -> None:
    scripted.hang_after(1)
    stream = chat.stream(HELLO, max_tokens=50)
    async with contextlib.aclosing(stream):
        await anext(stream)
        assert scripted.open_streams == 1

    async with asyncio.timeout(2):
        while scripted.open_streams:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("pieces", [0, 1])
async def test_cancelling_whoever_reads_stops_the_model(
    scripted: ScriptedModel, chat: ChatModel, pieces: int
) -> None:
    scripted.hang_after(pieces)
    reading = asyncio.create_task(reply(chat))
    async with asyncio.timeout(2):
        while not scripted.open_streams:
            await asyncio.sleep(0.01)

        reading.cancel()

        while scripted.open_streams:
            await asyncio.sleep(0.01)
    assert reading.cancelled()


@pytest.mark.parametrize(
    ("status", "setting"), [(401, "LOREWIRE_MODEL_KEY"), (404, "LOREWIRE_MODEL,")]
)
async def test_what_to_check_is_said(
    scripted: ScriptedModel, chat: ChatModel, status: int, setting: str
) -> None:
    scripted.fail(status)

    _, sentence = await failure(chat)

    assert setting in sentence


async def test_check_tells_a_good_server_from_a_bad_one(
    scripted: ScriptedModel, chat: ChatModel
) -> None:
    assert await chat.check() is None

    scripted.fail(500)

    assert "HTTP 500" in str(await chat.check())


@pytest.mark.parametrize(
    "usage", [b"7", b'{"prompt_tokens": "x"}', b'{"prompt_tokens": 1, "completion_tokens": -1}']
)
async def test_counts_that_are_none_are_left_out(
    scripted: ScriptedModel, chat: ChatModel, usage: bytes
) -> None:
    scripted.talk_nonsense(
        b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "model": 5,'
        b' "usage": %b}\n\ndata: [DONE]\n\n' % usage
    )

    assert await reply(chat) == ["x", Finished("scripted", None, "stop")]


async def test_a_check_may_be_remembered(scripted: ScriptedModel, chat: ChatModel) -> None:
    assert await chat.check(max_age_s=60) is None
    scripted.fail(500)

    assert await chat.check(max_age_s=60) is None
    assert "HTTP 500" in str(await chat.check())
