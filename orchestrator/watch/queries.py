"""What people ask of a run, answered by SQL in one snapshot of its state.

An answer is the very object that `--json` prints and that `render.py` puts into words. Fields that end in `_usd` or
`_usd_h` are micro-dollars, times are as they are stored, and what agents wrote has been made visible. Held-out results
are in none of them unless `reveal` is asked for.
"""

import re
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from orchestrator.store import changes
from orchestrator.store.store import iso
from orchestrator.watch.render import Answer, visible
from verifiers.scorecard import Tier

By = Literal["role", "seat", "task", "model", "day"]
Show = Literal["open", "ready", "claimed", "all"]

DIVERGED: Final = "recording diverged: "  # begins the reason for which such a replay has ended
LIVE: Final = ("running", "paused", "draining")

PRICE: Final = "CASE state WHEN 'settled' THEN coalesce(cost, reserved) WHEN 'in-doubt' THEN reserved END"
"""What a row of `attempt` counts for, in SQL: an attempt in doubt counts at its worst case (P6)."""
_FILE: Final = Path(__file__).with_name("queries.sql").read_text(encoding="utf-8").replace("{PRICE}", PRICE)
SQL: Final = dict(re.findall(r"^--: (\w+)\n(.*?)(?=^--: |\Z)", _FILE, re.MULTILINE | re.DOTALL))
"""The queries of queries.sql by name."""


def rows(db: sqlite3.Connection, sql: str, **values: object) -> list[Answer]:
    """The rows of a query by column, every text in them safe to show."""
    return [
        {name: visible(value) if isinstance(value, str) else value for name, value in zip(row.keys(), row, strict=True)}
        for row in db.execute(sql, values)
    ]


def frame(db: sqlite3.Connection, alive: bool, now: datetime) -> Answer:
    """How every answer begins. A run is `dead` when by its stored state a process works on it and none does; without a
    process it is as of when it last did anything."""
    ((name, state, last),) = db.execute(f"SELECT name, state, ({SQL['as_of']}) FROM run")
    dead = state in LIVE and not alive
    return {"run": name, "state": "dead" if dead else state, "as_of": last if last and not alive else iso(now)}


def status(db: sqlite3.Connection, begin: Answer, *, reveal: bool = False) -> Answer:
    """Healthy, progressing, at what cost, stuck on what. `heldout` is None unless it is revealed."""
    state, at = begin["state"], begin["as_of"]
    hour = iso(datetime.fromisoformat(at) - timedelta(hours=1))
    (run,), (money,) = rows(db, SQL["run"], alive=state in LIVE, at=at), rows(db, SQL["money"], hour=hour)
    attention = rows(db, SQL["attention"], hour=hour)
    paused = any(one["id"] == "gate" for one in attention)
    return {
        **run,
        **money,
        "healthy": state != "dead" and not paused and not (run["reason"] or "").startswith(DIVERGED),
        "suites": _counted(db, _by_suite(rows(db, SQL["suites"], at=at, hour=hour))),
        "heldout": _by_suite(rows(db, SQL["heldout"])) if reveal else None,
        "seats": rows(db, SQL["seats"]),
        "queue": {row["state"]: row["n"] for row in rows(db, "SELECT state, count(*) AS n FROM change GROUP BY state")},
        "attention": attention + rows(db, SQL["hot_files"]),
        "excused": rows(db, SQL["excused"], at=at),
        "divergences": rows(db, SQL["divergences"])[0]["n"],
    }


def _counted(db: sqlite3.Connection, suites: dict[str, Answer]) -> dict[str, Answer]:
    """The suites with what is flaky in each, and without that among what passes."""
    flaky = {case for (case,) in db.execute("SELECT case_id FROM excuse WHERE kind = 'flaky' AND ended IS NULL")}
    card = changes.newest_card(db, Tier.FULL) if flaky else None
    sure = card.counts(flaky) if card else {}
    for name, suite in suites.items():
        suite["passed"] = sure.get(name, [suite["passed"]])[0]
        suite["flaky"] = sum(case.startswith(f"{name}/") for case in flaky)
    return suites


def _by_suite(found: list[Answer]) -> dict[str, Answer]:
    return {row.pop("suite"): row for row in found}


def cost(db: sqlite3.Connection, by: By) -> Answer:
    """Where the money went, and what of it came to nothing: to ended sessions that landed no change."""
    (money,), (waste,), (hours,) = rows(db, SQL["money"], hour=""), rows(db, SQL["waste"]), rows(db, SQL["hours"])
    key = f"ifnull(nullif({by}, ''), 'none')"
    (total,) = rows(db, SQL["cost"].format(by=by, key="'total'", group=""))
    total["spent_usd"] = money["spent_usd"]
    return {
        "by": by,
        "rows": rows(db, SQL["cost"].format(by=by, key=key, group="GROUP BY 1")),
        "total": total,
        "waste": waste,
        "in_doubt": {"requests": money["in_doubt"], "reserved_usd": money["in_doubt_usd"]},
        "unpriced": money["unpriced"],
        "core_hours": hours,
    }
