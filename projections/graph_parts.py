"""What the graph is given out as: nodes, edges, facts, entities, and what becomes of them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

ENTITY = "entity"  # the type of a node of which nobody said what it is

UpdateType = Literal[
    "knowledge_extracted", "entities_merged", "entities_split", "statement_retracted"
]


class UnknownEntityError(Exception):
    """The session's graph has no such entity; the text is a sentence for the client."""

    def __init__(self, entity: str) -> None:
        super().__init__(f"The graph has no entity {entity!r}: give an id or a name that it shows.")


@dataclass(frozen=True)
class Node:
    """An entity, or a literal, that some edge touches."""

    id: str
    name: str  # the first that it was called
    type: str
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """A plain fact: the earliest statement that stands for it."""

    id: str  # of the statement
    source: str
    target: str
    type: str  # the predicate
    description: str  # the fact as a sentence
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """What a session knows, or a part of it."""

    session_id: UUID
    nodes: list[Node]  # in the order in which they were first named
    edges: list[Edge]  # in the order in which they were learned
    view_position: int  # how far the graph view had read
    total_nodes: int  # before any limit
    total_edges: int


@dataclass(frozen=True)
class Account:
    """One statement with all that is known of it, drawn or not, standing or ended."""

    statement_id: str
    subject_id: str
    predicate: str
    object_id: str
    polarity: str
    modality: str
    said_by: str | None
    quote: str
    speaker: str
    turn_id: str | None
    extractor: str
    confidence: float
    valid_from: str | None
    valid_to: str | None
    said_at: str  # RFC 3339, as all times here
    source_position: int  # of the event in which it was said
    learned_at: str
    position: int  # of the event by which it was learned
    ended_reason: str | None = None  # None: it stands
    ended_by: str | None = None  # the statement that ended it
    ended_note: str | None = None  # what the person said who retracted it
    ended_at: str | None = None
    until_position: int | None = None  # of the event that ended it

    @property
    def is_drawn(self) -> bool:
        """Whether it is a fact of the graph."""
        return (
            self.ended_reason is None
            and self.polarity == "yes"
            and self.modality == "fact"
            and self.said_by is None
        )


@dataclass(frozen=True)
class Moment:
    """Which state of a session's graph one looks at: equal moments have equal graphs."""

    session_id: UUID
    version: int
    generation: int
    position: int  # of the last event that changed it, or an earlier one to look back at


@dataclass(frozen=True)
class History:
    """All that was ever said in a session, as it is known at one moment."""

    moment: Moment
    nodes: list[Node]  # also those that nothing drawn touches
    accounts: list[Account]  # in the order in which they were learned


@dataclass(frozen=True)
class GraphChanges:
    """What turns a graph of one position into that of a later one.

    Remove what is removed, then put what is added, in place of anything with the same id: a node
    that got another alias or type is added again.
    """

    added_nodes: list[Node]
    added_edges: list[Edge]
    removed_nodes: list[str]
    removed_edges: list[str]
    view_position: int  # the later position
    update_type: UpdateType  # what happened between them; what was learned counts most

    @property
    def is_empty(self) -> bool:
        """Whether both graphs are the same."""
        return not (
            self.added_nodes or self.added_edges or self.removed_nodes or self.removed_edges
        )


@dataclass(frozen=True)
class GraphStats:
    """What a graph consists of."""

    node_count: int
    edge_count: int
    entity_types: dict[str, int]
    relationship_types: dict[str, int]


@dataclass(frozen=True)
class Relationship:
    """An edge as seen from one of its nodes."""

    edge: Edge
    other: Node
    is_outgoing: bool


@dataclass(frozen=True)
class EntityDetail:
    """One entity with everything that is known about it."""

    node: Node
    relationships: list[Relationship]


@dataclass(frozen=True)
class Fact:
    """One statement that stands, drawn or not."""

    statement_id: str
    subject: str
    predicate: str
    object: str
    text: str  # as a sentence
    polarity: str
    modality: str
    said_by: str | None
    valid_from: str | None
    valid_to: str | None
    quote: str
    speaker: str
    turn_id: UUID | None
    extractor: str
    confidence: float
    said_at: datetime
    position: int  # of the event by which it was learned


@dataclass(frozen=True)
class Neighbourhood:
    """What is known about the entities that a text names."""

    facts: list[tuple[str, str]]  # a statement's id and a sentence, newest first
    view_position: int


@dataclass(frozen=True)
class FactPage:
    """Part of the statements of a session, newest first."""

    facts: list[Fact]
    total: int
    view_position: int


@dataclass(frozen=True)
class Entity:
    """One entity that was named, drawn or not."""

    entity_id: str
    name: str
    type: str
    aliases: list[str]
    statement_count: int  # statements that stand and name it
    position: int  # of the event that named it first


@dataclass(frozen=True)
class EntityPage:
    """Part of the entities of a session, the newest first."""

    entities: list[Entity]
    total: int
    view_position: int


def sentence(subject: str, predicate: str, object: str) -> str:
    """A statement in words: ("Kira", "lives_in", "Aldermoor") is "Kira lives in Aldermoor"."""
    return f"{subject} {predicate.replace('_', ' ').replace('-', ' ')} {object}"
