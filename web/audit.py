"""HTTP: the audit view, from a reply to what it rests on, and back."""

import asyncio
from collections.abc import Collection, Sequence
from uuid import UUID

from actors.patience import patiently
from actors.protocol import Code, RefusedError
from events.audit import About, as_dict, ids_rested_on, is_entry, known_types
from events.log import Recorded, Unreadable
from web.api import ApiHandler
from web.parameters import integer

CANDIDATES = 500  # events that may be about something, read at once


class EventsHandler(ApiHandler):
    """`/api/v1/sessions/{id}/events`."""

    async def get(self, text: str) -> None:
        """The audit view: stored events of the session, in order, with what they rest on."""
        session_id = self.session_id(text)
        after = integer(self, "after", default=0)
        limit = integer(self, "limit", default=100, low=1, high=1_000)
        types, about = self._types(), self._about()
        events = await asyncio.to_thread(
            self._read, session_id, types, about, after=after, limit=limit + 1
        )
        if not events and not await asyncio.to_thread(self.services.log.session_head, session_id):
            raise RefusedError(Code.NOT_FOUND, f"There is no session {session_id}.")
        page = events[:limit]
        positions = await self._positions(session_id, ids_rested_on(page))
        self.answer(
            {
                "events": [as_dict(one, positions) for one in page],
                "has_more": len(events) > limit,
            }
        )

    def _types(self) -> list[str]:
        """The kinds of events that are asked for; none where all are."""
        known = known_types()
        wanted = self.get_query_arguments("type")
        for name in wanted:
            if name not in known:
                raise RefusedError(
                    Code.INVALID_DATA,
                    f"`type` must be one of {', '.join(known)}, not {name[:40]!r}.",
                )
        return wanted

    def _about(self) -> About | None:
        text = self.get_query_argument("about", None)
        if text is None:
            return None
        try:
            return About(text)
        except ValueError as error:
            raise RefusedError(Code.INVALID_DATA, f"`about` {error}, not {text[:40]!r}.") from None

    def _read(
        self, session_id: UUID, types: Sequence[str], about: About | None, *, after: int, limit: int
    ) -> list[Recorded | Unreadable]:
        """At most `limit` events; blocks."""
        log = self.services.log
        if about is None and types:
            return log.read_topics(session_id, types, after=after, limit=limit)
        if about is None:
            return log.read_session(session_id, after=after, limit=limit)
        found: list[Recorded | Unreadable] = []
        while len(found) < limit:
            candidates = log.read_mentions(
                session_id,
                about.words,
                types or known_types(),
                always=about.makers,
                after=after,
                limit=CANDIDATES,
            )
            # One that can't be read has the words in it: an audit shows that rather than nothing.
            found += [
                one for one in candidates if isinstance(one, Unreadable) or about.matches(one.event)
            ]
            if len(candidates) < CANDIDATES:
                break
            after = candidates[-1].position
        return found[:limit]

    async def _positions(self, session_id: UUID, ids: Collection[str]) -> dict[str, int]:
        entries = [id for id in ids if is_entry(id)]
        statements = [id for id in ids if not is_entry(id)]
        found: dict[str, int] = {}
        if entries:
            found |= await patiently(lambda: self.services.memory.positions_of(session_id, entries))
        if statements:
            found |= await patiently(
                lambda: self.services.graph.positions_of(session_id, statements)
            )
        return found
