"""How far live sessions have been told of the views, and waiting until that is far enough."""

import asyncio
from collections.abc import Mapping
from typing import Literal

ViewName = Literal["memory", "graph"]  # the views that clients are told of as they move


class ViewProgress:
    """Positions of the views as the one who watches them has found them. On the event loop only."""

    def __init__(self) -> None:
        self._positions: dict[ViewName, int] = {}
        self._moved: asyncio.Future[None] | None = None  # somebody waits for the next move

    def __bool__(self) -> bool:
        return bool(self._positions)

    def __getitem__(self, view: ViewName) -> int:
        return self._positions[view]

    @property
    def positions(self) -> Mapping[ViewName, int]:
        """By view; empty until they are known."""
        return self._positions

    def move(self, view: ViewName, position: int) -> None:
        """Live sessions have been told of the view up to here."""
        self._positions[view] = position
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    async def has_come_within(self, view: ViewName, position: int, timeout_s: float) -> bool:
        """Wait until sessions were told up to a position; False where that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._positions.get(view, 0) < position:
                    if self._moved is None:
                        self._moved = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._moved)
        except TimeoutError:
            return False
        return True
