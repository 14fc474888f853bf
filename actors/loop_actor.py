"""Actors that share the event loop: pykka's promises without a thread for each actor."""

import asyncio
import inspect
import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import pykka
from pykka import messages
from pykka._envelope import Envelope
from pykka._types import OptExcInfo

logger = logging.getLogger(__name__)

MAX_MESSAGES_AT_ONCE = 64  # then other actors and sockets get the loop

T = TypeVar("T")
A = TypeVar("A", bound=pykka.Actor)


class LoopFuture(pykka.Future[T]):
    """A result that an event loop can await and a thread can block on."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._is_set = False
        self._value: T | None = None
        self._exc_info: OptExcInfo | None = None
        self._callbacks: list[Callable[[], None]] = []

    def get(self, *, timeout: float | None = None) -> Any:
        """Block the calling thread for the result, at most `timeout` seconds.

        Raises pykka.Timeout, the exception that is the result, or RuntimeError where blocking would
        stop an event loop.
        """
        try:
            return super().get(timeout=timeout)
        except NotImplementedError:
            pass
        if not self._is_set:
            self._refuse_on_a_loop()
            arrived = threading.Event()
            self._call_when_set(arrived.set)
            if not arrived.wait(timeout):
                raise pykka.Timeout(f"{timeout} seconds")
        return self._result()

    def set(self, value: T | None = None) -> None:
        """Set the result; a second time raises queue.Full, as pykka's own future does."""
        self._set(value, None)

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Set an exception as the result; left out, the one that is being handled."""
        self._set(None, exc_info or sys.exc_info())

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result without blocking the running event loop."""
        if not self._is_set and self._get_hook is None:
            loop = asyncio.get_running_loop()
            arrived: asyncio.Future[None] = loop.create_future()
            self._call_when_set(lambda: _wake(loop, arrived))
            yield from arrived
        elif self._get_hook is not None:
            mapped: T = yield from asyncio.to_thread(self.get).__await__()
            return mapped
        value: T = self._result()
        return value

    def _set(self, value: T | None, exc_info: OptExcInfo | None) -> None:
        with self._lock:
            if self._is_set or self._get_hook is not None:
                raise queue.Full
            self._value, self._exc_info, self._is_set = value, exc_info, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _call_when_set(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._is_set:
                self._callbacks.append(callback)
                return
        callback()

    def _result(self) -> Any:
        if self._exc_info is None:
            return self._value
        error = self._exc_info[1]
        assert error is not None
        raise error.with_traceback(self._exc_info[2])

    def _refuse_on_a_loop(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError("This would block the event loop: await the future instead of get().")


def _wake(loop: asyncio.AbstractEventLoop, arrived: "asyncio.Future[None]") -> None:
    def resolve() -> None:
        if not arrived.done():
            arrived.set_result(None)

    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_here = False
    if is_here:
        resolve()
    else:
        loop.call_soon_threadsafe(resolve)


class LoopInbox:
    """Messages in order; the first one that is put into an idle inbox wakes the actor."""

    __slots__ = ("_is_awake", "_loop", "_messages", "_run", "_thread_id")

    def __init__(self) -> None:
        self._messages: deque[Envelope[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()  # asking for the running loop is a system call
        self._run: Callable[[], None] | None = None
        self._is_awake = True  # until the actor has started

    def put(self, envelope: Envelope[Any], /) -> None:
        """Add a message, from any thread."""
        self._messages.append(envelope)
        if not self._is_awake:
            self._is_awake = True
            self._schedule()

    def put_now(self, envelope: Envelope[Any]) -> None:
        """Add a message; on the loop's thread, an idle actor handles it before this returns."""
        if self._is_awake or threading.get_ident() != self._thread_id:
            self.put(envelope)
            return
        assert self._run is not None
        self._messages.append(envelope)
        self._is_awake = True
        self._run()

    def get(self) -> Envelope[Any]:
        """Take the oldest message; the inbox must not be empty."""
        return self._messages.popleft()

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._messages

    def serve(self, run: Callable[[], None]) -> None:
        """Call `run` on the loop, now and whenever messages arrive."""
        self._run = run
        self._schedule()

    def sleep(self) -> bool:
        """Go to sleep; False where a message has arrived in the meantime."""
        self._is_awake = False
        if self._messages and not self._is_awake:  # it came from another thread, just now
            self._is_awake = True
            return False
        return True

    def _schedule(self) -> None:
        assert self._run is not None
        if threading.get_ident() == self._thread_id:
            self._loop.call_soon(self._run)
        else:
            self._loop.call_soon_threadsafe(self._run)


class StopFlag:
    """`threading.Event` as far as an actor needs it, at a twentieth of the memory."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        """Whether the actor has stopped."""
        return self._is_set

    def set(self) -> None:
        """The actor has stopped."""
        self._is_set = True


class LoopActorRef(pykka.ActorRef[A]):
    """A reference to a loop actor, with a shorter way for what the loop itself brings."""

    def tell_now(self, message: Any) -> None:
        """Send a message without waiting; an idle actor handles it before this returns.

        `tell` costs a pass of the event loop, with a system call. This is for callbacks of sockets:
        the handler runs on the caller's stack, so no handler of an actor may call it, or actors
        could recurse. Order is kept, as an actor is idle when nothing waits and nothing runs, and
        an exception goes where it always goes: to `on_failure`. Raises pykka.ActorDeadError.
        """
        if not self.is_alive():
            raise pykka.ActorDeadError(f"{self} not found")
        self.actor_inbox.put_now(Envelope(message))  # type: ignore[attr-defined]


class LoopActor(pykka.Actor):
    """An actor whose messages are handled on an event loop, one at a time, in order.

    `on_receive` may be a coroutine function: the next message waits until it has returned. All
    hooks run on the loop that was running when the actor was started. `tell` and `ask` work from
    any thread. Unlike pykka's own, it is not in the `ActorRegistry`, which is a list and is
    searched from the front: whoever starts many actors keeps a directory.
    """

    actor_inbox: LoopInbox
    _actor_ref: LoopActorRef[Any]

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        self.actor_stopped = StopFlag()  # type: ignore[assignment]
        self._actor_ref = LoopActorRef(self)  # it has taken over the flag before
        self._is_busy = False
        self._task: asyncio.Task[None] | None = None  # the loop itself holds tasks weakly

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> LoopActorRef[Any]:
        """Start an actor on the running event loop."""
        actor = cls(*args, **kwargs)
        actor._start_actor_loop()
        return actor._actor_ref

    @staticmethod
    def _create_actor_inbox() -> LoopInbox:
        return LoopInbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        def first_run() -> None:
            self.actor_inbox.serve(self._run)
            self._guard(self.on_start)

        # As a thread's would, the loop of the actor starts after `start` has returned.
        self.actor_inbox._loop.call_soon(first_run)

    def _run(self) -> None:
        """Handle what waits; goes on in a task where a handler has to wait."""
        if self._is_busy:
            return  # the task goes on with the inbox when it is done
        for _ in range(MAX_MESSAGES_AT_ONCE):
            if self.actor_stopped.is_set():
                self._refuse_the_rest()
                return
            if self.actor_inbox.empty():
                if self.actor_inbox.sleep():
                    return
                continue
            envelope = self.actor_inbox.get()
            try:
                response = self._handle_receive(envelope.message)
            except Exception:
                self._fail(envelope)
                continue
            if inspect.iscoroutine(response):
                self._is_busy = True
                self._task = asyncio.create_task(self._finish(response, envelope))
                self._task.add_done_callback(self._resume)
                return
            if envelope.reply_to is not None:
                envelope.reply_to.set(response)
        self.actor_inbox._schedule()

    async def _finish(self, response: Coroutine[Any, Any, Any], envelope: Envelope[Any]) -> None:
        try:
            value = await response
        except Exception:
            self._fail(envelope)
        else:
            if envelope.reply_to is not None:
                envelope.reply_to.set(value)

    def _resume(self, task: "asyncio.Task[None]") -> None:
        self._is_busy = False
        self._task = None
        if task.cancelled():  # the loop is closing
            self.actor_stopped.set()
        self._run()

    def _fail(self, envelope: Envelope[Any]) -> None:
        """Give an exception to whoever asked; with nobody asking, it ends the actor."""
        if envelope.reply_to is not None:
            envelope.reply_to.set_exception()
            return
        exc_info = sys.exc_info()
        self._handle_failure(*exc_info)
        self._guard(lambda: self.on_failure(*exc_info))

    def _guard(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:
            self._handle_failure(*sys.exc_info())

    def _stop(self) -> None:
        self.actor_stopped.set()
        self._guard(self.on_stop)

    def _handle_failure(self, *exc_info: Any) -> None:
        logger.error("Unhandled exception in %s", self, exc_info=exc_info)
        self.actor_stopped.set()

    def _refuse_the_rest(self) -> None:
        while not (self.actor_inbox.empty() and self.actor_inbox.sleep()):
            envelope = self.actor_inbox.get()
            if envelope.reply_to is None:
                continue
            if isinstance(envelope.message, messages._ActorStop):
                envelope.reply_to.set(None)
            else:
                error = pykka.ActorDeadError(
                    f"{self.actor_ref} stopped before handling the message"
                )
                envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))
