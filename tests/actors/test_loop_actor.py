"""Loop actors keep pykka's promises."""

import asyncio
import logging
import threading
from typing import Any

import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.loop_actor import LoopActor, LoopActorRef, LoopFuture


class Recorder(LoopActor):
    """Remembers what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.running = 0
        self.most_running = 0

    def on_start(self) -> None:
        self.seen.append("started")

    def on_stop(self) -> None:
        self.seen.append("stopped")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.seen.append(("failed", exception_type))

    def on_receive(self, message: Any) -> Any:
        match message:
            case ("wait", seconds):
                return self._wait(seconds)
            case "fail":
                raise ValueError("as asked")
            case "fail later":
                return self._fail_later()
            case "thread":
                return threading.current_thread()
        self.seen.append(message)
        return message

    async def _wait(self, seconds: float) -> str:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(seconds)
        self.running -= 1
        self.seen.append(("waited", seconds))
        return "done"

    async def _fail_later(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("as asked")


def start() -> tuple[LoopActorRef[Any], Recorder]:
    ref = Recorder.start()
    actor = ref._actor_weakref()
    assert actor is not None
    return ref, actor


async def test_messages_are_handled_in_order() -> None:
    ref, actor = start()

    for number in range(1000):
        ref.tell(number)
    await ref.ask("last", block=False)

    assert actor.seen == ["started", *range(1000), "last"]


async def test_one_message_at_a_time_across_await() -> None:
    ref, actor = start()

    answers = [ref.ask(("wait", 0.001 * (5 - n)), block=False) for n in range(5)]
    ref.tell("after")
    for answer in answers:
        assert await answer == "done"
    await ref.ask("last", block=False)

    assert actor.most_running == 1
    waits = [("waited", 0.001 * (5 - n)) for n in range(5)]
    assert actor.seen == ["started", *waits, "after", "last"]


async def test_an_idle_actor_handles_what_it_is_told_now_before_the_teller_goes_on() -> None:
    ref, actor = start()
    await ref.ask("before", block=False)

    ref.tell_now("now")

    assert actor.seen == ["started", "before", "now"]


async def test_an_actor_that_is_not_idle_handles_in_order_what_it_is_told_now() -> None:
    ref, actor = start()
    ref.tell_now("at its start")
    ref.tell(("wait", 1e-9))
    ref.tell_now("behind")
    await ref.ask("last", block=False)

    assert actor.seen == ["started", "at its start", ("waited", 1e-9), "behind", "last"]


async def test_what_is_told_now_from_a_thread_is_handled_on_the_loop() -> None:
    ref, actor = start()
    await ref.ask("before", block=False)

    await asyncio.to_thread(ref.tell_now, "from a thread")
    await ref.ask("last", block=False)

    assert actor.seen == ["started", "before", "from a thread", "last"]


async def test_a_handler_that_tells_itself_now_is_not_interrupted() -> None:
    class Talkative(Recorder):
        def on_receive(self, message: Any) -> Any:
            if message == "begin":
                self._actor_ref.tell_now("meanwhile")
            return super().on_receive(message)

    ref = Talkative.start()
    await ref.ask("before", block=False)

    ref.tell_now("begin")

    actor = ref._actor_weakref()
    assert actor is not None
    assert actor.seen == ["started", "before", "begin", "meanwhile"]


async def test_a_failure_of_what_is_told_now_ends_the_actor_and_not_the_teller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ref, actor = start()
    await ref.ask("before", block=False)

    with caplog.at_level(logging.CRITICAL, logger="actors.loop_actor"):
        ref.tell_now("fail")

    assert actor.seen == ["started", "before", ("failed", ValueError)]
    with pytest.raises(pykka.ActorDeadError):
        ref.tell_now("gone")


@settings(max_examples=25, deadline=None)
@given(plan=st.lists(st.sampled_from(["plain", "now", "wait", "wait now"]), max_size=30))
def test_order_holds_for_any_mixture_of_plain_and_waiting_handlers(plan: list[str]) -> None:
    async def run() -> list[Any]:
        ref, actor = start()
        for number, kind in enumerate(plan):
            tell = ref.tell_now if "now" in kind else ref.tell
            tell(("wait", number * 1e-9) if "wait" in kind else number)
            if number % 5 == 0:
                await asyncio.sleep(0)  # so that it is idle at times
        await ref.ask("last", block=False)
        return actor.seen

    seen = asyncio.run(run())

    expected = [
        ("waited", number * 1e-9) if "wait" in kind else number for number, kind in enumerate(plan)
    ]
    assert seen == ["started", *expected, "last"]


async def test_messages_from_one_thread_stay_in_order_among_those_of_others() -> None:
    ref, actor = start()

    def send(thread: int) -> None:
        for number in range(500):
            ref.tell((thread, number))

    await asyncio.gather(*(asyncio.to_thread(send, thread) for thread in range(4)))
    await ref.ask("last", block=False)

    for thread in range(4):
        assert [m[1] for m in actor.seen[1:-1] if m[0] == thread] == list(range(500))


async def test_handlers_run_on_the_loops_thread_whoever_sends() -> None:
    ref, _ = start()

    thread = await asyncio.to_thread(lambda: ref.ask("thread"))

    assert thread is threading.current_thread()


async def test_a_thread_can_block_on_an_answer() -> None:
    ref, _ = start()

    answer = await asyncio.to_thread(lambda: ref.ask(("wait", 0.01), timeout=5))

    assert answer == "done"


async def test_a_thread_that_blocks_too_long_gets_a_timeout() -> None:
    ref, _ = start()

    with pytest.raises(pykka.Timeout):
        await asyncio.to_thread(lambda: ref.ask(("wait", 1.0), timeout=0.01))


async def test_blocking_the_loop_on_itself_is_refused() -> None:
    ref, _ = start()

    with pytest.raises(RuntimeError, match="block the event loop"):
        ref.ask(("wait", 0.01))


async def test_awaiting_an_answer_does_not_block_the_loop() -> None:
    ref, _ = start()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticker = asyncio.create_task(tick())
    await ref.ask(("wait", 0.05), block=False)
    ticker.cancel()

    assert ticks > 5


async def test_an_answer_can_be_awaited_on_another_loop() -> None:
    ref, _ = start()

    async def ask_there() -> Any:
        return await ref.ask(("wait", 0.01), block=False)

    assert await asyncio.to_thread(asyncio.run, ask_there()) == "done"


@pytest.mark.parametrize("message", ["fail", "fail later"])
async def test_an_exception_goes_to_whoever_asked_and_the_actor_lives(message: str) -> None:
    ref, actor = start()

    with pytest.raises(ValueError, match="as asked"):
        await ref.ask(message, block=False)

    assert await ref.ask("alive", block=False) == "alive"
    assert ("failed", ValueError) not in actor.seen


@pytest.mark.parametrize("message", ["fail", "fail later"])
async def test_an_exception_with_nobody_asking_ends_the_actor(
    message: str, caplog: pytest.LogCaptureFixture
) -> None:
    ref, actor = start()
    with caplog.at_level(logging.CRITICAL, logger="actors.loop_actor"):
        ref.tell(message)
        behind = ref.ask("too late", block=False)

        with pytest.raises(pykka.ActorDeadError):
            await behind

    assert actor.seen == ["started", ("failed", ValueError)]
    assert not ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("gone")


async def test_stopping_waits_for_what_came_before_and_refuses_what_comes_after() -> None:
    ref, actor = start()
    running = ref.ask(("wait", 0.02), block=False)
    await asyncio.sleep(0)

    stopped = ref.stop(block=False)
    behind = ref.ask("too late", block=False)

    assert await running == "done"
    await stopped
    with pytest.raises(pykka.ActorDeadError):
        await behind
    assert actor.seen == ["started", ("waited", 0.02), "stopped"]


async def test_an_actor_can_be_used_through_a_proxy() -> None:
    ref, _ = start()

    proxy = ref.proxy()

    assert await proxy.on_receive("by proxy") == "by proxy"
    assert await proxy.most_running == 0


async def test_ten_thousand_actors_need_no_thread() -> None:
    before = threading.active_count()

    refs = [Recorder.start() for _ in range(10_000)]
    answers = await asyncio.gather(*(_ask(ref, n) for n, ref in enumerate(refs)))

    assert answers == list(range(10_000))
    assert threading.active_count() == before
    for ref in refs:
        ref.stop(block=False)


async def _ask(ref: pykka.ActorRef[Any], message: Any) -> Any:
    return await ref.ask(message, block=False)


async def test_a_long_inbox_does_not_keep_the_loop_for_itself() -> None:
    busy, _ = start()
    other, _ = start()
    for number in range(10_000):
        busy.tell(number)

    started = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(started.set_result, None)
    await started
    await other.ask("quick", block=False)

    assert not busy.actor_inbox.empty()


def test_a_future_is_set_once() -> None:
    import queue

    future: LoopFuture[int] = LoopFuture()
    future.set(1)

    with pytest.raises(queue.Full):
        future.set(2)

    assert future.get() == 1
    assert future.get() == 1


def test_futures_can_be_mapped_and_joined() -> None:
    one: LoopFuture[int] = LoopFuture()
    two: LoopFuture[int] = LoopFuture()

    both = one.join(two).map(sum)
    one.set(1)
    two.set(2)

    assert both.get() == 3


async def test_a_mapped_future_can_be_awaited() -> None:
    ref, _ = start()

    answer = ref.ask(("wait", 0.01), block=False).map(str.upper)

    assert await answer == "DONE"


def test_get_returns_when_another_thread_sets_the_result() -> None:
    future: LoopFuture[str] = LoopFuture()
    threading.Timer(0.02, future.set, args=("here",)).start()

    assert future.get(timeout=5) == "here"
