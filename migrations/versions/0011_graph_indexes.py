"""Indexes by which a fact that was stated a thousand times is found as fast as one stated once.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# The newest statements about an entity, and the oldest one between two. No predicate in the key: it
# is text of any length, and few stand between the same two.
NEW = {
    "graph_statements_by_subject": "version, session_id, subject_id, position, number",
    "graph_statements_by_object": "version, session_id, object_id, position, number",
    "graph_statements_by_pair": "version, session_id, subject_id, object_id, position, number",
}
OLD = {
    "graph_statements_by_subject": "version, session_id, subject_id",
    "graph_statements_by_object": "version, session_id, object_id",
}


def upgrade() -> None:
    """Replace the indexes on subject and object."""
    _replace(OLD, NEW)


def downgrade() -> None:
    """Go back to the old ones."""
    _replace(NEW, OLD)


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    for name in old:
        op.execute(f"DROP INDEX {name}")
    for name, columns in new.items():
        op.execute(f"CREATE INDEX {name} ON graph_statements ({columns})")
