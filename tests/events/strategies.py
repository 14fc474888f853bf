"""Domain events of every kind, with anything in their fields, for Hypothesis."""

import dataclasses
from datetime import UTC, datetime
from typing import Any, get_type_hints

from hypothesis import strategies as st

from events.aggregate import TopicMap
from events.knowledge import Statement
from events.session import SessionConfig

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MOMENTS = st.datetimes(
    min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)
)
FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    datetime: MOMENTS,
    dict[str, Any]: st.dictionaries(st.text(), JSON, max_size=3),
    SessionConfig: st.builds(
        SessionConfig, custom_config=st.dictionaries(st.text(), JSON, max_size=3)
    ),
    tuple[Statement, ...]: st.lists(
        st.builds(Statement, confidence=st.floats(0, 1)), max_size=3
    ).map(tuple),
}


def events_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Events of one kind."""
    hints = get_type_hints(cls)
    fields = {
        field.name: st.uuids()
        if field.name == "originator_id"
        else FIELDS.get(hints[field.name], st.from_type(hints[field.name]))
        for field in dataclasses.fields(cls)
    }
    return st.builds(cls, **fields)


st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))  # as PostgreSQL's bigint
EVENTS = st.sampled_from(sorted(TopicMap.classes)).flatmap(
    lambda topic: events_of(TopicMap.classes[topic])
)
