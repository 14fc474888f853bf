"""Versions of views, so that a rebuild fills the next one beside the one that is read.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEYS = {
    "sessions": "session_id",
    "memory_entries": "session_id, entry_id",
    "graph_names": "session_id, entity_id, from_position, mention",
    "graph_statements": "session_id, statement_id",
}
INDEXES = {
    "sessions_by_activity": "sessions ({}last_activity DESC, session_id)",
    "sessions_with_open_turns": "sessions ({}session_id) WHERE open_turns <> '{{}}'",
    "memory_entries_in_order": "memory_entries ({}session_id, position)",
    "memory_entries_by_position": "memory_entries ({}position)",
    "graph_names_by_start": "graph_names ({}session_id, from_position)",
    "graph_statements_by_start": "graph_statements ({}from_position)",
    "graph_statements_by_end": (
        "graph_statements ({}until_position) WHERE until_position IS NOT NULL"
    ),
    "graph_statements_by_subject": "graph_statements ({}session_id, subject_id)",
    "graph_statements_by_object": "graph_statements ({}session_id, object_id)",
}


def upgrade() -> None:
    """Make what the views hold their version 1."""
    for table, key in KEYS.items():
        op.execute(f"ALTER TABLE {table} ADD COLUMN version integer NOT NULL DEFAULT 1")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN version DROP DEFAULT")
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        op.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (version, {key})")
    _make_indexes("version, ")
    op.execute(
        """
        CREATE TABLE lorewire_views (
            name text PRIMARY KEY,
            version integer NOT NULL,              -- of the rows that readers see
            generation bigint NOT NULL DEFAULT 0,  -- grows with every switch of a rebuild
            rebuilt_position bigint NOT NULL DEFAULT 0, -- how far the view had read at the newest
            made_with text                         -- the embedder of its vectors; null: has none
        )
        """
    )
    op.execute("INSERT INTO lorewire_views (name, version) VALUES ('sessions', 1), ('graph', 1)")
    op.execute(
        "INSERT INTO lorewire_views (name, version, made_with) SELECT 'memory', 1, ("
        " SELECT 'wordllama-256' WHERE EXISTS"
        " (SELECT FROM memory_entries WHERE embedding IS NOT NULL))"
    )


def downgrade() -> None:
    """Keep the version that is read."""
    for table, key in KEYS.items():
        view = table.partition("_")[0]
        op.execute(
            f"DELETE FROM {table} WHERE version <>"
            f" (SELECT version FROM lorewire_views WHERE name = '{view}')"
        )
        op.execute(f"ALTER TABLE {table} DROP COLUMN version")  # its key and indexes go with it
        op.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({key})")
    _make_indexes("")
    op.execute("DROP TABLE lorewire_views")


def _make_indexes(prefix: str) -> None:
    for name, definition in INDEXES.items():
        op.execute(f"DROP INDEX IF EXISTS {name}")
        op.execute(f"CREATE INDEX {name} ON {definition.format(prefix)}")
