"""The schema, owned by Alembic: every table, and the function that appends events."""
