"""Long entries of memory in passages.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The projector fills the view again from the log.
BEGIN_ANEW = [
    "DELETE FROM lorewire_tracking WHERE application_name = 'memory'"
    " OR application_name LIKE 'memory:%' OR application_name LIKE 'memory@%'",
    "DELETE FROM lorewire_set_aside WHERE follower = 'memory'",
    "UPDATE lorewire_views SET made_with = NULL, generation = generation + 1 WHERE name = 'memory'",
]


def upgrade() -> None:
    """Begin memory anew: it follows from the log."""
    op.execute("TRUNCATE memory_entries")
    op.execute("ALTER TABLE memory_entries DROP COLUMN stems, DROP COLUMN embedding")
    op.execute(
        """
        ALTER TABLE memory_entries
            -- Start and end of each passage, one after the other, in code points; null: it is one.
            ADD COLUMN passages integer[],
            -- Of "(date) Speaker: passage", in order, with repeats; a line for each passage.
            ADD COLUMN stems text NOT NULL,
            -- Of the same, one vector after the other: float32, little-endian; null: no embedder.
            ADD COLUMN embedding bytea
        """
    )
    # Their bytes do not shrink: trying costs time at each write.
    op.execute("ALTER TABLE memory_entries ALTER COLUMN embedding SET STORAGE EXTERNAL")
    for statement in BEGIN_ANEW:
        op.execute(statement)


def downgrade() -> None:
    """Begin it anew in its old shape."""
    op.execute("TRUNCATE memory_entries")
    op.execute(
        "ALTER TABLE memory_entries DROP COLUMN passages, DROP COLUMN stems, DROP COLUMN embedding"
    )
    op.execute(
        "ALTER TABLE memory_entries ADD COLUMN stems text[] NOT NULL, ADD COLUMN embedding bytea"
    )
    for statement in BEGIN_ANEW:
        op.execute(statement)
