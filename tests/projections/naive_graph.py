"""What stands in a graph, worked out from its events by definition: slow, and easy to check."""

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

from events.knowledge import Knowledge, Statement
from projections.entity_names import (
    Spelling,
    is_proper,
    is_short_for,
    is_typo_of,
    kind_of,
    normalised,
)
from projections.session_graph import LITERAL, ids_of, names_of, relation

Order = tuple[int, int]


@dataclass
class NaiveGraph:
    """All that has happened, in order; every question is answered from the beginning."""

    session_id: UUID
    functional: frozenset[str]
    said: list[tuple[Order, Statement, str | None]] = field(default_factory=list)  # and replaces
    retracted: set[str] = field(default_factory=set)
    spellings: dict[str, Spelling] = field(default_factory=dict)  # in the order in which they came
    merges: dict[UUID, tuple[str, str]] = field(default_factory=dict)  # of people: kept, merged
    refused: set[UUID] = field(default_factory=set)

    def apply(self, position: int, event: Knowledge.Event) -> None:
        """Take up one event."""
        match event:
            case Knowledge.KnowledgeExtracted():
                known = {one.statement_id for _, one, _ in self.said}
                for number, one in enumerate(event.statements):
                    if one.statement_id in known:
                        continue
                    known.add(one.statement_id)
                    replaced = one.replaces if one.replaces in known else None
                    self.said.append(((position, number), one, replaced))
                    for own_id, name, type in names_of(self.session_id, one):
                        if type != LITERAL:
                            self._name(own_id, name, type)
            case Knowledge.StatementRetracted():
                if event.statement_id in {one.statement_id for _, one, _ in self.said}:
                    self.retracted.add(event.statement_id)
            case Knowledge.EntitiesMerged():
                pair = event.kept_id, event.merged_id
                if len(set(pair)) == 2 and set(pair) <= set(self.spellings):
                    self.merges[event.merge_id] = pair
            case Knowledge.EntitiesSplit():
                if event.merge_id in self.merges:
                    del self.merges[event.merge_id]
                elif event.merge_id in self.links():
                    self.refused.add(event.merge_id)

    def _name(self, own_id: str, name: str, type: str | None) -> None:
        old = self.spellings.get(own_id, Spelling(normalised(name)))
        self.spellings[own_id] = replace(
            old, is_proper=old.is_proper or is_proper(name), kind=old.kind or kind_of(type)
        )

    def links(self) -> dict[UUID, tuple[str, str]]:
        """What the rules join."""
        found: dict[UUID, tuple[str, str]] = {}
        ids = list(self.spellings)
        for number, one in enumerate(ids):
            longer = [other for other in ids if self._may_be(one, other, is_short_for)]
            longer.sort(key=lambda other: len(self.spellings[other].words))
            if longer and all(
                _is_part(self.spellings[a], self.spellings[b])
                for place, a in enumerate(longer)
                for b in longer[place + 1 :]
            ):
                found[self._merge_id(one, longer[0])] = one, longer[0]
            typos = [other for other in ids[:number] if self._may_be(one, other, is_typo_of)]
            if len(typos) == 1:
                found[self._merge_id(one, typos[0])] = one, typos[0]
        return found

    def _may_be(self, one: str, other: str, rule: object) -> bool:
        fits = rule(self.spellings[one], self.spellings[other])  # type: ignore[operator]
        return bool(fits) and self._merge_id(one, other) not in self.refused

    def _merge_id(self, one: str, other: str) -> UUID:
        return uuid5(self.session_id, "merge/" + "/".join(sorted((one, other))))

    def shown_as(self) -> dict[str, str]:
        """The entity as which every spelling is shown."""
        order = {own_id: number for number, own_id in enumerate(self.spellings)}
        shown = {own_id: own_id for own_id in self.spellings}

        def join(kept: str, merged: str) -> None:
            for own_id, entity_id in list(shown.items()):
                if entity_id == merged:
                    shown[own_id] = kept

        for one, other in self.links().values():
            join(*sorted((shown[one], shown[other]), key=order.__getitem__))
        for kept, merged in self.merges.values():
            join(shown[kept], shown[merged])
        return shown

    def standing(self) -> list[tuple[tuple[str, str, str], Statement]]:
        """The statements that stand, with what each says of whom."""
        shown = self.shown_as()
        facts = [
            (order, self._fact(one, shown), one, replaced) for order, one, replaced in self.said
        ]
        stands = []
        for place, (_, fact, one, _) in enumerate(facts):
            later = facts[place + 1 :]
            if one.statement_id not in self.retracted and not any(
                self._ends(fact, one, *other) for other in later
            ):
                stands.append((fact, one))
        return stands

    def _fact(self, one: Statement, shown: dict[str, str]) -> tuple[str, str, str]:
        subject, object = ids_of(self.session_id, one)
        return shown.get(subject, subject), one.predicate, shown.get(object, object)

    def _ends(
        self,
        fact: tuple[str, str, str],
        one: Statement,
        _order: Order,
        later_fact: tuple[str, str, str],
        later: Statement,
        replaced: str | None,
    ) -> bool:
        if later.statement_id in self.retracted or not _is_assertion(later):
            return False
        if replaced == one.statement_id:
            return True
        if not _is_assertion(one):
            return False
        if fact == later_fact:
            return one.polarity != later.polarity
        return (
            one.polarity == later.polarity == "yes"
            and fact[:2] == later_fact[:2]
            and relation(later.predicate) in self.functional
        )

    def drawn(self) -> dict[tuple[str, str, str], str]:
        """The facts that are drawn, and the first statement of each."""
        drawn: dict[tuple[str, str, str], str] = {}
        for fact, one in self.standing():
            if _is_assertion(one) and one.polarity == "yes":
                drawn.setdefault(fact, one.statement_id)
        return drawn


def _is_assertion(one: Statement) -> bool:
    return one.modality == "fact" and one.said_by is None


def _is_part(one: Spelling, other: Spelling) -> bool:
    part, whole = one.words, other.words
    return len(part) < len(whole) and part in (whole[: len(part)], whole[-len(part) :])
