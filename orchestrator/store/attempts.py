"""Attempts at model requests, and what the run and each session spent, reserved and have in doubt: sums of attempts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agents.models.base import Usage
from orchestrator.records import Attempt, AttemptState
from orchestrator.store import rows
from orchestrator.store.store import Tx

LATE: Final = 4  # requests back that are looked at
RUN: Final = ""  # the account of the whole run; every other is a session's


@dataclass(frozen=True)
class Account:
    """Micro-dollars. What is set aside or in doubt counts as spent (P6)."""

    settled: int = 0
    reserved: int = 0
    in_doubt: int = 0

    @property
    def spent(self) -> int:
        return self.settled + self.in_doubt

    @property
    def total(self) -> int:
        return self.spent + self.reserved


def account(db: sqlite3.Connection, scope: str = RUN) -> Account:
    """Adds up an index: 50 ms for half a million attempts, a week of sixteen busy seats."""
    where, values = ("", ()) if scope == RUN else ("WHERE session = ?", (scope,))
    sums = db.execute(f"SELECT state, sum(amount) FROM attempt {where} GROUP BY state", values)
    return Account(**{state.replace("-", "_"): amount for state, amount in sums if state != AttemptState.FREE})


def get(db: sqlite3.Connection, attempt: int) -> Attempt:
    return rows.get(db, Attempt, attempt)


def add(
    tx: Tx, session: str, turn: int, task: str, model: str, reserved: int | None, *, metered: bool, prefix: str
) -> Attempt:
    """Stores an attempt in state `reserved`, numbered within its turn."""
    number = rows.next_number(tx, "attempt", "WHERE session = ? AND turn = ?", session, turn)
    asked = {"session": session, "turn": turn, "number": number, "task": task, "model": model}
    state = {"state": AttemptState.RESERVED, "at": tx.now, "reserved": reserved, "metered": metered, "prefix": prefix}
    return get(tx.db, rows.put(tx, "attempt", epoch=tx.epoch, **asked, **state))


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
    if before.state is not AttemptState.RESERVED:
        raise KeyError(f"attempt {attempt} has already ended as {before.state}")
    text = "" if usage is None else json.dumps(vars(usage), sort_keys=True)
    rows.update(tx, "attempt", attempt, state=state, cost=cost, usage=text, resolved=resolved, failure=failure)
    return get(tx.db, attempt)


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
