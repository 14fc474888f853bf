"""The graph as it was at every position: merged entities, ended statements, and why.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = [
    "DROP TABLE graph_statements",
    "DROP TABLE graph_names",
    # A row holds from one position until another: what changes is a row that ends and a new one.
    # The graph as of a position, and the difference between two, are filters.
    """
    CREATE TABLE graph_statements (
        version integer NOT NULL,
        session_id uuid NOT NULL,
        statement_id text NOT NULL,
        from_position bigint NOT NULL,         -- of the event since which it stands like this
        until_position bigint,                 -- of the event that ended that; null: none yet
        subject_id text NOT NULL,              -- the entities that it is about, as they are shown
        predicate text NOT NULL,
        object_id text NOT NULL,
        own_subject_id text NOT NULL,          -- those of its own spellings
        own_object_id text NOT NULL,
        position bigint NOT NULL,              -- of the event by which it was learned
        number integer NOT NULL,               -- its place in that event
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
        said_at timestamptz NOT NULL,          -- when the words were said
        source_position bigint NOT NULL,       -- of the event in which they were said
        learned_at timestamptz NOT NULL,
        is_functional boolean NOT NULL,        -- its relation has one object at a time
        replaces text,                         -- the statement that it says it replaces
        ended_reason text,                     -- null: it stands on, about other entities
        ended_by text,                         -- the statement that ended it
        ended_note text,                       -- what the person said who retracted it
        ended_at timestamptz,
        PRIMARY KEY (version, session_id, statement_id, from_position)
    )
    """,
    """
    CREATE INDEX graph_statements_by_start
        ON graph_statements (version, session_id, from_position)
    """,
    """
    CREATE INDEX graph_statements_by_end ON graph_statements (version, session_id, until_position)
        WHERE until_position IS NOT NULL
    """,
    """
    CREATE INDEX graph_statements_by_subject ON graph_statements (version, session_id, subject_id)
    """,
    """
    CREATE INDEX graph_statements_by_object ON graph_statements (version, session_id, object_id)
    """,
    # No text in the key: an index refuses one of more than 2.7 kB.
    """
    CREATE TABLE graph_names (
        version integer NOT NULL,
        session_id uuid NOT NULL,
        own_id text NOT NULL,                  -- the entity of this spelling
        position bigint NOT NULL,              -- of the event that used this name and type first
        mention integer NOT NULL,              -- its place among the names of that event
        from_position bigint NOT NULL,         -- since when, and until when, it is shown as
        until_position bigint,
        entity_id text NOT NULL,               -- this one
        name text NOT NULL,
        type text,                             -- a hint of the extractor's; 'literal': no entity
        PRIMARY KEY (version, session_id, own_id, position, mention, from_position)
    )
    """,
    "CREATE INDEX graph_names_by_entity ON graph_names (version, session_id, entity_id)",
    "CREATE INDEX graph_names_by_start ON graph_names (version, session_id, from_position)",
    """
    CREATE INDEX graph_names_by_end ON graph_names (version, session_id, until_position)
        WHERE until_position IS NOT NULL
    """,
    """
    CREATE TABLE graph_merges (
        version integer NOT NULL,
        session_id uuid NOT NULL,
        merge_id uuid NOT NULL,
        from_position bigint NOT NULL,
        until_position bigint,                 -- null: it stands
        kept_id text NOT NULL,
        merged_id text NOT NULL,
        kept_name text NOT NULL,
        merged_name text NOT NULL,
        made_by text NOT NULL,                 -- person, or the rule that made it
        user_id text,                          -- null: made by a rule
        made_at timestamptz NOT NULL,
        ended_reason text,                     -- split (by a person), or ambiguous or unlike
        PRIMARY KEY (version, session_id, merge_id, from_position)
    )
    """,
    """
    CREATE TABLE graph_sessions (
        version integer NOT NULL,
        session_id uuid NOT NULL,
        position bigint NOT NULL,              -- of the last event that changed its graph; 0: none
        domain text,
        configured_position bigint NOT NULL,   -- of the event that set the domain
        PRIMARY KEY (version, session_id)
    )
    """,
    "CREATE INDEX graph_sessions_by_position ON graph_sessions (version, position)",
    # The projector fills the view again from the log.
    "DELETE FROM lorewire_tracking WHERE application_name = 'graph'"
    " OR application_name LIKE 'graph:%' OR application_name LIKE 'graph@%'",
]

OLD = [
    """
    CREATE TABLE graph_names (
        version integer NOT NULL,
        session_id uuid NOT NULL,
        entity_id text NOT NULL,
        from_position bigint NOT NULL,
        mention integer NOT NULL,
        name text NOT NULL,
        type text,
        PRIMARY KEY (version, session_id, entity_id, from_position, mention)
    )
    """,
    "CREATE INDEX graph_names_by_start ON graph_names (version, session_id, from_position)",
    """
    CREATE TABLE graph_statements (
        version integer NOT NULL,
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
        said_at timestamptz NOT NULL,
        source_position bigint NOT NULL,
        from_position bigint NOT NULL,
        until_position bigint,
        PRIMARY KEY (version, session_id, statement_id)
    )
    """,
    "CREATE INDEX graph_statements_by_start ON graph_statements (version, from_position)",
    """
    CREATE INDEX graph_statements_by_end ON graph_statements (version, until_position)
        WHERE until_position IS NOT NULL
    """,
    """
    CREATE INDEX graph_statements_by_subject ON graph_statements (version, session_id, subject_id)
    """,
    """
    CREATE INDEX graph_statements_by_object ON graph_statements (version, session_id, object_id)
    """,
]


def upgrade() -> None:
    """Begin the graph anew: it follows from the log."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Begin it anew in its old shape."""
    for table in ("graph_sessions", "graph_merges", "graph_names", "graph_statements"):
        op.execute(f"DROP TABLE {table}")
    for statement in (*OLD, STATEMENTS[-1]):
        op.execute(statement)
