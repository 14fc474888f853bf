"""The projector as a program: follows the log until it is told to stop."""

import logging
import signal
import threading

from language.domains import load_domains
from language.embedding import load_embedder
from lorewire.processes import exit_when_parent_is_gone
from lorewire.settings import Settings
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
    projector = Projector(
        database_url,
        domains=load_domains(settings.domains_dir),
        embedder=load_embedder(settings.embedder),
    )
    logger.info("The projector follows the log")
    projector.run(stop)
