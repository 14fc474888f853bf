"""The chat model: any OpenAI-compatible server, streaming."""

import asyncio
import base64
import contextlib
import logging
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import openai

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 2.0
MAX_NAME_CHARS = 200
MAX_TOKENS = 2**31  # more is not a count of anything

# PostgreSQL's text can't hold NUL, and JSON can't hold half of a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_FINAL = frozenset({400, 413, 422})  # the request itself is refused

_HINTS = {
    401: "Check LOREWIRE_MODEL_KEY",
    403: "Check LOREWIRE_MODEL_KEY",
    404: "Check LOREWIRE_MODEL, and LOREWIRE_MODEL_URL, which mostly ends in /v1",
}


@dataclass(frozen=True)
class ChatMessage:
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Usage:
    """Tokens as the server counted them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Finished:
    """The end of a reply."""

    model: str  # as the server calls it
    usage: Usage | None  # None: the server does not count
    finish_reason: str | None


class ModelUnavailableError(Exception):
    """The model gave no reply; the text says which model, where, and what to look at."""


class NoUsableReplyError(ModelUnavailableError):
    """The model is there, but not for this request: asked again, it would say the same."""


class ChatModel:
    """Speaks to one OpenAI-compatible server."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str | None,
        first_token_timeout_s: float = 60.0,
        gap_timeout_s: float = 30.0,
        turn_timeout_s: float = 300.0,
    ) -> None:
        """`base_url` ends in `/v1` with most servers. Connects when it is first used."""
        self.model = model
        self._url = _without_credentials(base_url)
        self._first_token_timeout_s = first_token_timeout_s
        self._gap_timeout_s = gap_timeout_s
        self._turn_timeout_s = turn_timeout_s
        self._refused: frozenset[str] = frozenset()  # options that this server does not know
        self._checked_at: float | None = None  # on the monotonic clock
        self._problem: str | None = None
        reached_at, default_headers = _split_credentials(base_url)
        self._client = openai.AsyncOpenAI(
            base_url=reached_at,
            api_key=api_key or "none",  # servers that need none accept any
            max_retries=0,  # a turn that fails says so; whether to ask again is for the user
            timeout=openai.Timeout(turn_timeout_s, connect=CONNECT_TIMEOUT_S),
            default_headers=default_headers,
            # Half the CPU of the default, whose pool looks at every idle connection each time.
            http_client=openai.DefaultAioHttpClient(),
        )

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int,
        model: str | None = None,
        response_format: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[str | Finished, None]:
        """The reply, piece by piece, and `Finished` at its end.

        `response_format` is asked for where the server knows such a thing; the prompt has to say
        the same. Raises ModelUnavailableError where no reply comes, or where it breaks off, and its
        subclass where asking again would not help. Closing the iterator closes the request, and the
        server stops writing.
        """
        name = model or self.model
        deadline = time.monotonic() + self._turn_timeout_s
        try:
            response = await self._within(
                self._open(name, messages, max_tokens, response_format),
                self._first_token_timeout_s,
                deadline,
                name,
            )
            async with contextlib.aclosing(self._read(response, name, deadline)) as parts:
                async for part in parts:
                    yield part
        except openai.APIStatusError as error:
            is_final = error.status_code in _FINAL
            raise self._unavailable(name, _say_status(error), is_final=is_final) from error
        except openai.APIConnectionError as error:
            reason = _say_unreached(error.__cause__ or error)
            raise self._unavailable(name, reason) from error
        except ModelUnavailableError:
            raise
        except Exception as error:  # whatever a server sends or stops sending, it is no reply
            reason = f"what it sends is no chat completion, or broke off ({_first_line(error)})"
            raise self._unavailable(name, reason) from error

    async def check(self, *, max_age_s: float = 0.0) -> str | None:
        """None where the server answers, else a sentence that says what is wrong.

        What was found up to `max_age_s` ago is said again: a remote server may count requests.
        """
        now = time.monotonic()
        if self._checked_at is None or now - self._checked_at >= max_age_s:
            self._problem = await self._find_problem()
            self._checked_at = now
        return self._problem

    async def _find_problem(self) -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._client.models.list()
        except openai.APIStatusError as error:
            if error.status_code == 404:
                return None  # it is there, and lists no models
            return str(self._unavailable(self.model, _say_status(error)))
        except TimeoutError:
            return str(self._unavailable(self.model, "it does not answer"))
        except Exception as error:
            return str(self._unavailable(self.model, _say_unreached(error)))
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _open(
        self,
        name: str,
        messages: Sequence[ChatMessage],
        max_tokens: int,
        response_format: Mapping[str, Any] | None,
    ) -> openai.AsyncStream[Any]:
        request: dict[str, Any] = {
            "model": name,
            "messages": [vars(message) for message in messages],
            "max_tokens": max_tokens,
            "stream": True,
        }
        options: dict[str, Any] = {"stream_options": {"include_usage": True}}
        if response_format is not None:
            options["response_format"] = response_format
        *tries, last = _refusable(self._refused, frozenset(options))
        for refused in tries:
            # Some servers do not know an option. If it was something else, it fails again.
            with contextlib.suppress(openai.BadRequestError, openai.UnprocessableEntityError):
                return await self._post(request, options, refused)
        return await self._post(request, options, last)

    async def _post(
        self, request: dict[str, Any], options: dict[str, Any], refused: frozenset[str]
    ) -> openai.AsyncStream[Any]:
        """`chat.completions.create` without an object for each message and each chunk."""
        asked = {name: value for name, value in options.items() if name not in refused}
        response = await self._client.post(
            "/chat/completions",
            body=request | asked,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[Any],
        )
        self._refused = refused
        return response

    async def _read(
        self, response: Any, name: str, deadline: float
    ) -> AsyncGenerator[str | Finished, None]:
        is_anything_said = False
        model_name, usage, finish_reason = name, None, None
        timeout_s = self._first_token_timeout_s
        async with response:
            chunks = aiter(response)
            while True:
                chunk = await self._within(anext(chunks, None), timeout_s, deadline, name)
                if chunk is None:
                    break
                usage = _usage(chunk.get("usage")) or usage
                said_name = chunk.get("model")
                if isinstance(said_name, str) and said_name:
                    model_name = UNSTORABLE.sub("", said_name)[:MAX_NAME_CHARS]
                if not chunk.get("choices"):
                    continue
                choice = chunk["choices"][0]
                finish_reason = choice.get("finish_reason") or finish_reason
                piece = UNSTORABLE.sub("", (choice.get("delta") or {}).get("content") or "")
                if piece:
                    is_anything_said = True
                    timeout_s = self._gap_timeout_s
                    yield piece
        if finish_reason is None:
            raise self._unavailable(name, "its reply broke off")
        if not is_anything_said:
            raise self._unavailable(name, "its reply is empty", is_final=True)
        yield Finished(model_name, usage, finish_reason)

    async def _within(self, awaitable: Any, timeout_s: float, deadline: float, name: str) -> Any:
        left_s = deadline - time.monotonic()
        try:
            async with asyncio.timeout(min(timeout_s, left_s)):
                return await awaitable
        except TimeoutError:
            if left_s <= timeout_s:
                reason = f"its reply takes longer than {self._turn_timeout_s:g} s"
            else:
                reason = f"nothing has come from it for {timeout_s:g} s"
            raise self._unavailable(name, reason) from None

    def _unavailable(
        self, name: str, reason: str, *, is_final: bool = False
    ) -> ModelUnavailableError:
        error_class = NoUsableReplyError if is_final else ModelUnavailableError
        return error_class(f"The language model {name!r} at {self._url} gave no reply: {reason}.")


