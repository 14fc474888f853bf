"""Servers that share the log, and the connections that they have opened.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of servers, and the index by which their connections are found."""
    # A server holds the advisory lock of its number for as long as it lives. A row goes when the
    # connections of its server are closed in the log. Number 0 stands for all servers from before
    # there were numbers: nobody holds its lock.
    op.execute(
        """
        CREATE TABLE lorewire_servers (
            number serial PRIMARY KEY,
            started_position bigint NOT NULL,
            started_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("INSERT INTO lorewire_servers (number, started_position) VALUES (0, 0)")
    op.execute(
        """
        CREATE INDEX lorewire_events_opened_idx ON lorewire_events (notification_id)
        WHERE topic = 'ConnectionOpened'
        """
    )


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP INDEX lorewire_events_opened_idx")
    op.execute("DROP TABLE lorewire_servers")
