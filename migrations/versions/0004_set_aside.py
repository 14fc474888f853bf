"""Events that a follower has set aside, because it can't handle them.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        CREATE TABLE lorewire_set_aside (
            follower text NOT NULL,              -- sessions, memory, graph or learning
            position bigint NOT NULL,            -- of the event
            session_id uuid,                     -- null: an event of a session that is not known
            topic text NOT NULL,
            error text NOT NULL,                 -- of the last try
            tries integer NOT NULL,
            set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (follower, position)
        )
        """
    )
    op.execute("CREATE INDEX lorewire_set_aside_by_session ON lorewire_set_aside (session_id)")


def downgrade() -> None:
    """Forget what is missing from the views: a rebuild brings it back."""
    op.execute("DROP TABLE lorewire_set_aside")
