"""Records to rows and back: the one place that knows how a dataclass of `records.py` lies in a table.

A record's table has its name in small letters. Columns that only the table has are left alone.
"""

import dataclasses
import json
import sqlite3
import types
import typing
from datetime import datetime
from typing import Any, Final, TypeVar

from orchestrator import records
from orchestrator.store.store import Tx

R = TypeVar("R")

COLUMNS: Final = {"order": "priority", "commit": "commit_id", "case": "case_id"}  # SQL's own words, renamed

_FIELDS: Final[dict[Any, dict[str, Any]]] = {
    kind: typing.get_type_hints(kind) for kind in vars(records).values() if dataclasses.is_dataclass(kind)
}


def find(db: sqlite3.Connection, kind: type[R], clauses: str = "", *values: Any) -> list[R]:
    """Records of a kind; `clauses` is the SQL behind the table's name."""
    return [
        kind(**{name: _decode(hint, row[COLUMNS.get(name, name)]) for name, hint in _FIELDS[kind].items()})
        for row in db.execute(f"SELECT * FROM {kind.__name__.lower()} {clauses}", values)
    ]


def first(db: sqlite3.Connection, kind: type[R], clauses: str, *values: Any) -> R | None:
    return next(iter(find(db, kind, f"{clauses} LIMIT 1", *values)), None)


def get(db: sqlite3.Connection, kind: type[R], id: str | int) -> R:
    """Raises `KeyError` when there is none."""
    found = first(db, kind, "WHERE id = ?", id)
    if found is None:
        raise KeyError(f"no {kind.__name__.lower()} {id}")
    return found


def insert(tx: Tx, item: Any, **extra: Any) -> int:
    """Inserts a record, with columns beside it that only the table has."""
    return put(tx, type(item).__name__.lower(), **{name: getattr(item, name) for name in _FIELDS[type(item)]}, **extra)


def put(tx: Tx, table: str, **columns: Any) -> int:
    """Inserts one row and returns its number."""
    names, marks = ", ".join(COLUMNS.get(name, name) for name in columns), ", ".join("?" * len(columns))
    done = tx.db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(columns.values()))
    return done.lastrowid or 0


def update(tx: Tx, table: str, key: str | int, **fields: Any) -> None:
    """Sets fields of the row whose `id` is `key`; raises `KeyError` when there is none."""
    assignments = ", ".join(f"{COLUMNS.get(name, name)} = ?" for name in fields)
    if tx.run(f"UPDATE {table} SET {assignments} WHERE id = ?", *fields.values(), key) != 1:
        raise KeyError(f"no {table} {key}")


def next_number(tx: Tx, table: str, clauses: str = "", *values: Any) -> int:
    row = tx.one(f"SELECT coalesce(max(number), 0) + 1 AS next FROM {table} {clauses}", *values)
    return int(row["next"]) if row else 1


def _decode(hint: Any, value: Any) -> Any:
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint  # `kind | None`
    if value is None:
        return None
    if kind is datetime:
        return datetime.fromisoformat(value)
    return tuple(json.loads(value)) if typing.get_origin(kind) is tuple else kind(value)
