"""The log: events, snapshots, tracking, and the function that appends.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AUTOVACUUM = """
    autovacuum_enabled = true,
    autovacuum_vacuum_threshold = 100000000,
    autovacuum_vacuum_scale_factor = 0.5,
    autovacuum_analyze_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.01
"""

STATEMENTS = [
    # The tables are the eventsourcing library's (its recorder's sql_create_statements), and two
    # columns of ours: which session an event is about, and when PostgreSQL stored it.
    f"""
    CREATE TABLE lorewire_events (
        originator_id uuid NOT NULL,
        originator_version bigint NOT NULL,
        topic text,
        state bytea,
        notification_id bigserial,
        session_id uuid,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (originator_id, originator_version)
    ) WITH ({AUTOVACUUM})
    """,
    "CREATE UNIQUE INDEX lorewire_events_notification_id_idx ON lorewire_events (notification_id)",
    """
    CREATE INDEX lorewire_events_session_idx ON lorewire_events (session_id, notification_id)
        WHERE session_id IS NOT NULL
    """,
    """
    CREATE TYPE stored_event_uuid AS (
        originator_id uuid, originator_version bigint, topic text, state bytea
    )
    """,
    f"""
    CREATE TABLE lorewire_snapshots (
        originator_id uuid NOT NULL,
        originator_version bigint NOT NULL,
        topic text,
        state bytea,
        PRIMARY KEY (originator_id, originator_version)
    ) WITH ({AUTOVACUUM})
    """,
    f"""
    CREATE TABLE lorewire_tracking (
        application_name text,
        notification_id bigint,
        PRIMARY KEY (application_name)
    ) WITH ({AUTOVACUUM})
    """,
    # Without this row the library would take the table for one of an older shape, and replace it.
    "INSERT INTO lorewire_tracking VALUES ('__migration__', 1)",
    # The lock makes the order of positions the order of commits, so that a reader who has seen a
    # position has seen every lower one. One NOTIFY a call. All in one statement: one round trip.
    """
    CREATE FUNCTION lorewire_append(
        ids uuid[], versions bigint[], topics text[], states bytea[], sessions uuid[]
    ) RETURNS SETOF bigint LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
    BEGIN
        LOCK TABLE lorewire_events IN EXCLUSIVE MODE;
        NOTIFY lorewire_events;
        RETURN QUERY
            INSERT INTO lorewire_events
                (originator_id, originator_version, topic, state, session_id)
            SELECT * FROM unnest(ids, versions, topics, states, sessions)
            RETURNING notification_id;
    END
    $$
    """,
    # Names this log. A log that is restored from a backup or replaced needs another epoch, since
    # positions that clients hold mean nothing in it.
    "CREATE TABLE lorewire_epoch (epoch text NOT NULL, started_at timestamptz NOT NULL)",
    "INSERT INTO lorewire_epoch VALUES (replace(gen_random_uuid()::text, '-', ''), now())",
]


def upgrade() -> None:
    """Create the log."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the log, and with it everything that ever happened."""
    op.execute("DROP FUNCTION lorewire_append")
    for table in ("epoch", "tracking", "snapshots", "events"):
        op.execute(f"DROP TABLE lorewire_{table}")
    op.execute("DROP TYPE stored_event_uuid")
