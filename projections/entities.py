"""Which entities of a session are one, at this moment and why: the links between its names.

Every spelling is an entity of its own, with an id that never changes. Links join them: those that
the rules of `entity_names` make, and those that people make. What hangs together is shown as one
entity, under the id of one of its spellings. It is a function of the names, their types, and of
what people said, so that every rebuild finds the same; links that rules made vanish where a later
name makes them doubtful ("Sara", when there is a Sara Blackwood beside Sara Holt).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal
from uuid import UUID, uuid5

from projections.entity_names import (
    Spelling,
    is_proper,
    is_short_for,
    is_typo_of,
    kind_of,
    normalised,
    typo_keys,
)

MAX_NAME_WORDS = 8  # a longer one is a phrase, and short for nothing

Rule = Literal["person", "part_of_name", "typo"]
Order = tuple[int, int]  # position of an event, and the place within it


@dataclass(frozen=True)
class Merge:
    """A link between two entities, which makes them one for as long as it stands."""

    merge_id: UUID
    kept_id: str  # as both are shown, where nothing else joins them to others
    merged_id: str
    made_by: Rule
    order: Order  # when it was made

    def other(self, entity_id: str) -> str:
        """The other end."""
        return self.merged_id if entity_id == self.kept_id else self.kept_id


@dataclass
class Named:
    """One spelling: what it is, when it came, and what it is linked to."""

    spelling: Spelling
    name: str  # as it was written first
    order: Order
    links: dict[UUID, Merge] = field(default_factory=dict)


@dataclass(frozen=True)
class Links:
    """What one event did to the links."""

    made: list[Merge]
    ended: dict[UUID, str]  # why
    moved: dict[str, str]  # entities that are shown as another one now, and as which


class Entities:
    """The links of one session. Not for literals, which are never anything else."""

    def __init__(self, session_id: UUID) -> None:
        self._session_id = session_id
        self._named: dict[str, Named] = {}
        self._shown_as: dict[str, str] = {}  # only those that are shown as another one
        self._merges: dict[UUID, Merge] = {}  # that stand
        self._refused: set[UUID] = set()  # merges of the rules that people took back
        self._by_text: dict[str, str] = {}
        self._longer: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        self._by_typo_key: defaultdict[str, list[str]] = defaultdict(list)
        # What the event at hand has done.
        self._made: dict[UUID, Merge] = {}
        self._ended: dict[UUID, tuple[Merge, str]] = {}

    def shown_as(self, entity_id: str) -> str:
        """The entity as which this one is shown."""
        return self._shown_as.get(entity_id, entity_id)

    def name_of(self, entity_id: str) -> str:
        """What was first called so."""
        return self._named[entity_id].name

    def spellings_of(self, entity_id: str) -> set[str]:
        """Everything that is one with an entity, itself included."""
        return self._together_with(entity_id)

    def restore(
        self, merges: Iterable[Merge], refused: Iterable[UUID], shown_as: dict[str, str]
    ) -> None:
        """Put the links back as they were; the names have been put back with `name`."""
        self._refused = set(refused)
        for merge in merges:
            self._link(merge)
        self._shown_as = shown_as

    def name(self, entity_id: str, name: str, type: str | None, order: Order) -> bool:
        """Somebody was called so; False where this says nothing new."""
        named = self._named.get(entity_id)
        if named is None:
            spelling = Spelling(normalised(name), is_proper(name), kind_of(type))
            self._named[entity_id] = Named(spelling, name, order)
            self._index(entity_id, spelling)
            return True
        old = named.spelling
        named.spelling = replace(
            old, is_proper=old.is_proper or is_proper(name), kind=old.kind or kind_of(type)
        )
        return named.spelling != old

    def relink(self, entity_ids: Iterable[str], order: Order) -> None:
        """Make and end the links that the rules ask for, now that these names have changed."""
        wanted: dict[str, None] = {}
        for entity_id in entity_ids:
            wanted.update(dict.fromkeys(self._touched_by(entity_id)))
        for entity_id in wanted:
            self._relink_one(entity_id, "part_of_name", self._whole_names_of(entity_id), order)
            self._relink_one(entity_id, "typo", self._typo_of(entity_id), order)

    def merge(self, merge_id: UUID, kept_id: str, merged_id: str, order: Order) -> None:
        """A person joins two entities; nothing where one of them is not known."""
        is_new = merge_id not in self._merges and kept_id != merged_id
        if is_new and {kept_id, merged_id} <= self._named.keys():
            self._make(Merge(merge_id, kept_id, merged_id, "person", order))

    def split(self, merge_id: UUID, order: Order) -> None:
        """A person takes a link back; nothing where there is none. Rules do not make it again."""
        merge = self._merges.get(merge_id)
        if merge is None:
            return
        self._end(merge, "split")
        if merge.made_by != "person":
            self._refused.add(merge_id)
            self.relink([merge.kept_id, merge.merged_id], order)

    def take_changes(self) -> Links:
        """What has happened since this was asked last, and who is shown as another one now."""
        touched = {
            entity_id
            for merge in [*self._made.values(), *(merge for merge, _ in self._ended.values())]
            for entity_id in (merge.kept_id, merge.merged_id)
        }
        moved: dict[str, str] = {}
        while touched:
            together = self._together_with(touched.pop())
            touched -= together
            shown_as = self._first_of(together)
            for entity_id in together:
                if self.shown_as(entity_id) != shown_as:
                    moved[entity_id] = shown_as
        for entity_id, shown_as in moved.items():
            if entity_id == shown_as:
                del self._shown_as[entity_id]
            else:
                self._shown_as[entity_id] = shown_as
        links = Links(
            list(self._made.values()),
            {merge_id: why for merge_id, (_, why) in self._ended.items()},
            moved,
        )
        self._made, self._ended = {}, {}
        return links

    # -- the rules

    def _index(self, entity_id: str, spelling: Spelling) -> None:
        self._by_text[spelling.text] = entity_id
        for part in _parts(spelling.words):
            self._longer[part].append(entity_id)
        for key in typo_keys(spelling.text):
            self._by_typo_key[key].append(entity_id)

    def _touched_by(self, entity_id: str) -> Iterable[str]:
        """The names whose links may change with this one."""
        spelling = self._named[entity_id].spelling
        yield entity_id
        for part in _parts(spelling.words):
            if (short := self._by_text.get(" ".join(part))) is not None:
                yield short
        for key in typo_keys(spelling.text):
            yield from self._by_typo_key[key]

    def _whole_names_of(self, entity_id: str) -> list[str]:
        """The longer names that this one may be short for, shortest first; several: in doubt.

        Names that are in turn parts of one another are no doubt: only the shortest is given.
        """
        short = self._named[entity_id].spelling
        chain: list[str] = []
        for other in self._longer.get(short.words, ()):
            spelling = self._named[other].spelling
            if (
                not is_short_for(short, spelling)
                or self._merge_id(entity_id, other) in self._refused
            ):
                continue
            chain.append(other)
            chain.sort(key=lambda one: len(self._named[one].spelling.words))
            words = [self._named[one].spelling.words for one in chain]
            if not all(part in _parts(whole) for part, whole in pairwise(words)):
                return chain  # two are enough for a doubt, and there may be thousands
        return chain[:1]

    def _typo_of(self, entity_id: str) -> list[str]:
        """The earlier names of which this one may be a typo, or they of it."""
        this = self._named[entity_id]
        found = {
            other
            for key in typo_keys(this.spelling.text)
            for other in self._by_typo_key[key]
            if self._named[other].order < this.order
            and self._merge_id(entity_id, other) not in self._refused
            and is_typo_of(this.spelling, self._named[other].spelling)
        }
        return sorted(found)

    def _relink_one(self, entity_id: str, rule: Rule, fitting: list[str], order: Order) -> None:
        """Link a name to the one that fits; several are in doubt, and none of them is taken."""
        wanted = self._merge_id(entity_id, fitting[0]) if len(fitting) == 1 else None
        for merge in list(self._named[entity_id].links.values()):
            is_of_it = merge.made_by == rule and self._is_from(merge, entity_id)
            if is_of_it and merge.merge_id != wanted:
                self._end(merge, "ambiguous" if len(fitting) > 1 else "unlike")
        if wanted is not None and wanted not in self._merges:
            kept, merged = sorted((entity_id, fitting[0]), key=lambda id: self._named[id].order)
            self._make(Merge(wanted, kept, merged, rule, order))

    def _is_from(self, merge: Merge, entity_id: str) -> bool:
        """Whether a link of a rule was made for this end: the shorter name, or the later one."""
        other = merge.other(entity_id)
        if merge.made_by == "typo":
            return merge.merged_id == entity_id
        spelling, whole = self._named[entity_id].spelling, self._named[other].spelling
        return len(spelling.words) < len(whole.words)

    def _merge_id(self, one: str, other: str) -> UUID:
        return uuid5(self._session_id, "merge/" + "/".join(sorted((one, other))))

    # -- links

    def _make(self, merge: Merge) -> None:
        if (ended := self._ended.pop(merge.merge_id, None)) is not None:
            merge = ended[0]  # as if nothing had happened
        else:
            self._made[merge.merge_id] = merge
        self._link(merge)

    def _link(self, merge: Merge) -> None:
        self._merges[merge.merge_id] = merge
        for entity_id in (merge.kept_id, merge.merged_id):
            self._named[entity_id].links[merge.merge_id] = merge

    def _end(self, merge: Merge, why: str) -> None:
        if self._made.pop(merge.merge_id, None) is None:
            self._ended[merge.merge_id] = merge, why
        del self._merges[merge.merge_id]
        for entity_id in (merge.kept_id, merge.merged_id):
            del self._named[entity_id].links[merge.merge_id]

    def _together_with(self, entity_id: str) -> set[str]:
        """Everything that hangs together with an entity."""
        together, to_do = {entity_id}, [entity_id]
        while to_do:
            here = to_do.pop()
            for merge in self._named[here].links.values():
                if (other := merge.other(here)) not in together:
                    together.add(other)
                    to_do.append(other)
        return together

    def _first_of(self, together: set[str]) -> str:
        """As which of them all are shown.

        What rules join is called after the first that was named, what people join after the one
        that they kept.
        """
        merges = {
            merge_id: merge
            for entity_id in together
            for merge_id, merge in self._named[entity_id].links.items()
        }
        first = {entity_id: entity_id for entity_id in together}  # of its part, joined until now
        parts = {entity_id: {entity_id} for entity_id in together}
        in_order = sorted(
            merges.values(), key=lambda merge: (merge.made_by == "person", merge.order)
        )
        for merge in in_order:
            kept, merged = first[merge.kept_id], first[merge.merged_id]
            if kept == merged:
                continue
            if merge.made_by != "person" and self._named[merged].order < self._named[kept].order:
                kept, merged = merged, kept
            for entity_id in parts[merged]:
                first[entity_id] = kept
            parts[kept] |= parts.pop(merged)
        (shown_as,) = set(first.values())
        return shown_as


def _parts(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The beginnings and ends of a name, without itself."""
    lengths = range(1, min(len(words), MAX_NAME_WORDS))
    return list(dict.fromkeys([words[:n] for n in lengths] + [words[-n:] for n in lengths]))
