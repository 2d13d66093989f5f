"""Where the money went: by role, seat, task, model or day, and what of it came to nothing."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from orchestrator.watch.journal import entries
from orchestrator.watch.queries import as_of, settings_of, spending_of
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
    "model": ("coalesce(nullif(a.resolved, ''), a.model)", "s.model"),
    "day": ("substr(a.at, 1, 10)", "substr(c.ended, 1, 10)"),
}
"""How attempts and landed changes are grouped for `cost --by`."""


def cost(db: sqlite3.Connection, alive: bool, now: datetime, by: str = "role") -> Cost:
    at = as_of(db, alive, now)
    spending, key = spending_of(db, at), KEYS[by]
    tally: dict[str, _Tally] = {}
    for row in db.execute(f"SELECT {key[0]} AS key, a.* FROM attempt a LEFT JOIN session s ON s.id = a.session"):
        tally.setdefault(visible(row["key"] or "none"), _Tally()).count(row)
    sql = f"SELECT {key[1]} AS key, count(*) AS n FROM change c JOIN session s ON s.id = c.session"
    for row in db.execute(sql + " WHERE c.state = 'landed' GROUP BY 1"):
        tally.setdefault(visible(row["key"] or "none"), _Tally()).landed += row["n"]
    whole = _Tally()
    for one in tally.values():
        whole.add(one)
    rows = sorted(
        (one.row(name, whole.micro) for name, one in tally.items()), key=lambda r: (-(r.spent_usd or 0), r.key)
    )
    return Cost(
        settings_of(db).name, at, by, spending.metered, tuple(rows), whole.row("total", whole.micro), spending.unpriced,
        _waste(db), InDoubt(spending.in_doubt, spending.in_doubt_usd), _core_hours(db),
    )  # fmt: skip


@dataclass
class _Tally:
    micro: int = 0
    priced: bool = False
    requests: int = 0
    landed: int = 0
    tokens: Counter[str] = field(default_factory=Counter)

    def count(self, row: sqlite3.Row) -> None:
        price = row["reserved"] if row["state"] == "in-doubt" else row["cost"]
        if row["state"] in ("settled", "in-doubt") and price is not None:
            self.micro, self.priced = self.micro + price, True
        self.requests += 1
        if row["usage"]:
            self.tokens.update({name: n for name, n in json.loads(row["usage"]).items() if isinstance(n, int)})

    def add(self, other: _Tally) -> None:
        self.micro, self.priced = self.micro + other.micro, self.priced or other.priced
        self.requests, self.landed = self.requests + other.requests, self.landed + other.landed
        self.tokens.update(other.tokens)

    def row(self, key: str, whole: int) -> CostRow:
        spent = self.micro if self.priced else None
        share = self.micro / whole if whole and self.priced else None
        each = self.micro // self.landed if self.landed and self.priced else None
        read = self.tokens["cache_read"]
        prompt = read + self.tokens["input"] + self.tokens["cache_write_5m"] + self.tokens["cache_write_1h"]
        return CostRow(key, spent, share, self.requests, self.landed, each, read / prompt if prompt else None)


def _waste(db: sqlite3.Connection) -> Waste:
    sql = (
        "SELECT sum(CASE WHEN a.state = 'in-doubt' THEN a.reserved ELSE a.cost END) AS micro,"
        " EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'bounced') AS bounced"
        " FROM session s JOIN attempt a ON a.session = s.id WHERE s.state = 'ended'"
        " AND NOT EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'landed') GROUP BY s.id"
    )
    sums = Counter[bool]()
    for row in db.execute(sql):
        sums[bool(row["bounced"])] += row["micro"] or 0
    return Waste(sums[True], sums[False])


def _core_hours(db: sqlite3.Connection) -> dict[str, float]:
    """Wall hours of judging times the cores of the gate, and wall hours of the seats' commands."""
    gate = sum(float(entry.data["seconds"] or 0) for entry in entries(db, kinds=["judged"]))
    seats = db.execute("SELECT coalesce(sum(seconds), 0) AS s FROM call WHERE name IN ('shell', 'wait')").fetchone()[
        "s"
    ]
    return {"gate": round(gate * settings_of(db).judge_cores / 3600, 2), "seats": round(seats / 3600, 2)}
