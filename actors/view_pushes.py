"""What a session's views have gained, told to its connections as the views move."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

from actors import reads
from actors.audience import Audience
from actors.messages import ViewMoved, ViewRebuilt
from actors.patience import VIEWS_UNREACHABLE, patiently
from actors.protocol import Message
from actors.resume import Resume, missed_by_views
from actors.services import Services
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
        self._told = {"memory": 0, "graph": 0}

    @property
    def memory(self) -> int:
        """How far the view of memory is known to have read."""
        return self._told["memory"]

    async def begin(self) -> None:
        """Begin where the views are now, since nobody is connected who knows less."""
        services = self._services
        told = services.told or (await patiently(lambda: read_positions(services.pool))).views
        self._told = {view: told[view] for view in self._told}

    async def missed(self, resume: Resume) -> list[Message]:
        """What brings a connection that resumes to where the others are."""
        return await missed_by_views(self._services, self._session_id, resume, **self._told)

    async def moved(self, moved: ViewMoved) -> None:
        """Tell all connections what a view has gained since they were last told."""
        after = self._told[moved.view]
        if not self._audience or moved.position <= after:
            return
        update = reads.memory_updates if moved.view == "memory" else reads.graph_updates
        try:
            messages = await patiently(
                lambda: update(self._services, self._session_id, after, moved.position)
            )
        except VIEWS_UNREACHABLE:
            # Nothing else may move the view, so this must not be forgotten.
            asyncio.get_running_loop().call_later(RETRY_S, self._tell, moved)
            return
        self._told[moved.view] = moved.position
        for message in messages:
            self._audience.send(message)

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
