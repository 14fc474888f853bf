"""Which views are being rebuilt, so that a rebuild that was stopped can go on.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for rebuilds."""
    op.execute(
        """
        CREATE TABLE lorewire_rebuilds (
            view text PRIMARY KEY,
            version integer NOT NULL,      -- of the rows that are being filled
            made_with text,                -- the embedder of their vectors
            is_scratch boolean NOT NULL,   -- filled to be compared, never to be read
            started_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    # Whose rows the newest switch has replaced; null: those of all sessions.
    op.execute("ALTER TABLE lorewire_views ADD COLUMN rebuilt_session uuid")


def downgrade() -> None:
    """Forget them; their rows are deleted by the next rebuild."""
    op.execute("DELETE FROM lorewire_tracking WHERE application_name LIKE '%@%'")
    op.execute("DROP TABLE lorewire_rebuilds")
    op.execute("ALTER TABLE lorewire_views DROP COLUMN rebuilt_session")
