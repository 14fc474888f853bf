"""Connections: what their events say, old ones too."""

from uuid import uuid4

import orjson
from eventsourcing.persistence import StoredEvent

from events.connection import Connection
from events.mapper import OrjsonTranscoder, TypedMapper


def test_a_connection_from_before_servers_had_numbers_is_on_server_0() -> None:
    mapper = TypedMapper(OrjsonTranscoder())
    connection = Connection.open(
        session_id=uuid4(), user_id="ada", stream=True, remote="", user_agent="", server=7
    )
    (opened,) = connection.collect_events()
    stored = mapper.to_stored_event(opened)
    state = orjson.loads(stored.state)
    del state["server"], state["class_version"]
    old = StoredEvent(
        stored.originator_id, stored.originator_version, stored.topic, orjson.dumps(state)
    )

    assert mapper.to_domain_event(stored).server == 7  # type: ignore[attr-defined]
    assert mapper.to_domain_event(old).server == 0  # type: ignore[attr-defined]
