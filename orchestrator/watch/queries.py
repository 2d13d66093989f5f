"""What people ask of a run, answered by SQL in one snapshot of its state.

An answer is the very object that `--json` prints and that `render.py` puts into words. Fields that end in `_usd` or
`_usd_h` are micro-dollars, times are as they are stored, and what agents wrote has been made visible. Held-out results
are in none of them unless `reveal` is asked for.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from orchestrator.settings import Settings
from orchestrator.store.store import iso
from orchestrator.watch.text import visible

Answer = dict[str, Any]
By = Literal["role", "seat", "task", "model", "day"]
Show = Literal["open", "ready", "claimed", "all"]

LIVE: Final = ("running", "paused", "draining")

PRICE: Final = "CASE state WHEN 'settled' THEN coalesce(cost, reserved) WHEN 'in-doubt' THEN reserved END"
"""What a row of `attempt` counts for, in SQL: an attempt in doubt counts at its worst case (P6)."""

_AS_OF: Final = "SELECT max(at) FROM journal WHERE kind NOT IN ('revealed', 'condition-changed')"
_RUN: Final = """
    SELECT reason, created AS since, (SELECT max(at) FROM journal WHERE kind = 'judging') AS judging_since,
        (SELECT count(*) FROM session WHERE state <> 'ended') AS sessions_live FROM run"""
_WORKED: Final = """
    SELECT coalesce(sum(julianday(until) - julianday(since)) * 86400, 0) FROM (SELECT min(j.at) AS since,
        iif(:alive AND j.epoch = run.epoch, :at, max(j.at)) AS until FROM journal j, run GROUP BY j.epoch)"""
_COUNTS: Final = """
    SELECT counts FROM scorecard WHERE commit_id <> '' AND tier = 'full' AND void = ''
    ORDER BY at > :at, iif(at > :at, id, -id) LIMIT 1"""  # of main as it was then; the seed's before it was judged
_HELDOUT: Final = "SELECT counts FROM scorecard WHERE tier = 'heldout' AND void = '' ORDER BY id DESC LIMIT 1"
_MONEY: Final = f"""
    SELECT iif(max(metered), ifnull(sum(micro), 0), NULL) AS spent_usd,
        iif(max(metered), ifnull(sum(micro) FILTER (WHERE at > :hour), 0), NULL) AS burn_usd_h,
        ifnull(sum(micro) FILTER (WHERE state = 'in-doubt'), 0) AS in_doubt_usd,
        count(*) FILTER (WHERE state = 'in-doubt') AS in_doubt,
        ifnull(sum(reserved) FILTER (WHERE state = 'reserved'), 0) AS reserved_usd,
        count(*) FILTER (WHERE state = 'reserved') AS reserved,
        count(*) FILTER (WHERE metered AND micro IS NULL AND state IN ('settled', 'in-doubt')) AS unpriced
    FROM (SELECT *, {PRICE} AS micro FROM attempt)"""
SEATS: Final = """
    SELECT seat, ifnull(role, '') AS role, ifnull(task, '') AS task, ifnull(id, '') AS session,
        CASE ifnull(state, 'ended') WHEN 'ended' THEN 'idle' WHEN 'waiting' THEN 'waiting'
            ELSE iif(data ->> 'why' <> '', 'waiting', 'at work') END AS state,
        CASE state WHEN 'waiting' THEN 'a verdict' WHEN 'active' THEN ifnull(data ->> 'why', '')
            ELSE coalesce(data ->> 'reason', data ->> 'error', 'session ' || id || ' ended: ' || end, '') END AS why,
        iif(state = 'active', strftime('%Y-%m-%dT%H:%M:%S+00:00', at, (data ->> 'until') || ' seconds'), NULL) AS until
    FROM (SELECT DISTINCT seat FROM journal WHERE seat <> '')
        LEFT JOIN (SELECT *, max(number) FROM session GROUP BY seat) USING (seat)
        LEFT JOIN (SELECT seat, data, at, max(seq) FROM journal WHERE kind IN ('seat-idle', 'seat-crashed')
            OR kind = 'waiting' AND epoch = (SELECT epoch FROM run) GROUP BY seat) USING (seat)
        LEFT JOIN claim ON session = id ORDER BY seat"""
_ATTENTION: Final = """
    SELECT 'gate' AS id, 'the gate is paused: ' || reason AS text FROM (SELECT kind, data ->> 'reason' AS reason
        FROM journal WHERE kind IN ('gate-paused', 'judging', 'judged', 'run-resumed') ORDER BY seq DESC LIMIT 1)
        WHERE kind = 'gate-paused'
    UNION ALL SELECT seat, seat || ' crashed ' || count(*) || ' times in the last hour' FROM journal
        WHERE kind = 'seat-crashed' AND at > :hour GROUP BY seat
    UNION ALL SELECT * FROM (SELECT id, printf('%s bounced %d times, given back %d times (why %s)', id, bounces,
        releases, id) FROM task WHERE state IN ('ready', 'claimed') AND max(bounces, releases) > 1
        ORDER BY bounces + releases DESC, number LIMIT 3)
    UNION ALL SELECT '', value || ' is in ' || count(*) || ' open changes' FROM change, json_each(files)
        WHERE state NOT IN ('landed', 'bounced', 'withdrawn') GROUP BY value HAVING count(*) > 2"""
_TASKS: Final = """
    SELECT id, title, t.state, source, json_array_length(cases) AS cases, bounces, releases, since, reason,
        coalesce(session, '') AS session, (SELECT group_concat(value, ', ') FROM json_each(after)) AS after
    FROM task t LEFT JOIN claim ON claim.task = t.id
    WHERE :show IN ('all', t.state) OR :show = 'open' AND t.state IN ('claimed', 'ready')
    ORDER BY instr('claimed ready closed dropped', t.state), priority, number"""
_COST: Final = f"""
    SELECT coalesce(nullif(key, ''), 'none') AS key, iif(max(metered), ifnull(sum(micro), 0), NULL) AS spent_usd,
        1.0 * sum(micro) / sum(sum(micro)) OVER () AS share, sum(requests) AS requests, sum(landed) AS landed,
        iif(max(metered), sum(micro) / nullif(sum(landed), 0), NULL) AS per_landed_usd,
        1.0 * sum(cached) / nullif(sum(prompt), 0) AS cache_hit
    FROM (SELECT {{attempt}} AS key, metered, micro, 1 AS requests, 0 AS landed, used ->> 'cache_read' AS cached,
            (used ->> 'input') + (used ->> 'cache_read') + (used ->> 'cache_write_5m') + (used ->> 'cache_write_1h')
            AS prompt
        FROM (SELECT *, {PRICE} AS micro, nullif(usage, '') AS used FROM attempt) a
            LEFT JOIN session s ON s.id = a.session
        UNION ALL SELECT {{change}}, NULL, NULL, 0, 1, NULL, NULL
        FROM change c JOIN session s ON s.id = c.session WHERE c.state = 'landed'
        UNION ALL SELECT 'total', NULL, NULL, 0, 0, NULL, NULL WHERE :by = 'total')
    GROUP BY 1 ORDER BY spent_usd DESC, key"""
_KEYS: Final = {
    "role": ("s.role", "s.role"),
    "seat": ("s.seat", "s.seat"),
    "task": ("a.task", "c.task"),
    "model": ("coalesce(nullif(a.resolved, ''), a.model)", "s.model"),
    "day": ("substr(a.at, 1, 10)", "substr(c.ended, 1, 10)"),
    "total": ("'total'", "'total'"),
}
_WASTE: Final = f"""
    SELECT ifnull(sum(micro) FILTER (WHERE bounced), 0) AS bounced_usd,
        ifnull(sum(micro) FILTER (WHERE NOT bounced), 0) AS given_up_usd
    FROM (SELECT session, {PRICE} AS micro FROM attempt) JOIN (SELECT id,
            EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'bounced') AS bounced
        FROM session s WHERE state = 'ended'
            AND NOT EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'landed')) ON id = session"""
_HOURS: Final = """
    SELECT round(ifnull(sum(data ->> 'seconds'), 0) * (SELECT settings ->> 'judge_cores' FROM run) / 3600, 2) AS gate,
        (SELECT round(total(seconds) / 3600, 2) FROM call WHERE name IN ('shell', 'wait')) AS seats
    FROM journal WHERE kind = 'judged'"""


def rows(db: sqlite3.Connection, sql: str, **values: object) -> list[Answer]:
    """The rows of a query by column, every text in them safe to show."""
    return [
        {name: visible(value) if isinstance(value, str) else value for name, value in zip(row.keys(), row, strict=True)}
        for row in db.execute(sql, values)
    ]


def frame(db: sqlite3.Connection, alive: bool, now: datetime) -> Answer:
    """How every answer begins. A run is `dead` when by its stored state a process works on it and none does; without a
    process it is as of when it last did anything."""
    name, state, last = db.execute(f"SELECT name, state, ({_AS_OF}) FROM run").fetchone()
    dead = state in LIVE and not alive
    return {"run": name, "state": "dead" if dead else state, "as_of": last if last and not alive else iso(now)}


def settings_of(db: sqlite3.Connection) -> Settings:
    return Settings.model_validate_json(db.execute("SELECT settings FROM run").fetchone()["settings"])


def status(db: sqlite3.Connection, begin: Answer, *, reveal: bool = False) -> Answer:
    """Healthy, progressing, at what cost, stuck on what. `heldout` is None unless it is revealed."""
    state, at, settings = begin["state"], begin["as_of"], settings_of(db)
    hour = iso(datetime.fromisoformat(at) - timedelta(hours=1))
    (run,), (money,) = rows(db, _RUN), rows(db, _MONEY, hour=hour)
    attention = rows(db, _ATTENTION, hour=hour)
    paused = any(one["id"] == "gate" for one in attention)
    before, suites = _counts(db, _COUNTS, hour), _counts(db, _COUNTS, at)
    for name, suite in suites.items():
        suite["delta_1h"] = suite["passed"] - before.get(name, {"passed": 0})["passed"]
    return {
        **begin,
        **run,
        **money,
        "healthy": state != "dead" and not paused and not run["reason"].startswith("fault"),
        "agents": settings.agents,
        "budget_usd": settings.budget,
        "elapsed_s": round(db.execute(_WORKED, {"alive": state in LIVE, "at": at}).fetchone()[0]),
        "suites": suites,
        "heldout": _counts(db, _HELDOUT, at) if reveal else None,
        "seats": rows(db, SEATS),
        "queue": {row["state"]: row["n"] for row in rows(db, "SELECT state, count(*) AS n FROM change GROUP BY state")},
        "attention": attention,
    }


def _counts(db: sqlite3.Connection, sql: str, at: str) -> dict[str, Answer]:
    row = db.execute(sql, {"at": at}).fetchone()
    counts = json.loads(row["counts"]) if row else {}
    return {visible(suite): {"passed": passed, "total": total} for suite, (passed, total) in counts.items()}


def tasks(db: sqlite3.Connection, show: Show = "all") -> list[Answer]:
    """The board: what is worked on, then what is ready, best first, then the rest."""
    return rows(db, _TASKS, show=show)


def cost(db: sqlite3.Connection, by: By) -> Answer:
    """Where the money went, and what of it came to nothing: to ended sessions that landed no change."""
    (money,), (waste,), (hours,) = rows(db, _MONEY, hour=""), rows(db, _WASTE), rows(db, _HOURS)
    return {
        "by": by,
        "rows": _costs(db, by),
        "total": _costs(db, "total")[0],
        "waste": waste,
        "in_doubt": {"requests": money["in_doubt"], "reserved_usd": money["in_doubt_usd"]},
        "unpriced": money["unpriced"],
        "core_hours": hours,
    }


def _costs(db: sqlite3.Connection, by: str) -> list[Answer]:
    attempt, change = _KEYS[by]
    return rows(db, _COST.format(attempt=attempt, change=change), by=by)
