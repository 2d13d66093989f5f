"""Where the money went: by role, seat, task, model or day, and what of it came to nothing."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.watch.journal import entries
from orchestrator.watch.queries import PRICE, as_of, settings_of, spending_of
from orchestrator.watch.text import visible


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


KEYS: Final = {
    "role": ("s.role", "s.role"),
    "seat": ("s.seat", "s.seat"),
    "task": ("a.task", "c.task"),
    "model": ("a.model", "s.model"),
    "day": ("substr(a.at, 1, 10)", "substr(c.ended, 1, 10)"),
}
"""How attempts and landed changes are grouped for `cost --by`."""
REQUESTS: Final = f"""SELECT {{key}} AS key, sum({PRICE}) AS micro, count(*) AS requests,
    sum(json_extract(nullif(usage, ''), '$.cache_read')) AS cached, sum(json_extract(nullif(usage, ''), '$.input')
      + json_extract(usage, '$.cache_write_5m') + json_extract(usage, '$.cache_write_1h')) AS fresh
    FROM attempt a LEFT JOIN (SELECT id AS sid, role, seat FROM session) s ON s.sid = a.session"""


def cost(db: sqlite3.Connection, alive: bool, now: datetime, by: str = "role") -> Cost:
    at = as_of(db, alive, now)
    spending, (key, key_of_change) = spending_of(db, at), KEYS[by]
    sql = f"SELECT {key_of_change} AS key, count(*) AS n FROM change c JOIN session s ON s.id = c.session"
    landed = Counter({row["key"] or "": row["n"] for row in db.execute(f"{sql} WHERE c.state = 'landed' GROUP BY 1")})
    found = {row["key"] or "": row for row in db.execute(REQUESTS.format(key=key) + " GROUP BY 1")}
    whole = db.execute(REQUESTS.format(key="''")).fetchone()
    rows = [_row(name or "none", found.get(name), landed[name], spending.spent_usd) for name in {*found, *landed}]
    return Cost(
        run=settings_of(db).name,
        as_of=at,
        by=by,
        metered=spending.metered,
        rows=tuple(sorted(rows, key=lambda row: (-(row.spent_usd or 0), row.key))),
        total=_row("total", whole, landed.total(), spending.spent_usd),
        unpriced=spending.unpriced,
        waste=_waste(db),
        in_doubt=InDoubt(spending.in_doubt, spending.in_doubt_usd),
        core_hours=_core_hours(db),
    )


def _row(key: str, row: sqlite3.Row | None, landed: int, whole: int | None) -> CostRow:
    micro = row["micro"] if row else None
    prompt = (row["cached"] or 0) + (row["fresh"] or 0) if row else 0
    return CostRow(
        key=visible(key),
        spent_usd=micro,
        share=micro / whole if whole and micro is not None else None,
        requests=row["requests"] if row else 0,
        landed=landed,
        per_landed_usd=micro // landed if landed and micro is not None else None,
        cache_hit=(row["cached"] or 0) / prompt if row and prompt else None,
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
