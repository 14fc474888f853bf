"""What stands in the graph of one session, and what an event changes about it.

What stands at a position is a function of the statements, retractions, merges and splits up to it:

- a statement is about the entities that its names are shown as (`entities`);
- it is ended by the first later one that was not retracted and that contradicts it: the same said
  with the opposite polarity, another object of a relation that has one at a time, or a statement
  that says which one it replaces. So what a retracted statement had ended stands again, and what
  two entities ended of each other stands again when their merge is split;
- only facts that nobody reported end anything: no plan and no wish ends a fact.

Rows say since when and until when it was so: nothing is overwritten, every position can be seen.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from events.knowledge import Statement
from projections.entities import Entities, Merge, Order
from projections.entity_names import entity_id_of, is_named_in, literal_id_of

LITERAL = "literal"  # the type of a node that is a date, a number or a text

Reason = Literal["retracted", "replaced", "contradicted", "functional"]


@dataclass(frozen=True)
class Ending:
    """Why a statement does not stand."""

    reason: Reason
    by: str | None = None  # the statement that ended it
    note: str | None = None  # what the person said who retracted it


@dataclass(frozen=True)
class Shape:
    """What a row says of a statement: which entities it is about, and why it does not stand."""

    subject_id: str
    object_id: str
    ending: Ending | None = None


@dataclass(slots=True, eq=False)
class Known:
    """A statement, as far as others depend on it."""

    statement_id: str
    order: Order
    subject: str  # the entities of its own spellings
    predicate: str
    object: str
    is_denied: bool  # polarity "no"
    is_assertion: bool  # a fact that nobody reported: it can end others
    is_functional: bool  # its relation has one object at a time
    replaces: str | None  # an earlier statement's id
    shape: Shape
    written: Shape | None = None  # by the newest row; None: there is none
    row_from: int | None = None  # where the row begins by which it stands; None: it does not

    @property
    def ending(self) -> Ending | None:
        """Why it does not stand; None: it does."""
        return self.shape.ending

    @property
    def fact(self) -> tuple[str, str, str]:
        """What it says, or denies."""
        return self.shape.subject_id, self.predicate, self.shape.object_id


@dataclass(frozen=True)
class StatementRow:
    """A new row; one that ends where it begins says why a statement that did not stand still does
    not.
    """

    statement_id: str
    from_position: int
    shape: Shape


@dataclass(frozen=True)
class NameRow:
    """A new row: what an entity is called, from here on."""

    own_id: str  # of the spelling
    position: int  # of the event that used this name and type first
    mention: int  # its place among the names of that event
    from_position: int
    entity_id: str  # as which the spelling is shown


@dataclass(frozen=True)
class NewName:
    """A name or a type that an entity has not had before."""

    own_id: str
    position: int
    mention: int
    name: str
    type: str | None


@dataclass
class Changes:
    """What one event does to the rows of its session."""

    learned: list[tuple[Known, Statement]] = field(default_factory=list)
    named: list[NewName] = field(default_factory=list)
    opened: list[StatementRow] = field(default_factory=list)
    closed: list[tuple[str, int, Ending | None]] = field(default_factory=list)  # id, row's begin
    names_opened: list[NameRow] = field(default_factory=list)
    names_closed: list[tuple[str, int, int, int]] = field(default_factory=list)  # its key
    merged: list[Merge] = field(default_factory=list)
    merges_ended: dict[UUID, str] = field(default_factory=dict)  # why


@dataclass
class NameKey:
    """Where the open row of a name begins."""

    position: int
    mention: int
    row_from: int


class SessionGraph:
    """The state of one session's graph. Methods tell what an event changes; they never fail."""

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.position = 0  # of the newest event that it has seen
        self.entities = Entities(session_id)
        self._names: defaultdict[str, dict[tuple[str, str | None], NameKey]] = defaultdict(dict)
        self._known: dict[str, Known] = {}
        self._about: defaultdict[str, list[Known]] = defaultdict(list)  # by own entity
        # The assertions, by what they say, and by relation.
        self._same_fact: defaultdict[tuple[str, str, str], list[Known]] = defaultdict(list)
        self._same_relation: defaultdict[tuple[str, str], list[Known]] = defaultdict(list)
        self._replacing: defaultdict[str, list[Known]] = defaultdict(list)
        self._ended_by: defaultdict[str, list[Known]] = defaultdict(list)
        self._dirty: dict[Known, None] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self._names)

    # -- events

    def learn(
        self, position: int, statements: Sequence[Statement], functional: frozenset[str]
    ) -> Changes:
        """An extractor found these. What is known by its id already is left out."""
        changes = Changes()
        fresh = {one.statement_id: one for one in statements if one.statement_id not in self._known}
        self._take_names(position, statements, fresh, changes)
        for number, one in enumerate(statements):
            if fresh.get(one.statement_id) is not one:
                continue
            subject, object = ids_of(self.session_id, one)
            known = Known(
                one.statement_id,
                (position, number),
                subject,
                one.predicate,
                object,
                is_denied=one.polarity == "no",
                is_assertion=one.modality == "fact" and one.said_by is None,
                is_functional=relation(one.predicate) in functional,
                replaces=self._replaced_by(one, subject, object),
                shape=Shape(self.entities.shown_as(subject), self.entities.shown_as(object)),
            )
            self._index(known)
            self._end_earlier(known)
            self._dirty[known] = None
            changes.learned.append((known, one))
        return self._written(position, changes)

    def retract(self, position: int, statement_id: str, reason: str | None) -> Changes:
        """A statement was never right: what it had ended stands again."""
        known = self._known.get(statement_id)
        if known is not None and not _is_retracted(known):
            self._set_ending(known, Ending("retracted", note=reason))
            for ended in self._ended_by.pop(statement_id, []):
                self._judge(ended)
        return self._written(position, Changes())

    def merge(self, position: int, merge_id: UUID, kept_id: str, merged_id: str) -> Changes:
        """A person said that two entities are one."""
        self.entities.merge(merge_id, kept_id, merged_id, (position, 0))
        changes = Changes()
        self._take_links(position, changes)
        return self._written(position, changes)

    def split(self, position: int, merge_id: UUID) -> Changes:
        """A person took a merge back."""
        self.entities.split(merge_id, (position, 0))
        changes = Changes()
        self._take_links(position, changes)
        return self._written(position, changes)

    # -- put back from rows

    def restore_name(self, name: NewName, row_from: int) -> None:
        """A name as its open row has it, in the order in which names came."""
        self._names[name.own_id][name.name, name.type] = NameKey(
            name.position, name.mention, row_from
        )
        if name.type != LITERAL:
            order = name.position, name.mention
            self.entities.name(name.own_id, name.name, name.type, order)

    def restore_statement(self, known: Known) -> None:
        """A statement as its newest row has it, in the order in which they were learned."""
        self._index(known)
        if known.ending is not None and known.ending.by is not None:
            self._ended_by[known.ending.by].append(known)

    # -- names

    def _take_names(
        self,
        position: int,
        statements: Sequence[Statement],
        fresh: dict[str, Statement],
        changes: Changes,
    ) -> None:
        renamed: dict[str, None] = {}
        for number, one in enumerate(statements):
            if fresh.get(one.statement_id) is not one:
                continue
            for place, (own_id, name, type) in enumerate(names_of(self.session_id, one)):
                names = self._names[own_id]
                if (name, type) in names:
                    continue
                mention = 2 * number + place
                names[name, type] = NameKey(position, mention, position)
                changes.named.append(NewName(own_id, position, mention, name, type))
                if type != LITERAL and self.entities.name(own_id, name, type, (position, mention)):
                    renamed[own_id] = None
        if renamed:
            self.entities.relink(renamed, (position, 0))
            self._take_links(position, changes)
        for new in changes.named:
            shown_as = self.entities.shown_as(new.own_id)
            changes.names_opened.append(
                NameRow(new.own_id, position, new.mention, position, shown_as)
            )

    def _take_links(self, position: int, changes: Changes) -> None:
        """Take over what has become of the links: whose names, and what is said about whom."""
        links = self.entities.take_changes()
        changes.merged += links.made
        changes.merges_ended |= links.ended
        moved: dict[Known, None] = {}
        for own_id, entity_id in links.moved.items():
            moved.update(dict.fromkeys(self._about[own_id]))
            for key in self._names[own_id].values():
                if key.row_from == position == key.position:
                    continue  # a name of this very event, whose row is still to come
                changes.names_closed.append((own_id, key.position, key.mention, key.row_from))
                key.row_from = position
                changes.names_opened.append(
                    NameRow(own_id, key.position, key.mention, position, entity_id)
                )
        self._move(moved)

    # -- statements

    def _index(self, known: Known) -> None:
        self._known[known.statement_id] = known
        self._about[known.subject].append(known)
        if known.object != known.subject:
            self._about[known.object].append(known)
        if known.is_assertion:
            self._index_shape(known)
            if known.replaces is not None:
                self._replacing[known.replaces].append(known)

    def _index_shape(self, known: Known) -> None:
        self._same_fact[known.fact].append(known)
        if not known.is_denied:
            self._same_relation[known.fact[:2]].append(known)

    def _move(self, moved: Iterable[Known]) -> None:
        """Have these statements be about the entities that their names are shown as now."""
        moved = set(moved)
        touched: set[tuple[str, ...]] = set()
        for known in moved:
            touched |= {known.fact, known.fact[:2]}
        for key in touched:
            group = self._group(key)
            group[:] = [known for known in group if known not in moved]
        for known in sorted(moved, key=_order):
            known.shape = Shape(
                self.entities.shown_as(known.subject),
                self.entities.shown_as(known.object),
                known.ending,
            )
            self._dirty[known] = None
            if known.is_assertion:
                self._index_shape(known)
                touched |= {known.fact, known.fact[:2]}
        for key in touched:
            self._group(key).sort(key=_order)
        for known in {known for key in touched for known in self._group(key)} | moved:
            self._judge(known)

    def _group(self, key: tuple[str, ...]) -> list[Known]:
        if len(key) == 3:
            return self._same_fact[key]
        return self._same_relation[key]  # type: ignore[index]

    def _end_earlier(self, new: Known) -> None:
        """End what the newest statement contradicts, where nothing has ended it yet."""
        if not new.is_assertion:
            return
        if new.replaces is not None:
            self._end_by(new, [self._known[new.replaces]], "replaced")
        opposite = (one for one in self._same_fact[new.fact] if one.is_denied != new.is_denied)
        self._end_by(new, opposite, "contradicted")
        if new.is_functional and not new.is_denied:
            relation = self._same_relation[new.fact[:2]]
            others = (one for one in relation if one.shape.object_id != new.shape.object_id)
            self._end_by(new, others, "functional")

    def _end_by(self, new: Known, earlier: Iterable[Known], reason: Reason) -> None:
        for one in earlier:
            if one.ending is None and one is not new:
                self._set_ending(one, Ending(reason, new.statement_id))

    def _judge(self, known: Known) -> None:
        """Find out anew whether it stands."""
        if not _is_retracted(known):
            ending = self._ending_of(known)
            if ending != known.ending:
                self._set_ending(known, ending)

    def _ending_of(self, known: Known) -> Ending | None:
        candidates: list[tuple[Known, Reason]] = [
            (one, "replaced") for one in self._replacing.get(known.statement_id, ())
        ]
        if known.is_assertion:
            candidates += [
                (one, "contradicted")
                for one in self._same_fact[known.fact]
                if one.is_denied != known.is_denied
            ]
            if not known.is_denied:
                candidates += [
                    (one, "functional")
                    for one in self._same_relation[known.fact[:2]]
                    if one.is_functional and one.shape.object_id != known.shape.object_id
                ]
        later = [
            (one, reason)
            for one, reason in candidates
            if one.order > known.order and not _is_retracted(one)
        ]
        if not later:
            return None
        first, reason = min(later, key=lambda each: each[0].order)
        return Ending(reason, first.statement_id)

    def _set_ending(self, known: Known, ending: Ending | None) -> None:
        if known.ending is not None and known.ending.by is not None:
            ended = self._ended_by[known.ending.by]
            if known in ended:
                ended.remove(known)
        known.shape = Shape(known.shape.subject_id, known.shape.object_id, ending)
        if ending is not None and ending.by is not None:
            self._ended_by[ending.by].append(known)
        self._dirty[known] = None

    def _replaced_by(self, new: Statement, subject: str, object: str) -> str | None:
        """The statement that a new one says it replaces; None: nothing that is known.

        Extractors name it in words, as "in Rivermoor": the newest statement about the same subject
        whose object is named there, rather one of the same relation.
        """
        if new.replaces is None or new.replaces in self._known:
            return new.replaces
        fitting = [
            known
            for own_id in self.entities.spellings_of(subject)
            for known in self._about[own_id]
            if known.subject == own_id
            and known.object != object
            and known.ending is None
            and any(is_named_in(name, new.replaces) for name, _ in self._names[known.object])
        ]
        if not fitting:
            return None
        newest = max(fitting, key=lambda known: (known.predicate == new.predicate, known.order))
        return newest.statement_id

    # -- rows

    def _written(self, position: int, changes: Changes) -> Changes:
        """The rows that say what has become of the statements that this event touched."""
        self.position = position
        for known in sorted(self._dirty, key=_order):
            if known.shape == known.written:
                continue
            if known.row_from is not None:
                changes.closed.append((known.statement_id, known.row_from, known.ending))
                known.row_from = None
                needs_row = known.ending is None or known.written != Shape(
                    known.shape.subject_id, known.shape.object_id
                )
            else:
                needs_row = True
            if needs_row:
                changes.opened.append(StatementRow(known.statement_id, position, known.shape))
                if known.ending is None:
                    known.row_from = position
            known.written = known.shape
        self._dirty.clear()
        return changes


def ids_of(session_id: UUID, statement: Statement) -> tuple[str, str]:
    """The entities of a statement's own spellings: subject and object."""
    object_id = literal_id_of if statement.object_is_literal else entity_id_of
    return entity_id_of(session_id, statement.subject), object_id(session_id, statement.object)


def names_of(session_id: UUID, statement: Statement) -> list[tuple[str, str, str | None]]:
    """Entity, name and type of subject and object."""
    subject, object = ids_of(session_id, statement)
    object_type = LITERAL if statement.object_is_literal else _hint(statement.object_type)
    return [
        (subject, statement.subject, _hint(statement.subject_type)),
        (object, statement.object, object_type),
    ]


def relation(predicate: str) -> str:
    """The spelling that names of one relation share: "Lives in" and "lives_in"."""
    return predicate.casefold().replace("-", "_").replace(" ", "_")


def _hint(type: str | None) -> str | None:
    return None if type == LITERAL else type


def _is_retracted(known: Known) -> bool:
    return known.ending is not None and known.ending.reason == "retracted"


def _order(known: Known) -> Order:
    return known.order
