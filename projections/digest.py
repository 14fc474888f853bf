"""Comparing two versions of a view: digests, counts of what differs, and the first difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from psycopg.rows import DictRow

FETCH_ROWS = 5_000
MAX_EXAMPLES = 3  # of each kind, for each table


@dataclass(frozen=True)
class Difference:
    """How the rows of one table differ between two versions, by their keys."""

    table: str
    added: int  # rows that only the second version has
    gone: int  # rows that only the first one has
    changed: int  # rows with the same key and other values
    examples: list[str]


@dataclass(frozen=True)
class Selection:
    """Which rows of a version count."""

    version: int
    session_id: UUID | None = None  # None: of all sessions
    without: Sequence[UUID] = ()  # sessions that are left out


def digest(curs: Cursor[DictRow], tables: Sequence[str], selection: Selection) -> str:
    """SHA-256 over the rows of these tables, ordered by key, without their version; hexadecimal.

    Equal digests mean equal rows: floats and bytes count with every bit.
    """
    total = sha256()
    for table in tables:
        key, columns = _columns(curs, table)
        total.update(f"{table}({','.join(columns)})".encode())
        query = sql.SQL(
            "SELECT md5(ROW({columns})::text) AS row FROM {rows} AS rows ORDER BY {key}"
        ).format(columns=_list(columns), rows=_rows(table, selection), key=_list(key))
        with curs.connection.cursor(name="digest") as rows:
            rows.itersize = FETCH_ROWS
            rows.execute(query)
            for row in rows:
                total.update(row["row"].encode())
    return total.hexdigest()


def differences(
    curs: Cursor[DictRow], tables: Sequence[str], first: Selection, second: Selection
) -> list[Difference]:
    """How each table differs; tables that are equal are left out."""
    found = []
    for table in tables:
        query = sql.SQL(
            "SELECT count(*) FILTER (WHERE old IS NULL) AS added,"
            " count(*) FILTER (WHERE new IS NULL) AS gone, count(*) AS total FROM {differing}"
        ).format(differing=_differing(curs, table, first, second))
        row = curs.execute(query).fetchone()
        assert row is not None, "an aggregate always has one"
        if row["total"]:
            changed = row["total"] - row["added"] - row["gone"]
            examples = _examples(curs, table, first, second)
            found.append(Difference(table, row["added"], row["gone"], changed, examples))
    return found


def _examples(curs: Cursor[DictRow], table: str, first: Selection, second: Selection) -> list[str]:
    key, _ = _columns(curs, table)
    query = sql.SQL("SELECT old, new FROM {differing} ORDER BY {key} LIMIT {limit}").format(
        differing=_differing(curs, table, first, second), key=_list(key), limit=MAX_EXAMPLES
    )
    return [_say(key, row["old"], row["new"]) for row in curs.execute(query).fetchall()]


def _say(key: Sequence[str], old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """One row that differs, with the first of its columns that does."""
    row = old or new
    assert row is not None, "a row is in one of the two"
    where = ", ".join(f"{name} {row[name]}" for name in key)
    if old is None or new is None:
        return f"{where}: {'only in the rebuilt view' if old is None else 'only in the live view'}"
    column = next(name for name in old if old[name] != new[name])
    return f"{where}: {column} is {old[column]!r} live and {new[column]!r} rebuilt"


def _differing(
    curs: Cursor[DictRow], table: str, first: Selection, second: Selection
) -> sql.Composed:
    """The rows that differ, with their key, as JSON of the first (old) and the second (new)."""
    key, columns = _columns(curs, table)
    return sql.SQL(
        "(SELECT {key}, to_jsonb(old_row) - 'version' AS old, to_jsonb(new_row) - 'version' AS new"
        " FROM {first} AS old_row FULL JOIN {second} AS new_row USING ({key})"
        " WHERE (old_row.*) IS NULL OR (new_row.*) IS NULL"
        " OR ROW({old}) IS DISTINCT FROM ROW({new})) AS differing"
    ).format(
        key=_list(key),
        first=_rows(table, first),
        second=_rows(table, second),
        old=sql.SQL(", ").join(sql.Identifier("old_row", name) for name in columns),
        new=sql.SQL(", ").join(sql.Identifier("new_row", name) for name in columns),
    )


def _rows(table: str, selection: Selection) -> sql.Composed:
    conditions = [sql.SQL("version = {}").format(selection.version)]
    if selection.session_id is not None:
        conditions.append(sql.SQL("session_id = {}").format(selection.session_id))
    if selection.without:
        left_out = sql.SQL("session_id <> ALL({})").format(list(selection.without))
        conditions.append(left_out)
    return sql.SQL("(SELECT * FROM {table} WHERE {conditions})").format(
        table=sql.Identifier(table), conditions=sql.SQL(" AND ").join(conditions)
    )


def _columns(curs: Cursor[DictRow], table: str) -> tuple[list[str], list[str]]:
    """The columns of the primary key in their order, and all columns, without the version."""
    curs.execute(
        "SELECT attname AS name, array_position(indkey::int2[], attnum) AS place"
        " FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND indisprimary"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attname <> 'version' ORDER BY attname",
        (table,),
    )
    rows = curs.fetchall()
    key = sorted((row["place"], row["name"]) for row in rows if row["place"] is not None)
    return [name for _, name in key], [row["name"] for row in rows]


def _list(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
