"""Readers: a turn goes in, its statements come out, whichever extractor finds them."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from language.chat import UNSTORABLE, ChatModel, ModelUnavailableError, NoUsableReplyError
from language.domains import Domain
from language.extraction import Extractor, ExtractorMissingError, Passage, SpacyExtractor
from language.llm_extraction import MAX_KNOWN_NAMES, InvalidAnswerError, ModelExtractor
from language.recent import Recent
from language.statements import ExtractedStatement

logger = logging.getLogger(__name__)

MAX_ERROR_CHARACTERS = 500
MAX_OFFLINE_NAMES = 5000  # so many cost no time that can be measured
MAX_KEPT = 200  # passages of new sessions, which begin with the seeds of few domains
TURNS_BEFORE = 2  # enough to know who "she" is
MAX_INVALID_ANSWERS = 2
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class TurnText:
    """What there is to read: one turn, or the seed of a domain."""

    passages: Sequence[Passage]
    before: Sequence[Passage]  # the turns before, oldest first; empty where the reader wants none
    known_names: Sequence[str]  # in the session, last mentioned first
    said_at: datetime
    model: str | None  # the session's chat model; None: the server's default


@dataclass(frozen=True)
class Reading:
    """What a turn says, and by whose account."""

    extractor: str  # name and version
    found: Sequence[tuple[Passage, ExtractedStatement]]
    error: str | None = None  # why nothing could be read, or not by the extractor that was wanted


@dataclass
class CallCounts:
    """What was asked of a model so far."""

    running: int = 0  # turns that are being read
    calls: int = 0
    failed_calls: int = 0
    given_up: int = 0  # turns whose statements are not the model's
    last_error: str | None = None


class Reader(Protocol):
    """Reads turns, some of them at once."""

    @property
    def max_at_once(self) -> int:
        """So many turns may be submitted before the first one's result is taken."""

    @property
    def turns_before(self) -> int:
        """How many turns before the one it reads it wants to see."""

    @property
    def max_prepared(self) -> int:
        """So many turns may be prepared at once, each of another session."""

    def prepare(self, turns: Sequence[TurnText]) -> None:
        """Do for several turns together what can be done together; they are submitted next."""

    def submit(self, turn: TurnText, counts: CallCounts) -> "Future[Reading]":
        """Begin to read a turn, and count what it takes.

        The result never raises: a failure is a reading with an error.
        """


class OfflineReader:
    """Reads with rules, at once and in the caller's thread.

    What a session without names begins with is mostly the seed of its domain, as that of many
    others: it is kept, and read once.
    """

    max_at_once = 1
    turns_before = 0
    max_prepared = 32

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self._name = f"{extractor.name}/{extractor.version}"
        self._kept: Recent[Passage, list[ExtractedStatement]] = Recent(MAX_KEPT)
        self._reading = threading.Lock()  # a parser is for one thread at a time

    def prepare(self, turns: Sequence[TurnText]) -> None:
        """Parse several turns together."""
        texts = dict.fromkeys(
            (passage.text, tuple(turn.known_names[:MAX_OFFLINE_NAMES]))
            for turn in turns
            for passage in turn.passages
            if turn.known_names or passage not in self._kept
        )
        try:
            with self._reading:
                self._extractor.prepare(list(texts))
        except Exception:  # which text it was shows when they are read one by one
            logger.exception("Extractor %s could not read %d texts at once", self._name, len(texts))

    def submit(self, turn: TurnText, counts: CallCounts) -> "Future[Reading]":
        """Read a turn; the result is there already, and no model was called."""
        future: Future[Reading] = Future()
        future.set_result(self.read(turn))
        return future

    def read(self, turn: TurnText, *, error: str | None = None) -> Reading:
        """Read a turn; `error` says why a better extractor did not. Blocks for some 10 ms."""
        names = turn.known_names[:MAX_OFFLINE_NAMES]
        try:
            with self._reading:
                found = [
                    (passage, statement)
                    for passage in turn.passages
                    for statement in self._statements(passage, names)
                ]
        except Exception as failure:  # recorded, so that a replay does not ask again
            logger.exception("Extractor %s failed", self._name)
            return Reading(self._name, (), _said(failure))
        return Reading(self._name, found, error)

    def _statements(self, passage: Passage, names: Sequence[str]) -> list[ExtractedStatement]:
        found = None if names else self._kept.get(passage)
        if found is None:
            found = self._extractor.extract(
                passage.text,
                speaker=passage.speaker,
                addressee=passage.addressee,
                known_names=names,
            )
        if not names:
            self._kept[passage] = found
        return found


