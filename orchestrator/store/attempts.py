"""Attempts at model requests, and accounts: what the run and each session spent, reserved and have in doubt.

An account is the sum of its attempts, kept in step in the same transaction, so that no reservation adds up a week.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agents.models.base import Usage
from orchestrator.records import Attempt, AttemptState
from orchestrator.store.rows import record
from orchestrator.store.store import Tx, iso

LATE: Final = 4  # requests back that are looked at
RUN: Final = ""  # the account of the whole run; every other is a session's

_COLUMN: Final = {
    AttemptState.RESERVED: "reserved",
    AttemptState.SETTLED: "settled",
    AttemptState.IN_DOUBT: "in_doubt",
}


@dataclass(frozen=True)
class Account:
    """Micro-dollars. What is set aside or in doubt counts as spent (P6)."""

    settled: int = 0
    reserved: int = 0
    in_doubt: int = 0

    @property
    def total(self) -> int:
        return self.settled + self.reserved + self.in_doubt


@dataclass(frozen=True)
class Cost:
    """One line of `cost`. Money in micro-dollars; `unpriced` counts settled requests whose price is not known."""

    key: str
    requests: int
    settled: int
    reserved: int
    in_doubt: int
    unpriced: int
    unmetered: int
    usage: Usage
    landed: int


class By(StrEnum):
    ROLE = "role"
    SEAT = "seat"
    TASK = "task"
    MODEL = "model"
    DAY = "day"
    END = "end"  # how the session ended: landed, released, …
    SESSION = "session"


def account(db: sqlite3.Connection, scope: str = RUN) -> Account:
    row = db.execute("SELECT settled, reserved, in_doubt FROM account WHERE scope = ?", (scope,)).fetchone()
    return Account(*row) if row else Account()


def get(db: sqlite3.Connection, attempt: int) -> Attempt:
    row = db.execute("SELECT * FROM attempt WHERE id = ?", (attempt,)).fetchone()
    if row is None:
        raise KeyError(f"no attempt {attempt}")
    return record(Attempt, row)


def add(
    tx: Tx, session: str, turn: int, task: str, model: str, reserved: int | None, *, metered: bool, prefix: str
) -> Attempt:
    """Stores an attempt in state `reserved`, numbered within its turn."""
    sql = (
        "INSERT INTO attempt (epoch, session, turn, number, task, model, state, at, reserved, metered, prefix)"
        " SELECT ?, ?, ?, count(*) + 1, ?, ?, 'reserved', ?, ?, ?, ? FROM attempt WHERE session = ? AND turn = ?"
    )
    row = (tx.epoch, session, turn, task, model, iso(tx.now), reserved, int(metered), prefix, session, turn)
    made = tx.db.execute(sql, row).lastrowid
    assert made is not None
    _book(tx, session, AttemptState.RESERVED, reserved or 0)
    return get(tx.db, made)


def end(
    tx: Tx,
    attempt: int,
    state: AttemptState,
    *,
    cost: int | None = None,
    usage: Usage | None = None,
    resolved: str = "",
    failure: str = "",
) -> Attempt:
    """Ends a reserved attempt, once: a second end raises `KeyError`."""
    before = get(tx.db, attempt)
    text = "" if usage is None else json.dumps(vars(usage), sort_keys=True)
    if before.state is not AttemptState.RESERVED:
        raise KeyError(f"attempt {attempt} has already ended as {before.state}")
    sql = "UPDATE attempt SET state = ?, cost = ?, usage = ?, resolved = ?, failure = ? WHERE id = ?"
    tx.run(sql, state.value, cost, text, resolved, failure, attempt)
    reserved = before.reserved or 0
    _book(tx, before.session, AttemptState.RESERVED, -reserved)
    if state is not AttemptState.FREE:
        _book(tx, before.session, state, cost if cost is not None else reserved)
    return get(tx.db, attempt)


def _book(tx: Tx, session: str, state: AttemptState, amount: int) -> None:
    column = _COLUMN[state]
    for scope in (RUN, session):
        tx.run(
            f"INSERT INTO account (scope, {column}) VALUES (?, ?)"
            f" ON CONFLICT (scope) DO UPDATE SET {column} = {column} + excluded.{column}",
            scope,
            amount,
        )


def left_reserved(db: sqlite3.Connection, epoch: int) -> list[int]:
    """Attempts that a process of an earlier epoch had in flight."""
    rows = db.execute("SELECT id FROM attempt WHERE state = 'reserved' AND epoch < ? ORDER BY id", (epoch,))
    return [row["id"] for row in rows]


def counted(db: sqlite3.Connection, session: str, model: str, after: Mapping[str, int]) -> int | None:
    """The input tokens that the vendor counted for a request that this one begins with, and a token a byte since.

    `after` gives the bytes after each of this request's beginnings, by their digests. None when no late request fits.
    """
    sql = "SELECT prefix, usage FROM attempt WHERE session = ? AND model = ? AND state = 'settled'"
    for row in db.execute(f"{sql} ORDER BY id DESC LIMIT {LATE}", (session, model)):
        if row["prefix"] in after:
            usage = Usage(**json.loads(row["usage"]))
            seen = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
            return seen + after[row["prefix"]]
    return None


_KEY: Final = {
    By.ROLE: "s.role",
    By.SEAT: "s.seat",
    By.TASK: "a.task",
    By.MODEL: "coalesce(nullif(a.resolved, ''), a.model)",
    By.DAY: "substr(a.at, 1, 10)",
    By.END: "CASE WHEN s.end = '' THEN s.state ELSE s.end END",
    By.SESSION: "a.session",
}

_TOKENS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")


def costs(db: sqlite3.Connection, by: By) -> list[Cost]:
    """What was spent by `by`, dearest first. `landed` counts the landed changes of the same key."""
    landed = {row[0]: row[1] for row in db.execute(_LANDED[by])} if by in _LANDED else {}
    tokens = ", ".join(f"sum(coalesce(json_extract(nullif(a.usage, ''), '$.{name}'), 0))" for name in _TOKENS)
    sql = f"""
        SELECT {_KEY[by]}, count(*),
            sum(CASE WHEN a.state = 'settled' THEN coalesce(a.cost, a.reserved, 0) ELSE 0 END),
            sum(CASE WHEN a.state = 'reserved' THEN coalesce(a.reserved, 0) ELSE 0 END),
            sum(CASE WHEN a.state = 'in-doubt' THEN coalesce(a.reserved, 0) ELSE 0 END),
            sum(a.state IN ('settled', 'in-doubt') AND a.metered AND a.cost IS NULL AND a.reserved IS NULL),
            sum(NOT a.metered), {tokens}
        FROM attempt a LEFT JOIN session s ON s.id = a.session GROUP BY 1 ORDER BY 3 DESC, 1"""
    found = []
    for key, requests, settled, reserved, in_doubt, unpriced, unmetered, *counts in db.execute(sql):
        usage, changes = Usage(*counts), landed.get(key, 0)
        found.append(Cost(key or "", requests, settled, reserved, in_doubt, unpriced, unmetered, usage, changes))
    return found


_LANDED: Final = {
    by: f"SELECT {key}, count(*) FROM change c JOIN session s ON s.id = c.session WHERE c.state = 'landed' GROUP BY 1"
    for by, key in {
        By.ROLE: "s.role",
        By.SEAT: "c.seat",
        By.TASK: "c.task",
        By.SESSION: "c.session",
        By.DAY: "substr(c.ended, 1, 10)",
    }.items()
}
