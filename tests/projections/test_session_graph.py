"""What an event changes in a graph is what the definition says, whatever happened before."""

from typing import Any
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from events.aggregate import Cause
from events.knowledge import Knowledge, Statement
from projections.entity_names import entity_id_of
from projections.session_graph import SessionGraph
from tests.projections.naive_graph import NaiveGraph
from tests.projections.scenario import statement

SESSION = UUID(int=7)
ADA = Cause(user_id="ada")
FUNCTIONAL = frozenset({"lives_in"})

NAMES = [
    *("Sara", "Captain Sara", "Sara Holt", "Sara Blackwood", "Holt", "Sara Holt of Aldermoor"),
    *("Aldermoor", "Aldermor", "Allermoor", "aldermoor", "the dragon", "Sara Lane", "Room 12"),
]
statements: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    subject=st.sampled_from(NAMES),
    predicate=st.sampled_from(["lives_in", "Lives in", "knows"]),
    object=st.sampled_from(NAMES),
    subject_type=st.sampled_from([None, None, "person", "place"]),
    object_type=st.sampled_from([None, None, "PERSON"]),
    polarity=st.sampled_from(["yes", "yes", "yes", "no"]),
    modality=st.sampled_from(["fact", "fact", "fact", "plan"]),
    object_is_literal=st.sampled_from([False, False, False, True]),
    replaces=st.none() | st.integers(0, 8).map("s:{}".format),
)
names = st.sampled_from(NAMES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.lists(statements, min_size=1, max_size=3)),
        st.tuples(st.just("learn"), st.lists(statements, min_size=1, max_size=3)),
        st.tuples(st.just("retract"), st.integers(0, 12)),
        st.tuples(st.just("merge"), st.tuples(names, names)),
        st.tuples(st.just("split"), st.integers(0, 5)),
        st.tuples(st.just("split link"), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=12,
)


class Story:
    """Events made of drawn steps."""

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.naive = NaiveGraph(session_id, FUNCTIONAL)
        self._said = 0
        self._merges: list[UUID] = []

    def event(self, step: tuple[str, Any]) -> dict[str, Any]:
        """The class and the values of the event that a step stands for."""
        what, value = step
        if what == "learn":
            return {"statements": tuple(self._statement(values) for values in value)}
        if what == "retract":
            return {"statement_id": f"s:{value % (self._said + 1)}", "reason": "No."}
        if what == "merge":
            self._merges.append(uuid4())
            kept, merged = value
            return {
                "merge_id": self._merges[-1],
                "kept_id": entity_id_of(self.session_id, kept),
                "merged_id": entity_id_of(self.session_id, merged),
                "kept_name": kept,
                "merged_name": merged,
            }
        known = self._merges if what == "split" else sorted(self.naive.links())
        return {"merge_id": known[value % len(known)] if known else uuid4()}

    def _statement(self, values: dict[str, Any]) -> Statement:
        self._said += 1
        return statement(f"s:{self._said - 1}", **values)


CLASSES: dict[str, Any] = {
    "learn": Knowledge.KnowledgeExtracted,
    "retract": Knowledge.StatementRetracted,
    "merge": Knowledge.EntitiesMerged,
    "split": Knowledge.EntitiesSplit,
    "split link": Knowledge.EntitiesSplit,
}


def made(what: str, values: dict[str, Any]) -> Any:
    """An event as the log would give it, with what the graph looks at."""
    event = object.__new__(CLASSES[what])
    event.__dict__.update(values)
    return event


@settings(max_examples=400, deadline=None)
@given(steps=steps)
def test_the_state_is_what_the_definition_says_after_every_event(
    steps: list[tuple[str, Any]],
) -> None:
    story = Story(SESSION)
    graph = SessionGraph(SESSION)
    for position, step in enumerate(steps, 1):
        event = made(step[0], story.event(step))
        match event:
            case Knowledge.KnowledgeExtracted():
                graph.learn(position, event.statements, FUNCTIONAL)
            case Knowledge.StatementRetracted():
                graph.retract(position, event.statement_id, event.reason)
            case Knowledge.EntitiesMerged():
                graph.merge(position, event.merge_id, event.kept_id, event.merged_id)
            case Knowledge.EntitiesSplit():
                graph.split(position, event.merge_id)
        story.naive.apply(position, event)

        shown = story.naive.shown_as()
        assert {own: graph.entities.shown_as(own) for own in shown} == shown
        standing = {one.statement_id: fact for fact, one in story.naive.standing()}
        assert {
            known.statement_id: known.fact
            for known in graph._known.values()
            if known.ending is None
        } == standing