class ModelReader:
    """Asks a chat model, for several turns at once, on an event loop in a thread of its own.

    A model that can't be reached is asked again, less and less often, until `patience_s` have
    passed since the first try; then the turn is read by nobody, and the reading says so. An answer
    that is not what was asked for is asked for once more; then the turn is read offline.
    """

    turns_before = TURNS_BEFORE
    max_prepared = 1

    def __init__(
        self,
        extractor: ModelExtractor,
        *,
        fallback: OfflineReader | None,
        max_at_once: int,
        patience_s: float,
    ) -> None:
        """`fallback` None: a turn that the model gives no usable answer to is read by nobody."""
        self.max_at_once = max_at_once
        self._extractor = extractor
        self._fallback = fallback
        self._patience_s = patience_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="model-reader", daemon=True
        )
        self._thread.start()

    def prepare(self, turns: Sequence[TurnText]) -> None:
        """Nothing: a model is asked about one turn at a time."""

    def submit(self, turn: TurnText, counts: CallCounts) -> "Future[Reading]":
        """Begin to read a turn. Cancelling the result ends the call.

        `counts` is written in the reader's thread.
        """
        return self._run(self._read(turn, counts))

    def close(self) -> None:
        """Break off what is being read."""
        self._run(self._end()).result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._extractor.close()

    async def _read(self, turn: TurnText, counts: CallCounts) -> Reading:
        counts.running += 1
        try:
            reading = await self._patiently(turn, counts)
            if reading.error is not None:
                counts.given_up += 1
            return reading
        finally:
            counts.running -= 1

    async def _patiently(self, turn: TurnText, counts: CallCounts) -> Reading:
        name = self._extractor.signature(turn.model)
        deadline = time.monotonic() + self._patience_s
        backoff_s = FIRST_BACKOFF_S
        invalid_answers = 0
        while True:
            try:
                return Reading(name, await self._call(turn, counts))
            except InvalidAnswerError as error:
                invalid_answers += 1
                if invalid_answers == MAX_INVALID_ANSWERS:
                    return self._offline(turn, error)
            except NoUsableReplyError as error:
                return self._offline(turn, error)
            except ModelUnavailableError as error:
                if time.monotonic() + backoff_s >= deadline:
                    return Reading(name, (), _said(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            except Exception as error:  # recorded, so that a replay does not ask again
                logger.exception("Extractor %s failed", name)
                return Reading(name, (), _said(error))

    async def _call(
        self, turn: TurnText, counts: CallCounts
    ) -> list[tuple[Passage, ExtractedStatement]]:
        counts.calls += 1
        try:
            return await self._extractor.extract(
                turn.passages,
                before=turn.before,
                known_names=turn.known_names[:MAX_KNOWN_NAMES],
                said_at=turn.said_at,
                model=turn.model,
            )
        except Exception as error:
            counts.failed_calls += 1
            counts.last_error = _said(error)
            raise

    def _offline(self, turn: TurnText, error: Exception) -> Reading:
        if self._fallback is None:
            return Reading(self._extractor.signature(turn.model), (), _said(error))
        return self._fallback.read(turn, error=_said(error))


def load_readers(
    domains: Iterable[Domain],
    chat_model: Callable[[], ChatModel | None] = lambda: None,
    *,
    context_tokens: int = 4096,
    max_at_once: int = 4,
    patience_s: float = 300.0,
) -> dict[str, Reader]:
    """The readers that these domains need, by the extractors that they name. Blocks for 0.5 s.

    `chat_model` is called where one asks for it; None: there is none, so that domain has no reader.
    Raises ExtractorMissingError where a domain reads offline and nothing is installed to do it.
    """
    wanted = {domain.extractor for domain in domains}
    readers: dict[str, Reader] = {}
    offline: OfflineReader | None = None
    if wanted & {"offline", "model"}:
        try:
            offline = readers["offline"] = OfflineReader(SpacyExtractor())
        except ExtractorMissingError as error:
            if "offline" in wanted:
                raise
            logger.warning("What the model can't read stays unread: %s", error)
    model = chat_model() if "model" in wanted else None
    if model is not None:
        readers["model"] = ModelReader(
            ModelExtractor(model, context_tokens=context_tokens),
            fallback=offline,
            max_at_once=max_at_once,
            patience_s=patience_s,
        )
    return readers


def _said(error: Exception) -> str:
    """An error as it can be stored: what a model wrote may be part of it."""
    text = UNSTORABLE.sub("\ufffd", f"{type(error).__name__}: {error}")
    return text[:MAX_ERROR_CHARACTERS]
