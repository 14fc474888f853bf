"""Bringing a database to the schema that this version needs."""

import logging
from importlib.resources import files

from alembic import command
from alembic.config import Config

logger = logging.getLogger(__name__)


def migrate(database_url: str, revision: str = "head") -> None:
    """Run the migrations that are missing; does nothing where there are none. Blocks."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["database_url"] = database_url
    command.upgrade(config, revision)
