"""How Alembic reaches the database: by the URL it is passed, or by DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import create_engine, pool


def database_url() -> str:
    """The URL for SQLAlchemy on psycopg 3."""
    url = context.config.attributes.get("database_url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit(
            "No database to migrate. Run `lorewire migrate`, or set DATABASE_URL for `alembic`."
        )
    return "postgresql+psycopg://" + str(url).split("://", 1)[1]


def run_migrations() -> None:
    """Migrate under a lock, so that servers that start together do it once."""
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4711090210)")
            context.run_migrations()


if context.is_offline_mode():
    context.configure(url=database_url(), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    run_migrations()
