"""The views: sessions, memory, graph.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = [
    """
    CREATE TABLE sessions (
        session_id uuid PRIMARY KEY,
        user_id text NOT NULL,
        title text NOT NULL,
        status text NOT NULL,                  -- active or deleted
        config jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        last_activity timestamptz NOT NULL,      -- of the last event of the conversation
        turns_total integer NOT NULL DEFAULT 0,
        open_turns uuid[] NOT NULL DEFAULT '{}', -- running and waiting: what a restart looks at
        position bigint NOT NULL               -- of the last event that changed this row
    )
    """,
    "CREATE INDEX sessions_by_activity ON sessions (last_activity DESC, session_id)",
    "CREATE INDEX sessions_with_open_turns ON sessions (session_id) WHERE open_turns <> '{}'",
    """
    CREATE TABLE memory_entries (
        session_id uuid NOT NULL,
        entry_id text NOT NULL,                -- q-<turn>, r-<turn>, s-<n>
        position bigint NOT NULL,              -- of the event that it comes from
        turn_id uuid,                          -- null: seed knowledge of the domain
        role text NOT NULL,                    -- user, agent or seed
        speaker text NOT NULL,
        text text NOT NULL,
        said_at timestamptz NOT NULL,
        stems text[] NOT NULL,                 -- of "(date) Speaker: text", in order, with repeats
        embedding bytea,                       -- float32, little-endian; null: no embedder
        PRIMARY KEY (session_id, entry_id)
    )
    """,
    "CREATE INDEX memory_entries_in_order ON memory_entries (session_id, position)",
    "CREATE INDEX memory_entries_by_position ON memory_entries (position)",
    # What an entity is called and what type it was taken for are rows, so that a graph as of a
    # position is a filter. No text in the key: an index refuses one of more than 2.7 kB.
    """
    CREATE TABLE graph_names (
        session_id uuid NOT NULL,
        entity_id text NOT NULL,
        from_position bigint NOT NULL,         -- of the event that used this name and type first
        mention integer NOT NULL,              -- its place among the names of that event
        name text NOT NULL,
        type text,                             -- a hint of the extractor's; 'literal': no entity
        PRIMARY KEY (session_id, entity_id, from_position, mention)
    )
    """,
    "CREATE INDEX graph_names_by_start ON graph_names (session_id, from_position)",
    """
    CREATE TABLE graph_statements (
        session_id uuid NOT NULL,
        statement_id text NOT NULL,
        subject_id text NOT NULL,
        predicate text NOT NULL,
        object_id text NOT NULL,
        quote text NOT NULL,
        turn_id uuid,
        speaker text NOT NULL,
        extractor text NOT NULL,
        polarity text NOT NULL,
        modality text NOT NULL,
        said_by text,
        valid_from text,
        valid_to text,
        confidence double precision NOT NULL,
        said_at timestamptz NOT NULL,          -- when PostgreSQL stored the event of the source
        source_position bigint NOT NULL,       -- of the event in which it was said
        from_position bigint NOT NULL,         -- of the event by which it was learned
        until_position bigint,                 -- of the event that ended it; null: it stands
        PRIMARY KEY (session_id, statement_id)
    )
    """,
    "CREATE INDEX graph_statements_by_start ON graph_statements (from_position)",
    """
    CREATE INDEX graph_statements_by_end ON graph_statements (until_position)
        WHERE until_position IS NOT NULL
    """,
    "CREATE INDEX graph_statements_by_subject ON graph_statements (session_id, subject_id)",
    "CREATE INDEX graph_statements_by_object ON graph_statements (session_id, object_id)",
]


def upgrade() -> None:
    """Create the views."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the views; they can be rebuilt from the log."""
    for table in ("graph_statements", "graph_names", "memory_entries", "sessions"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DELETE FROM lorewire_tracking WHERE application_name <> '__migration__'")
