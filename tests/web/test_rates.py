"""Token buckets: bursts, then a steady rate, for each user alone."""

from hypothesis import given
from hypothesis import strategies as st

from web.rates import BURST_S, MIN_SWEEP, Rate


class Clock:
    """A time that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    rate = Rate(10, clock=clock)

    burst = [rate.take("ada") for _ in range(30)]
    refused_s = rate.take("ada")
    clock.now += refused_s
    after_waiting = rate.take("ada")

    assert burst == [0.0] * 30
    assert 0.0 < refused_s < 0.1 + 1e-6
    assert after_waiting == 0.0
    assert rate.take("ada") > 0.0


def test_users_do_not_share_a_bucket() -> None:
    rate = Rate(1, clock=Clock())

    while not rate.take("ada"):
        pass

    assert rate.take("bob") == 0.0


def test_a_rate_of_less_than_one_in_a_burst_still_lets_one_pass() -> None:
    clock = Clock()
    rate = Rate(0.01, clock=clock)

    first, second = rate.take("ada"), rate.take("ada")
    clock.now += 100.0

    assert first == 0.0
    assert 99.0 < second <= 100.0
    assert rate.take("ada") == 0.0


@given(
    per_s=st.floats(0.1, 1_000),
    pauses_s=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_no_time_gives_more_than_the_burst_and_the_rate(
    per_s: float, pauses_s: list[float]
) -> None:
    clock = Clock()
    rate = Rate(per_s, clock=clock)
    passed = 0

    for pause_s in pauses_s:
        clock.now += pause_s
        passed += rate.take("ada") == 0.0

    burst = max(1.0, BURST_S * per_s)
    assert passed <= burst + per_s * sum(pauses_s) + 1e-3


def test_users_with_full_buckets_are_forgotten() -> None:
    clock = Clock()
    rate = Rate(10, clock=clock)

    for number in range(5 * MIN_SWEEP):
        rate.take(f"user {number}")
        clock.now += 0.01

    assert len(rate) <= MIN_SWEEP + 1
