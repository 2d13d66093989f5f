"""Where the money went: by role, seat, task, model or day, and what of it came to nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from agents.models.base import Usage
from orchestrator.store import attempts
from orchestrator.store.attempts import By
from orchestrator.watch.journal import entries
from orchestrator.watch.queries import PRICE, as_of, queue_of, settings_of, spending_of
from orchestrator.watch.text import visible

SUMMED: Final = ("requests", "settled", "reserved", "in_doubt", "unpriced", "unmetered")


@dataclass(frozen=True)
class CostRow:
    key: str
    spent_usd: int | None
    share: float | None
    requests: int
    landed: int
    per_landed_usd: int | None
    cache_hit: float | None


@dataclass(frozen=True)
class Waste:
    """Money of ended sessions that landed nothing: because their change bounced, or because they gave up."""

    bounced_usd: int
    given_up_usd: int


@dataclass(frozen=True)
class InDoubt:
    requests: int
    reserved_usd: int


@dataclass(frozen=True)
class Cost:
    run: str
    as_of: datetime
    by: str
    metered: bool
    rows: tuple[CostRow, ...]
    total: CostRow
    unpriced: int
    waste: Waste
    in_doubt: InDoubt
    core_hours: dict[str, float]


def cost(db: sqlite3.Connection, alive: bool, now: datetime, by: By = By.ROLE) -> Cost:
    at = as_of(db, alive, now)
    spending, found = spending_of(db, at), attempts.costs(db, by)
    rows = [_row(one, spending.spent_usd) for one in found]
    tokens = {field.name: sum(getattr(one.usage, field.name) for one in found) for field in fields(Usage)}
    sums = {name: sum(getattr(one, name) for one in found) for name in SUMMED}
    whole = attempts.Cost("total", usage=Usage(**tokens), landed=queue_of(db).landed, **sums)
    return Cost(
        run=settings_of(db).name,
        as_of=at,
        by=by.value,
        metered=spending.metered,
        rows=tuple(sorted(rows, key=lambda row: (-(row.spent_usd or 0), row.key))),
        total=_row(whole, spending.spent_usd),
        unpriced=spending.unpriced,
        waste=_waste(db),
        in_doubt=InDoubt(spending.in_doubt, spending.in_doubt_usd),
        core_hours=_core_hours(db),
    )


def _row(one: attempts.Cost, whole: int | None) -> CostRow:
    micro = one.settled + one.in_doubt if one.requests > one.unmetered + one.unpriced else None
    prompt = one.usage.input + one.usage.cache_read + one.usage.cache_write_5m + one.usage.cache_write_1h
    return CostRow(
        key=visible(one.key or "none"),
        spent_usd=micro,
        share=micro / whole if whole and micro is not None else None,
        requests=one.requests,
        landed=one.landed,
        per_landed_usd=micro // one.landed if one.landed and micro is not None else None,
        cache_hit=one.usage.cache_read / prompt if prompt else None,
    )


def _waste(db: sqlite3.Connection) -> Waste:
    sql = f"""SELECT sum({PRICE}) AS micro, bounced FROM attempt a JOIN (SELECT id AS sid,
            EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'bounced') AS bounced FROM session s
            WHERE s.state = 'ended' AND NOT EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'landed'))
        ON sid = a.session GROUP BY bounced"""
    sums = {row["bounced"]: row["micro"] or 0 for row in db.execute(sql)}
    return Waste(sums.get(1, 0), sums.get(0, 0))


def _core_hours(db: sqlite3.Connection) -> dict[str, float]:
    """Wall hours of judging times the cores of the gate, and wall hours of the seats' commands."""
    gate = sum(float(entry.data["seconds"] or 0) for entry in entries(db, kinds=["judged"]))
    seats = db.execute("SELECT total(seconds) AS s FROM call WHERE name IN ('shell', 'wait')").fetchone()
    return {"gate": round(gate * settings_of(db).judge_cores / 3600, 2), "seats": round(seats["s"] / 3600, 2)}