def _refusable(known: frozenset[str], options: frozenset[str]) -> list[frozenset[str]]:
    """Which options to leave out, try by try: what is known to be refused, one more each, all."""
    more = [known | {option} for option in sorted(options - known)]
    return list(dict.fromkeys([known, *more, options]))


def _usage(counted: Any) -> Usage | None:
    """What the server counted, where these are counts."""
    if not isinstance(counted, dict):
        return None
    prompt, completion = counted.get("prompt_tokens"), counted.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    if not (0 <= prompt < MAX_TOKENS and 0 <= completion < MAX_TOKENS):
        return None
    return Usage(prompt, completion)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)  # some servers take a key in the query
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _split_credentials(url: str) -> tuple[str, dict[str, str]]:
    """The URL without a user and password, and the header that says them instead of the key."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    user, _, password = credentials.partition(":")
    said = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {said}"}


def _say_status(error: openai.APIStatusError) -> str:
    said = f"it answers HTTP {error.status_code} ({_first_line(error.message)})"
    hint = _HINTS.get(error.status_code)
    return f"{said}. {hint}" if hint else said


def _say_unreached(error: BaseException) -> str:
    return f"it can't be reached ({_first_line(error)}). Check LOREWIRE_MODEL_URL and that it runs"


def _first_line(error: object) -> str:
    text = UNSTORABLE.sub("", str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:200]
