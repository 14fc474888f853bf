"""A turn: recall, write the prompt, let the model speak, tell the session's actor."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prometheus_client import Counter, Histogram

from actors.messages import PieceArrived, ReplyArrived, TurnFailed
from actors.patience import VIEWS_UNREACHABLE, patiently
from actors.protocol import Code
from actors.services import Services
from events.session import Session, SessionConfig, TokenUsage
from language.chat import ChatMessage, Finished, ModelUnavailableError
from language.domains import Domain
from language.prompts import Prompt, RecalledMemory, write_prompt
from projections.graph_parts import Neighbourhood
from projections.memory import MemoryEntry
from projections.search import MemoryIndex

logger = logging.getLogger(__name__)

RECALLED_ENTRIES = 8  # what a small model can still make use of
RECALLED_FACTS = 12
RECALL_WAITS_S = 2.0  # the view is some 20 ms behind; a projector that has just started, a second

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
FIRST_TOKEN_SECONDS = Histogram(
    "lorewire_model_first_token_seconds",
    "From asking the model to the first piece of its reply",
    buckets=_SECONDS,
)
REPLY_SECONDS = Histogram(
    "lorewire_model_reply_seconds", "From asking the model to its whole reply", buckets=_SECONDS
)
TOKENS = Counter("lorewire_model_tokens", "Tokens that the model has counted for turns", ["kind"])
TURNS = Counter("lorewire_turns", "Turns that have ended, as what", ["outcome"])


@dataclass(frozen=True)
class PastTurn:
    """A query and its reply, as the next prompts show them."""

    turn_id: UUID
    query: str
    reply: str
    position: int = 0  # of the reply's event; 0: from before the actor was live


@dataclass(frozen=True)
class TurnContext:
    """What a turn needs to know of its session."""

    query: Session.QueryAsked
    config: SessionConfig
    domain: Domain
    past: Sequence[PastTurn]  # oldest first
    index: MemoryIndex
    recall_from: int | None  # wait until memory has read up to here; None: it has
    look_upto: int  # what was said later may be left out: the prompt shows it


@dataclass(frozen=True)
class Recalled:
    """What may go into a prompt, and where in the log it was looked up."""

    entries: Sequence[MemoryEntry]  # best first
    memory_position: int  # how far the memory view had read
    graph: Neighbourhood


def domain_of(session: Session, services: Services) -> Domain:
    """The session's domain; where its file is gone, another one keeps the session alive."""
    domain = services.domains.get(session.config.domain)
    if domain is None:
        domain = next(iter(services.domains.values()))
        logger.error(
            "Session %s has domain %r, which is not configured any more: using %r",
            session.id,
            session.config.domain,
            domain.name,
        )
    return domain


async def run_turn(context: TurnContext, services: Services, tell: Callable[[Any], None]) -> None:
    """Work out the reply to a query; every outcome is told to the session's actor.

    Runs as a task of its own. Tells PieceArrived for each piece of text, then ReplyArrived or
    TurnFailed. When it is cancelled it tells nothing: whoever cancels it knows.
    """
    turn_id = context.query.turn_id
    started = time.monotonic()
    outcome = "cancelled"
    try:
        recalled = await patiently(lambda: _recall(context, services))
        prompt = _write_prompt(context, services, recalled)
        pieces: list[str] = []
        finished: Finished | None = None
        asked_at = time.monotonic()
        async for part in services.model.stream(
            prompt.messages,
            max_tokens=context.domain.max_reply_tokens,
            model=context.config.llm_model,
        ):
            if isinstance(part, Finished):
                finished = part
            else:
                if not pieces:
                    FIRST_TOKEN_SECONDS.observe(time.monotonic() - asked_at)
                pieces.append(part)
                tell(PieceArrived(turn_id, part))
        assert finished is not None, "a stream that ends well ends with Finished"
        REPLY_SECONDS.observe(time.monotonic() - asked_at)
        if finished.usage is not None:
            for kind, count in vars(finished.usage).items():
                TOKENS.labels(kind.removesuffix("_tokens")).inc(count)
        outcome = "completed"
        tell(
            ReplyArrived(
                turn_id,
                text="".join(pieces),
                recalled=tuple(prompt.recalled),
                facts=tuple(id for id, _ in recalled.graph.facts[: prompt.facts]),
                memory_position=recalled.memory_position,
                graph_position=recalled.graph.view_position,
                model=finished.model,
                usage=TokenUsage(**vars(finished.usage)) if finished.usage else None,
                duration_ms=round((time.monotonic() - started) * 1000),
            )
        )
    except VIEWS_UNREACHABLE:
        outcome = Code.UNAVAILABLE
        sentence = "The session's memory can't be read. Ask again in a moment."
        tell(TurnFailed(turn_id, outcome, sentence))
    except ModelUnavailableError as error:
        outcome = Code.MODEL_UNAVAILABLE
        tell(TurnFailed(turn_id, outcome, str(error)))
    except Exception:
        outcome = Code.INTERNAL
        logger.exception(
            "A turn failed",
            extra={"session": str(context.query.session_id), "turn": str(turn_id)},
        )
        tell(TurnFailed(turn_id, outcome, "The server made a mistake. Ask again."))
    finally:
        TURNS.labels(outcome).inc()


async def _recall(context: TurnContext, services: Services) -> Recalled:
    """Look for what was said and is known; raises what `VIEWS_UNREACHABLE` names."""
    query = context.query
    # The seed of a new session, above all. A projector that is behind holds nobody up for long.
    wanted = context.recall_from
    if wanted is not None and not await services.told.has_come_within(
        "memory", wanted, RECALL_WAITS_S
    ):
        logger.warning("Memory is behind position %d: recalling what it has", wanted)
    shown = {turn.turn_id for turn in context.past} | {query.turn_id}
    newest = context.config.max_memory_size  # counted from the end, which must be known then
    found, graph = await asyncio.gather(
        context.index.search(
            query.message,
            limit=RECALLED_ENTRIES + 2 * len(shown),
            newest=newest,
            at_least=context.look_upto if newest is None else None,
            ranks=False,
        ),
        services.graph.neighbourhood(query.session_id, query.message, limit=RECALLED_FACTS),
    )
    entries = [hit.entry for hit in found.hits if hit.entry.turn_id not in shown]
    return Recalled(entries[:RECALLED_ENTRIES], found.view_position, graph)


def _write_prompt(context: TurnContext, services: Services, recalled: Recalled) -> Prompt:
    query = context.query
    return write_prompt(
        context.domain,
        recalled=[
            RecalledMemory(entry.entry_id, entry.speaker, entry.said_at, entry.text)
            for entry in recalled.entries
        ],
        facts=[sentence for _, sentence in recalled.graph.facts],
        turns=[
            message
            for turn in context.past
            for message in (ChatMessage("user", turn.query), ChatMessage("assistant", turn.reply))
        ],
        query=query.message,
        context=query.context,
        budget_tokens=services.model_context_tokens - context.domain.max_reply_tokens,
    )
