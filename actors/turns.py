"""The open turns of a live session: which one runs, what it has said, what prompts show."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pykka

from actors.audience import Audience
from actors.connection import Connection
from actors.live_session import LiveSession
from actors.messages import PieceArrived
from actors.monitor import MonitorActor, TurnsRunning
from actors.protocol import Piece, session_message
from actors.services import Services
from actors.turn import PastTurn, TurnContext, domain_of, run_turn
from events.session import Session
from projections.search import MemoryIndex

logger = logging.getLogger(__name__)

SHOWN_TURNS = 6  # the last turns as they are, word for word, in every prompt
MAX_SHOWN_TURNS = 48  # with those before them that memory has not read yet, within a tick of 0.2 s

TurnEnd = Session.ReplyCompleted | Session.ReplyFailed | Session.ReplyCancelled


@dataclass
class LiveTurn:
    """The turn whose reply is being written."""

    query: Session.QueryAsked
    task: "asyncio.Task[None]"
    pieces: list[str] = field(default_factory=list)

    @property
    def turn_id(self) -> UUID:
        """The turn's id."""
        return self.query.turn_id

    @property
    def text(self) -> str:
        """What has come until now."""
        return "".join(self.pieces)


class Turns:
    """The turns of one session. Owned by its actor, which stores what happens and tells it here."""

    def __init__(
        self,
        session_id: UUID,
        services: Services,
        monitor: "pykka.ActorRef[MonitorActor]",
        audience: Audience,
        tell: Callable[[Any], None],
    ) -> None:
        """`tell` gets what a running turn has to say to the actor."""
        self._session_id = session_id
        self._services = services
        self._monitor = monitor
        self._audience = audience
        self._tell = tell
        self._queries: dict[UUID, Session.QueryAsked] = {}  # of the open turns
        self._past: deque[PastTurn] | None = None  # None: to be read
        self._recall_from = 0  # the newest position that prompts do not show by themselves
        self._unanswered = 0  # of the newest query without a reply, which they do not show either
        self.running: LiveTurn | None = None

    def is_open(self, turn_id: UUID) -> bool:
        """Whether its query is known here and has not come to its end."""
        return turn_id in self._queries

    def is_running(self, turn_id: UUID) -> bool:
        """Whether its reply is being written."""
        return self.running is not None and self.running.turn_id == turn_id

    async def remember(self, live: LiveSession) -> None:
        """Read the last turns, which prompts show, where that was not done yet."""
        if self._past is None:
            self._past = deque(await live.past_turns(SHOWN_TURNS))
            self._recall_from = live.position

    def add(self, query: Session.QueryAsked) -> None:
        """A query was stored; its turn is open."""
        self._queries[query.turn_id] = query

    def start(self, turn_id: UUID, session: Session, index: MemoryIndex, memory: int) -> None:
        """Begin to write a reply. `memory` says how far the view of it is known to have read."""
        query = self._queries[turn_id]
        past = self._shown(memory)
        context = TurnContext(
            query,
            session.config,
            domain_of(session, self._services),
            past,
            index,
            None if memory >= self._recall_from else self._recall_from,
            max(self._recall_from, self._unanswered),
        )
        task = asyncio.create_task(run_turn(context, self._services, self._tell))
        self._services.keep(task)
        self.running = LiveTurn(query, task)
        self._monitor.tell(TurnsRunning(+1))
        self._say("typing_start", turn_id)

    def _shown(self, memory: int) -> tuple[PastTurn, ...]:
        """The last turns; those before them only until memory has read them."""
        past = self._past or deque()
        while len(past) > SHOWN_TURNS and (
            past[0].position <= memory or len(past) > MAX_SHOWN_TURNS
        ):
            self._recall_from = max(self._recall_from, past.popleft().position)
        return tuple(past)

    def finish(self, event: TurnEnd, position: int) -> None:
        """A turn has ended, and this was stored."""
        turn_id = event.turn_id
        kind = type(event).__name__.removeprefix("Reply").lower()
        about = {"session": str(self._session_id), "turn": str(turn_id), "position": position}
        logger.info("Turn %s", kind, extra=about)
        query = self._queries.pop(turn_id, None)
        if query is not None and isinstance(event, Session.ReplyCompleted):
            assert self._past is not None
            self._past.append(PastTurn(turn_id, query.message, event.text, position))
        else:
            self._unanswered = position
        if self.is_running(turn_id):
            self.drop()
            self._say("typing_stop", turn_id)
        self._audience.forget_turn(turn_id)

    def drop(self) -> None:
        """Stop writing, whatever was written."""
        if self.running is not None:
            self.running.task.cancel()
            self.running = None
            self._monitor.tell(TurnsRunning(-1))

    def take_piece(self, piece: PieceArrived) -> None:
        """Tell everybody a piece of the reply."""
        turn = self.running
        if turn is None or turn.turn_id != piece.turn_id:
            return
        turn.pieces.append(piece.text)
        if turn.query.stream:
            count = len(turn.pieces)
            message = Piece(self._session_id, piece.turn_id, piece.text, first=count, last=count)
            self._audience.send(message, piece.turn_id, is_partial=True)

    def show(self, connection: Connection, request_id: str | None = None) -> None:
        """Tell a connection of the turn that runs, with the text that has come until now."""
        turn = self.running
        if turn is None:
            return
        typing = session_message(self._session_id, "typing_start", turn_id=turn.turn_id)
        connection.send(typing, request_id)
        if turn.pieces and turn.query.stream and connection.stream_partials:
            count = len(turn.pieces)
            so_far = Piece(self._session_id, turn.turn_id, turn.text, first=1, last=count)
            connection.send(so_far, request_id)

    def _say(self, type_: str, turn_id: UUID) -> None:
        message = session_message(self._session_id, type_, turn_id=turn_id)
        self._audience.send(message, turn_id)
