"""Attempts at model requests, and what the run and each session spent, reserved and have in doubt: sums of attempts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
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


_KEYS: Final = {  # of attempts, and of landed changes
    By.ROLE: ("s.role", "s.role"),
    By.SEAT: ("s.seat", "c.seat"),
    By.TASK: ("a.task", "c.task"),
    By.MODEL: ("coalesce(nullif(a.resolved, ''), a.model)", "NULL"),
    By.DAY: ("substr(a.at, 1, 10)", "substr(c.ended, 1, 10)"),
    By.END: ("CASE WHEN s.end = '' THEN s.state ELSE s.end END", "NULL"),
    By.SESSION: ("a.session", "c.session"),
}


def costs(db: sqlite3.Connection, by: By) -> list[Cost]:
    """What was spent by `by`, dearest first. `landed` counts the landed changes of the same key."""
    key, change_key = _KEYS[by]
    joined = "LEFT JOIN session s ON s.id ="
    landed = f"SELECT {change_key}, count(*) FROM change c {joined} c.session WHERE c.state = 'landed' GROUP BY 1"
    changes = {name: count for name, count in db.execute(landed) if name is not None}
    sums = [f"total(amount) FILTER (WHERE a.state = '{state}')" for state in ("settled", "reserved", "in-doubt")]
    unpriced = "total(a.state IN ('settled', 'in-doubt') AND a.metered AND a.cost IS NULL AND a.reserved IS NULL)"
    kinds = [f"total(json_extract(nullif(a.usage, ''), '$.{field.name}'))" for field in fields(Usage)]
    wanted = ", ".join([key, "count(*)", *sums, unpriced, "total(NOT a.metered)", *kinds])
    found, sql = [], f"SELECT {wanted} FROM attempt a {joined} a.session GROUP BY 1 ORDER BY 3 DESC, 1"
    for name, *numbers in db.execute(sql):
        requests, settled, reserved, in_doubt, unknown, unmetered, *tokens = map(int, numbers)
        usage, count = Usage(*tokens), changes.get(name, 0)
        found.append(Cost(name or "", requests, settled, reserved, in_doubt, unknown, unmetered, usage, count))
    return found
