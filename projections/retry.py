"""Trying again what was set aside, after somebody has mended the cause."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from events.log import Log, Recorded, Unreadable
from projections.follower import Projection, UnreadableEventError, is_of_event
from projections.learning import LearningPolicy
from projections.set_aside import SetAside, note_failure, read_set_aside
from projections.tracking import OvertakenError
from projections.updates import redo_session


@dataclass(frozen=True)
class Retried:
    """What became of the events of one session that one follower had set aside."""

    follower: str
    session_id: UUID | None
    events: int
    error: str | None  # None: they are handled now


def retry_set_aside(
    log: Log, projections: Sequence[Projection], policies: Sequence[LearningPolicy]
) -> Iterator[Retried]:
    """Try everything that is set aside, session by session; what fails again stays set aside.

    A view's rows of the session are written anew from all of its events, so they are as if nothing
    had ever failed. A learning policy handles just the events. Projectors may be running.

    Raises NotYetError, OperationalError or InterfaceError where nothing can be tried now.
    """
    views = {projection.name: projection for projection in projections}
    learning = {policy.name: policy for policy in policies}
    found = sorted(read_set_aside(log), key=lambda one: (one.follower, str(one.session_id)))
    for (follower, session_id), group in groupby(
        found, key=lambda one: (one.follower, one.session_id)
    ):
        items = sorted(group, key=lambda one: one.position)
        if follower in views:
            errors = [_redo_session(log, views[follower], items[0])]
        else:
            errors = [_learn(log, learning[follower], item) for item in items]
        error = next((one for one in errors if one is not None), None)
        yield Retried(follower, session_id, len(items), error)


def _learn(log: Log, learning: LearningPolicy, item: SetAside) -> str | None:
    """Learn from one event; the error where that fails again."""
    return _try(log, item, lambda: learning.redo(_read(log, item)))


def _redo_session(log: Log, projection: Projection, item: SetAside) -> str | None:
    """Write a session's rows anew, which stand before this event; the error where that fails."""

    def redo() -> None:
        session_id = item.session_id or _read(log, item).event.session_id
        redo_session(log, projection, session_id)

    return _try(log, item, redo)


def _try(log: Log, item: SetAside, do: Callable[[], object]) -> str | None:
    try:
        do()
    except OvertakenError:
        return None  # somebody else has just done the same
    except Exception as error:
        if not is_of_event(error):
            raise
        text = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
        with log.recorder.datastore.transaction(commit=True) as curs:
            note_failure(curs, item.follower, item.position, text)
        return text
    return None


def _read(log: Log, item: SetAside) -> Recorded:
    """The event; raises UnreadableEventError."""
    after = item.position - 1
    (found,) = log.read_batch(after=after, limit=1, upto=item.position).events
    if isinstance(found, Unreadable):
        raise UnreadableEventError(found)
    return found
