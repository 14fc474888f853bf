"""Followers of one shard share what was read."""

from events.log import Batch, Log, Recorded
from events.shards import Shard, shards
from projections.window import MAX_BATCHES, LogWindow
from tests.projections.scenario import Scenario


def events_of(batch: Batch) -> list[int]:
    return [id(one.event) for one in batch.events if isinstance(one, Recorded)]


def test_who_reads_the_same_gets_the_same_events(log: Log, scenario: Scenario) -> None:
    scenario.say(scenario.open(), "One?", "Yes.")
    window = LogWindow(log)

    first = window.read(after=0, limit=1000)
    second = window.read(after=0, limit=1000)
    rest = window.read(after=first.events[1].position, limit=1000)

    assert events_of(first) == events_of(second)
    assert events_of(rest) == events_of(first)[2:]
    assert (rest.after, rest.upto) == (first.events[1].position, first.upto)


def test_news_are_read_however_much_is_kept(log: Log, scenario: Scenario) -> None:
    session_id = scenario.open()
    window = LogWindow(log)
    after = window.read(after=0, limit=1000).upto
    assert window.read(after=after, limit=1000) == Batch(after, after, [])

    scenario.ask(session_id, "Who?")

    assert window.read(after=after, limit=1000).upto == log.head()


def test_whoever_lags_reads_for_itself_and_misses_nothing(log: Log, scenario: Scenario) -> None:
    session_id = scenario.open()
    for number in range(MAX_BATCHES + 3):
        scenario.ask(session_id, f"{number}?")
    for shard in (Shard(), *shards(2)):
        window = LogWindow(log, shard)
        read = read_all(window)

        assert read_all(window) == read  # its start is not kept any more
        assert read == [
            one.position for one in scenario.recorded() if shard.holds(one.event.session_id)
        ]


def read_all(window: LogWindow) -> list[int]:
    after, read = 0, list[int]()
    while (batch := window.read(after=after, limit=1)).upto > after:
        read += [one.position for one in batch.events]
        after = batch.upto
    return read
