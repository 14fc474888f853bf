"""The function that takes the events of a session from another log.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the function."""
    # The events wait in a temporary table of the caller's, so that the lock is held for this one
    # statement only, whatever becomes of the caller. Positions stay as they were where all of them
    # lie behind the head of the log; otherwise all move up by the same distance, and with them the
    # positions that states hold: `rest` is a state without these, `positions` has them by name.
    op.execute(
        """
        CREATE FUNCTION lorewire_import(imported uuid)
        RETURNS bigint LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
        DECLARE
            distance bigint;
        BEGIN
            LOCK TABLE lorewire_events IN EXCLUSIVE MODE;
            IF EXISTS (SELECT FROM lorewire_events WHERE session_id = imported) THEN
                RAISE unique_violation USING MESSAGE = 'the session exists';
            END IF;
            NOTIFY lorewire_events;
            SELECT greatest(0, 1 - min(position) + (
                SELECT coalesce(max(notification_id), 0) FROM lorewire_events
            )) INTO STRICT distance FROM lorewire_imported;
            INSERT INTO lorewire_events (
                originator_id, originator_version, topic, state,
                notification_id, session_id, recorded_at
            )
            SELECT stream, version, topic,
                CASE WHEN distance = 0 OR positions IS NULL THEN state ELSE
                    substring(rest FOR length(rest) - 1) || convert_to((
                        SELECT string_agg(format(
                            ',"%s":%s', key, coalesce((value::bigint + distance)::text, 'null')
                        ), '') FROM jsonb_each_text(positions)
                    ) || '}', 'UTF8')
                END,
                position + distance, imported, recorded_at
            FROM lorewire_imported ORDER BY position;
            PERFORM setval(
                pg_get_serial_sequence('lorewire_events', 'notification_id'),
                (SELECT max(position) + distance FROM lorewire_imported)
            );
            RETURN distance;
        END
        $$
        """
    )


def downgrade() -> None:
    """Drop the function."""
    op.execute("DROP FUNCTION lorewire_import")
