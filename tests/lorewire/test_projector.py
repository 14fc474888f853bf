"""What an operator does with a projector."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from events.log import Log
from lorewire.projector import retry_all
from lorewire.settings import Settings
from projections.follower import Follower
from projections.sessions import SessionsProjection
from projections.updates import ViewUpdates
from tests.projections.scenario import Scenario, unreadable


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    with closing(Log(migrated_database_url)) as log:
        yield log


def test_a_retry_says_what_became_of_each_session(
    log: Log, migrated_database_url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, embedder="none")
    said: list[str] = []
    scenario = Scenario(log)
    session_id = scenario.open()
    scenario.ask(session_id, "Who?")
    with unreadable(log, log.head()):
        follower = Follower(log, ViewUpdates(log, SessionsProjection()), upto=log.head())
        follower.start()
        follower.join(10)

        assert not retry_all(settings, migrated_database_url, said.append)

    assert retry_all(settings, migrated_database_url, said.append)
    assert retry_all(settings, migrated_database_url, said.append)
    assert said[0].startswith(f"sessions: session {session_id} fails again: UnreadableEventError")
    assert said[1:] == [
        f"sessions: session {session_id} is up to date again",
        "Nothing is set aside.",
    ]
