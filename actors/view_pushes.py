"""What a session's views have gained, told to its connections as the views move."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from actors import reads
from actors.audience import Audience
from actors.messages import ViewMoved, ViewRebuilt
from actors.patience import VIEWS_UNREACHABLE, patiently
from actors.protocol import Message
from actors.resume import Resume, missed_by_views
from actors.services import Services
from actors.view_progress import ViewName
from projections.positions import read_positions

RETRY_S = 1.0  # between tries, while the views can't be read


class ViewPushes:
    """How far the connections of one session know its views. Owned by its actor."""

    def __init__(
        self, session_id: UUID, services: Services, audience: Audience, tell: Callable[[Any], None]
    ) -> None:
        """`tell` gives the actor a message again that could not be handled yet."""
        self._session_id = session_id
        self._services = services
        self._audience = audience
        self._tell = tell
        self._told: dict[ViewName, int] = {"memory": 0, "graph": 0}
        self._unread: set[ViewName] = set()  # could not be read when it moved

    @property
    def memory(self) -> int:
        """How far the view of memory is known to have read."""
        return self._told["memory"]

    async def begin(self) -> None:
        """Begin where the views are now, since nobody is connected who knows less."""
        services = self._services
        if services.told:
            self._told = dict(services.told.positions)
        else:
            views = (await patiently(lambda: read_positions(services.pool))).views
            self._told = {view: views[view] for view in self._told}
        self._unread.clear()

    async def missed(self, resume: Resume) -> list[Message]:
        """What brings a connection that resumes to where the others are."""
        return await missed_by_views(self._services, self._session_id, resume, **self._told)

    def take(self, moved: ViewMoved) -> bool:
        """Tell all connections what has come with the message; False where it must be read."""
        view, told = moved.view, self._told[moved.view]
        if moved.position <= told:
            return True
        if self._audience:
            # Between what they know and `after` there is nothing, except where it was not read.
            if moved.updates is None or moved.after < told or view in self._unread:
                return False
            self._send(moved.updates)
        self._told[view] = moved.position
        return True

    async def read(self, moved: ViewMoved) -> None:
        """Read what a view has gained since connections were last told, and tell them."""
        view, after = moved.view, self._told[moved.view]
        try:
            updates = await patiently(
                lambda: reads.view_updates(
                    self._services, view, [self._session_id], after, moved.position
                )
            )
        except VIEWS_UNREACHABLE:
            # Nothing else may move the view, so this must not be forgotten.
            self._unread.add(view)
            asyncio.get_running_loop().call_later(RETRY_S, self._tell, moved)
            return
        self._unread.discard(view)
        self._told[view] = moved.position
        self._send(updates[self._session_id])

    async def rebuilt(self, rebuilt: ViewRebuilt) -> None:
        """Tell all connections that what they hold of a view was replaced."""
        if not self._audience:
            return
        try:
            message, position = await patiently(
                lambda: reads.rebuilt_message(self._services, self._session_id, rebuilt.view)
            )
        except VIEWS_UNREACHABLE:
            asyncio.get_running_loop().call_later(RETRY_S, self._tell, rebuilt)
            return
        self._told[rebuilt.view] = max(self._told[rebuilt.view], position)
        self._audience.send(message)

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._audience.send(message)
