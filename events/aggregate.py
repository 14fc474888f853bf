"""What all aggregates share: the cause of an event, its session, stable topics."""

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from eventsourcing.domain import Aggregate, CanMutateAggregate, CanSnapshotAggregate
from eventsourcing.utils import register_topic


@dataclass(frozen=True)
class Cause:
    """Who or what made an event happen."""

    user_id: str
    connection_id: UUID | None = None  # the WebSocket it came in on; None for HTTP and for policies
    request_id: str | None = None  # the `id` that the client chose for its request


class SessionAggregate(Aggregate):
    """An aggregate whose stream belongs to one session."""

    class Event(Aggregate.Event):
        """Every stored event says which session it is about and who caused it."""

        session_id: UUID
        cause: Cause

    session_id: UUID

    def trigger_event(self, event_class: type[CanMutateAggregate[UUID]], **kwargs: Any) -> None:
        """Apply a new event to this aggregate and keep it until it is collected.

        As the library's does it, without looking up the topic each time: `stable_topics` has given
        every event its own.
        """
        event = event_class(  # type: ignore[call-arg]
            originator_id=self.id,
            originator_version=self.version + 1,
            timestamp=event_class.create_timestamp(),
            session_id=self.session_id,
            **kwargs,
        )
        event.mutate(self)
        self.pending_events.append(event)


AggregateClass = TypeVar("AggregateClass", bound=type[Aggregate])

# Classes that the library puts into every aggregate, and that are never stored.
_ABSTRACT: frozenset[str] = frozenset({"Event", "Created"})


class TopicMap:
    """The domain events that exist, by the topic under which they are stored."""

    classes: ClassVar[dict[str, type[Any]]] = {}


def stable_topics(aggregate_class: AggregateClass) -> AggregateClass:
    """Store an aggregate and its events under their bare class names, wherever the module moves.

    A renamed class has to register its old name with `eventsourcing.utils.register_topic`.
    """
    _set_topic(aggregate_class, aggregate_class.__name__)
    for name, value in list(vars(aggregate_class).items()):
        if not isinstance(value, type) or name in _ABSTRACT:
            continue
        if issubclass(value, CanSnapshotAggregate):
            _set_topic(value, f"{aggregate_class.__name__}.{name}")
        elif issubclass(value, CanMutateAggregate):
            _set_topic(value, name)
            TopicMap.classes[name] = value
    return aggregate_class


def _set_topic(cls: type[Any], topic: str) -> None:
    cls.TOPIC = topic
    register_topic(topic, cls)
