"""Where session actors are found: started by their first message, forgotten when they stop."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pykka

from actors.loop_actor import LoopActorRef
from actors.messages import Passivate, Shutdown
from actors.monitor import MonitorActor, SessionCreated
from actors.protocol import Code, RefusedError
from actors.services import Services
from actors.session import SessionActor
from events.session import Session, SessionConfig

logger = logging.getLogger(__name__)


class SessionDirectory:
    """The live session actors of this process, by session. Used on the event loop only."""

    def __init__(self, services: Services, monitor: "pykka.ActorRef[MonitorActor]") -> None:
        self.services = services
        self.monitor = monitor
        self.last_listed_position = 0  # of the newest event here that changes the list of sessions
        self._refs: dict[UUID, LoopActorRef[Any]] = {}

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, session_id: UUID) -> bool:
        return session_id in self._refs

    def ref(self, session_id: UUID) -> LoopActorRef[Any]:
        """The session's actor, started where it is not live."""
        ref = self._refs.get(session_id)
        if ref is None:
            ref = SessionActor.start(
                session_id,
                self.services,
                self.monitor,
                forget=self._forget,
                list_changed=self._list_changed,
            )
            self._refs[session_id] = ref
        return ref

    def tell(self, session_id: UUID, message: Any) -> None:
        """Send a message; wakes the session."""
        self.ref(session_id).tell(message)

    async def ask(self, session_id: UUID, message: Any) -> Any:
        """Send a message and wait for the answer; wakes the session.

        Raises RefusedError for what the session refuses.
        """
        return await self.ref(session_id).ask(message, block=False)

    def tell_live(self, session_id: UUID, message: Any) -> None:
        """Send a message if the session is live; one that sleeps is left alone."""
        ref = self._refs.get(session_id)
        if ref is not None:
            ref.tell(message)

    def live(self) -> Sequence[UUID]:
        """The sessions whose actors are live."""
        return list(self._refs)

    async def open_session(self, *, user_id: str, title: str | None, config: SessionConfig) -> UUID:
        """Open a session and give it the knowledge of its domain; returns its id when durable."""
        domain = self.services.domains.get(config.domain)
        if domain is None:
            raise unknown_domain(config.domain, self.services.domains)
        session = Session.open(
            user_id=user_id, title=title or domain.title, config=config, seed=domain.seed
        )
        positions = await self.services.journal.append(session.collect_events())
        self._list_changed(positions[-1])
        self.monitor.tell(SessionCreated(session.id, user_id))
        return session.id

    async def passivate_idle(self) -> int:
        """Stop the actors of sessions that nobody is connected to; returns how many."""
        answers = await asyncio.gather(
            *(self.ask(session_id, Passivate()) for session_id in self.live())
        )
        return sum(answers)

    async def end(self, session_ids: Iterable[UUID]) -> None:
        """End the running turns of some sessions and close their connections with 1012."""
        await asyncio.gather(
            *(self.ask(session_id, Shutdown()) for session_id in session_ids),
            return_exceptions=True,
        )

    async def shutdown(self) -> None:
        """End all sessions, and wait until what follows from that is stored."""
        await self.end(self.live())
        if self.services.tasks:
            await asyncio.wait(self.services.tasks, timeout=5.0)

    def _forget(self, session_id: UUID, ref: "pykka.ActorRef[Any]") -> None:
        """An actor is about to stop: the next message starts another."""
        if self._refs.get(session_id) is ref:
            del self._refs[session_id]

    def _list_changed(self, position: int) -> None:
        self.last_listed_position = max(self.last_listed_position, position)


def unknown_domain(name: str, domains: Iterable[str]) -> RefusedError:
    """What a client is told that names a domain which is not configured."""
    known = ", ".join(sorted(domains))
    return RefusedError(
        Code.INVALID_DATA, f"`config.domain` {name[:64]!r} is not known. Known are {known}."
    )
