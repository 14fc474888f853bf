"""Bringing a database to the schema that this version needs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from alembic import command
from alembic.config import Config

from lorewire.postgres import EmbeddedPostgres
from lorewire.settings import Settings

logger = logging.getLogger(__name__)


def migrate(database_url: str, revision: str = "head") -> None:
    """Run the migrations that are missing; does nothing where there are none. Blocks."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["database_url"] = database_url
    command.upgrade(config, revision)


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of the database: DATABASE_URL's, or that of the embedded server, which is started."""
    if settings.database_url:
        yield settings.database_url
        return
    postgres = EmbeddedPostgres(settings.data_dir / "postgres")
    try:
        yield postgres.start()
    finally:
        postgres.stop()
