"""Records to rows and back: the one place that knows how a dataclass of `records.py` lies in a table.

A record's table has its name in small letters. Columns that only the table has are left alone.
"""

import dataclasses
import json
import sqlite3
import types
import typing
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from orchestrator import records
from orchestrator.store.store import Tx

R = TypeVar("R")

COLUMNS: Final = {"order": "priority", "commit": "commit_id", "case": "case_id"}  # SQL's own words, renamed


def _decoder(hint: Any) -> Callable[[Any], Any] | None:
    """What makes a field of its column; None where they are the same."""
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint  # `kind | None`
    if kind in (str, int, float):
        return None
    if kind is datetime:
        return datetime.fromisoformat
    return _names if typing.get_origin(kind) is tuple else kind


def _names(text: str) -> tuple[str, ...]:
    return () if text == "[]" else tuple(json.loads(text))


_FIELDS: Final[dict[Any, dict[str, Callable[[Any], Any] | None]]] = {
    kind: {name: _decoder(hint) for name, hint in typing.get_type_hints(kind).items()}
    for kind in vars(records).values()
    if dataclasses.is_dataclass(kind)
}


KEPT: Final = 20_000
_made: Final[dict[tuple[Any, Any], tuple[tuple[Any, ...], Any]]] = {}
"""Records by kind and first column, which is mostly the id, with the row that each was made of."""


def find(db: sqlite3.Connection, kind: type[R], clauses: str = "", *values: Any) -> list[R]:
    """Records of a kind; `clauses` is the SQL behind the table's name."""
    columns = ", ".join(COLUMNS.get(name, name) for name in _FIELDS[kind])
    rows = db.execute(f"SELECT {columns} FROM {kind.__name__.lower()} {clauses}", values)
    return [_record(kind, tuple(row)) for row in rows]


def _record(kind: type[R], row: tuple[Any, ...]) -> R:
    """The record of a row; the one that was made of an equal row before, if that was the last with its first column."""
    known = _made.get((kind, row[0]))
    if known is None or known[0] != row:
        decoders = _FIELDS[kind].values()
        made = [v if v is None or make is None else make(v) for v, make in zip(row, decoders, strict=True)]
        if len(_made) >= KEPT:
            _made.clear()
        known = _made[kind, row[0]] = (row, kind(*made))
    return known[1]


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
