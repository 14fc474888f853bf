"""The projector as a program: follows the log until it is told to stop."""

import logging
import os
import signal
import threading
from collections.abc import Callable

from events.log import Log
from language.chat import ChatModel
from language.domains import load_domains
from language.readers import load_readers
from lorewire.embedder import load_embedder
from lorewire.processes import exit_when_parent_is_gone
from lorewire.settings import Settings
from projections.follower import Follower
from projections.runner import Projector

logger = logging.getLogger(__name__)


def project(settings: Settings, database_url: str, *, is_child: bool) -> None:
    """Keep the views and the learning up to date until SIGTERM (or SIGINT). Blocks.

    As a child of `lorewire serve` it leaves Ctrl-C to its parent, and ends when that is gone.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN if is_child else lambda *_: stop.set())
    if is_child:
        exit_when_parent_is_gone()
    projector = _projector(settings, database_url)
    logger.info("The projector follows the log")
    projector.run(stop)
    if any(isinstance(thread, Follower) for thread in threading.enumerate()):
        # One is in the middle of reading turns, in a library that aborts where the interpreter ends
        # under it. What it reads is not stored, and is read again.
        logging.shutdown()
        os._exit(0)


def retry_all(settings: Settings, database_url: str, write: Callable[[str], None]) -> bool:
    """Try again what was set aside, one line for each session; False where something still fails.

    Projectors may be running.
    """
    projector = _projector(settings, database_url)
    log = Log(database_url)
    is_done = True
    count = 0
    try:
        for retried in projector.retry(log):
            count += 1
            what = f"{retried.follower}: session {retried.session_id}"
            if retried.error is None:
                write(f"{what} is up to date again")
            else:
                write(f"{what} fails again: {retried.error.splitlines()[0]}")
                is_done = False
    finally:
        log.close()
    if not count:
        write("Nothing is set aside.")
    return is_done


def _projector(settings: Settings, database_url: str) -> Projector:
    domains = load_domains(settings.domains_dir)
    return Projector(
        database_url,
        domains=domains,
        embedder=load_embedder(settings),
        readers=load_readers(
            domains.values(),
            lambda: _chat_model(settings),
            context_tokens=settings.model_context_tokens,
            max_at_once=settings.learning_concurrency,
            patience_s=settings.extraction_patience_s,
        ),
        shards=settings.shards,
    )


def _chat_model(settings: Settings) -> ChatModel | None:
    """The model that reads turns; the embedded one's URL comes from `lorewire serve`."""
    if settings.model_url is None:
        return None
    return ChatModel(
        base_url=settings.model_url,
        model=settings.model or "default",
        api_key=settings.model_key.get_secret_value() if settings.model_key else None,
        first_token_timeout_s=settings.extraction_timeout_s,
        gap_timeout_s=settings.extraction_timeout_s,
        turn_timeout_s=settings.extraction_timeout_s,
    )
