"""What the learning policy asks of models, for those who watch it.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        CREATE TABLE lorewire_model_calls (
            follower text PRIMARY KEY,       -- learning_model, or one shard of it
            running integer NOT NULL,        -- turns that are being read
            calls bigint NOT NULL,           -- since ever, with those that failed
            failed_calls bigint NOT NULL,    -- no answer, or none that was asked for
            given_up bigint NOT NULL,        -- turns whose statements are not the model's
            last_error text,                 -- of the newest call that failed
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )
    # The follower begins where the one stands that has learned for all domains until now.
    op.execute(
        "INSERT INTO lorewire_tracking (application_name, notification_id)"
        " SELECT 'learning_model' || substr(application_name, length('learning') + 1),"
        " notification_id FROM lorewire_tracking"
        " WHERE split_part(application_name, ':', 1) = 'learning'"
    )


def downgrade() -> None:
    """Forget the counts and the follower."""
    op.execute("DROP TABLE lorewire_model_calls")
    op.execute("DELETE FROM lorewire_tracking WHERE application_name LIKE 'learning\\_model%'")
