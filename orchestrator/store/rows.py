"""Records to rows and back: the one place that knows how a dataclass of `records.py` lies in a table."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import types
import typing
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from orchestrator.store.store import Tx, iso, when

R = TypeVar("R")

COLUMNS: Final = {"order": "priority", "commit": "commit_id", "index": "number"}  # SQL's own words, renamed

_hints: dict[Any, dict[str, Any]] = {}  # of each record class, resolved once


def _fields(kind: Any) -> dict[str, Any]:
    if kind not in _hints:
        hints = typing.get_type_hints(kind)
        _hints[kind] = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return _hints[kind]


def record(kind: type[R], row: sqlite3.Row) -> R:
    """Makes a record of a row; columns that the record does not have are left alone."""
    return kind(**{name: _decode(hint, row[COLUMNS.get(name, name)]) for name, hint in _fields(kind).items()})


def insert(tx: Tx, table: str, item: Any, **extra: Any) -> None:
    """Inserts a record, with columns beside it that only the table has."""
    values = {COLUMNS.get(name, name): encode(getattr(item, name)) for name in _fields(type(item))} | extra
    marks = ", ".join("?" * len(values))
    tx.run(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())


def update(tx: Tx, table: str, key: str, **fields: Any) -> None:
    """Sets fields of the row whose `id` is `key`; raises `KeyError` when there is none."""
    names = [COLUMNS.get(name, name) for name in fields]
    assignments = ", ".join(f"{name} = ?" for name in names)
    values = [encode(value) for value in fields.values()]
    if tx.run(f"UPDATE {table} SET {assignments} WHERE id = ?", *values, key) != 1:
        raise KeyError(f"no {table} {key}")


def encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return json.dumps(value)
    return int(value) if isinstance(value, bool) else value


def _decode(hint: Any, value: Any) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = options[0]
    if kind is datetime:
        return when(value)
    if typing.get_origin(kind) is tuple:
        return tuple(json.loads(value))
    if isinstance(kind, type) and (issubclass(kind, StrEnum) or kind is bool):
        return kind(value)
    return value
