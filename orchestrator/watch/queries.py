"""One result for each question people ask of a run, computed from its stored state.

Every function takes a read-only connection in one snapshot and gives back frozen data for `render.py` and `encode.py`.
Fields ending in `_usd` are micro-dollars. Held-out results are in none of them unless `reveal` is asked for.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from orchestrator.records import Claim, Task, TaskState
from orchestrator.settings import Settings
from orchestrator.store import attempts, changes
from orchestrator.store.rows import record
from orchestrator.store.store import iso, when
from orchestrator.watch.journal import Entry, Line, Narrator, entries
from orchestrator.watch.text import money, percent, plural, visible

LIVE_STATES: Final = frozenset({"running", "paused", "draining"})
BOARD: Final = (TaskState.CLAIMED, TaskState.READY, TaskState.CLOSED, TaskState.DROPPED)
CROWDED: Final = 3  # open changes in one file that are worth a look


@dataclass(frozen=True)
class Passing:
    passed: int
    total: int
    delta_1h: int | None = None


@dataclass(frozen=True)
class Spending:
    """Money so far. `metered` is False when no request has a price; in doubt counts as spent (P6)."""

    metered: bool
    spent_usd: int | None
    in_doubt_usd: int
    in_doubt: int
    reserved_usd: int
    reserved: int
    unpriced: int
    last_hour_usd: int


@dataclass(frozen=True)
class SeatNow:
    seat: str
    role: str
    state: str  # works, waits, idle
    why: str = ""
    until: datetime | None = None
    task: str = ""
    session: str = ""


@dataclass(frozen=True)
class Queue:
    queued: int = 0
    parked: int = 0
    staged: int = 0
    judging: int = 0
    judging_since: datetime | None = None
    landed: int = 0
    bounced: int = 0
    withdrawn: int = 0


@dataclass(frozen=True)
class Attention:
    id: str
    text: str


@dataclass(frozen=True)
class Status:
    run: str
    as_of: datetime
    project: str
    agents: int
    models: dict[str, str]
    state: str  # a RunState, or `dead`: its process is gone and nobody asked it to stop
    healthy: bool
    reason: str
    since: datetime
    elapsed_s: float
    suites: dict[str, Passing]
    heldout: dict[str, Passing] | None
    spent_usd: int | None
    budget_usd: int | None
    burn_usd_h: int | None
    spending: Spending
    hours_limit: float | None
    seats: tuple[SeatNow, ...]
    queue: Queue
    sessions_live: int
    attention: tuple[Attention, ...]


def settings_of(db: sqlite3.Connection) -> Settings:
    return Settings.model_validate_json(db.execute("SELECT settings FROM run").fetchone()["settings"])


def state_of(db: sqlite3.Connection, alive: bool) -> str:
    """The stored state, or `dead` when it says that a process works on the run and none does."""
    state = str(db.execute("SELECT state FROM run").fetchone()["state"])
    return "dead" if state in LIVE_STATES and not alive else state


def as_of(db: sqlite3.Connection, alive: bool, now: datetime) -> datetime:
    """Now for a live run; for another the moment it last did anything."""
    people = "('revealed', 'condition-changed')"
    row = db.execute(f"SELECT at FROM journal WHERE kind NOT IN {people} ORDER BY seq DESC LIMIT 1").fetchone()
    return now if alive or row is None else when(row["at"])


def elapsed_s(db: sqlite3.Connection, at: datetime) -> float:
    """Seconds in which a process worked on the run, by the journal: epochs end with their last entry."""
    spans = db.execute("SELECT min(at) AS first, max(at) AS last FROM journal WHERE at <= ? GROUP BY epoch", (iso(at),))
    ends = [(when(row["first"]), when(row["last"])) for row in spans]
    worked = sum((last - first).total_seconds() for first, last in ends)
    return worked + (at - ends[-1][1]).total_seconds() if ends else 0.0


def counts_at(db: sqlite3.Connection, at: datetime) -> dict[str, tuple[int, int]]:
    """Passed and total of each suite on main as it was at a time; the seed's before anything landed."""
    landed = """SELECT s.counts FROM landing l JOIN scorecard s ON s.id = l.scorecard
        WHERE l.done AND l.at <= ? ORDER BY l.number DESC LIMIT 1"""
    seed = "SELECT counts FROM scorecard WHERE commit_id <> '' AND tier = 'full' ORDER BY id LIMIT 1"
    row = db.execute(landed, (iso(at),)).fetchone() or db.execute(seed).fetchone()
    return {suite: (passed, total) for suite, (passed, total) in json.loads(row["counts"]).items()} if row else {}


def suites_of(db: sqlite3.Connection, at: datetime) -> dict[str, Passing]:
    before, now = counts_at(db, at - timedelta(hours=1)), counts_at(db, at)
    return {name: Passing(done, total, done - before.get(name, (0, 0))[0]) for name, (done, total) in now.items()}


def heldout_of(db: sqlite3.Connection) -> dict[str, Passing]:
    """The newest held-out result. Only for those to whom it has been revealed."""
    row = db.execute("SELECT counts FROM scorecard WHERE tier = 'heldout' AND void = '' ORDER BY id DESC").fetchone()
    return {name: Passing(*pair) for name, pair in json.loads(row["counts"]).items()} if row else {}


PRICE: Final = "CASE state WHEN 'settled' THEN coalesce(cost, reserved) WHEN 'in-doubt' THEN reserved END"
"""What a row of `attempt` counts for, in SQL: an attempt in doubt counts at its worst case (P6)."""


def spending_of(db: sqlite3.Connection, at: datetime) -> Spending:
    sql = f"""SELECT sum(CASE WHEN at > ? THEN {PRICE} END) AS hour, total(metered) AS metered,
        total(state = 'in-doubt') AS doubts, total(state = 'reserved') AS held,
        total(metered AND state IN ('settled', 'in-doubt') AND {PRICE} IS NULL) AS unpriced FROM attempt"""
    row = db.execute(sql, (iso(at - timedelta(hours=1)),)).fetchone()
    account, metered = attempts.account(db), row["metered"] > 0
    return Spending(
        metered=metered,
        spent_usd=account.settled + account.in_doubt if metered else None,
        in_doubt_usd=account.in_doubt,
        in_doubt=int(row["doubts"]),
        reserved_usd=account.reserved,
        reserved=int(row["held"]),
        unpriced=int(row["unpriced"]),
        last_hour_usd=row["hour"] or 0,
    )


def queue_of(db: sqlite3.Connection) -> Queue:
    counts = {row["state"]: row["n"] for row in db.execute("SELECT state, count(*) AS n FROM change GROUP BY state")}
    judging = entries(db, kinds=["judging"], last=1) if counts.get("judging") else []
    return Queue(**{state: n for state, n in counts.items()}, judging_since=judging[0].at if judging else None)


def seats_of(db: sqlite3.Connection, at: datetime) -> tuple[SeatNow, ...]:
    """Every seat with what it does or why it does nothing."""
    said = {entry.seat: entry for entry in _latest(db, ("seat-idle", "seat-crashed", "waiting"))}
    sql = """SELECT s.*, c.task FROM session s LEFT JOIN claim c ON c.session = s.id
        WHERE s.number = (SELECT max(number) FROM session WHERE seat = s.seat)"""
    sessions = {row["seat"]: row for row in db.execute(sql)}
    return tuple(_seat(seat, sessions.get(seat), said.get(seat), at) for seat in sorted({*said, *sessions}))


def _seat(seat: str, row: sqlite3.Row | None, said: Entry | None, at: datetime) -> SeatNow:
    data = said.data if said else {}
    why = visible(data.get("reason") or data.get("why") or data.get("error") or "")
    if row is None or row["state"] == "ended":
        role, ended = (row["role"], f"session {row['id']} ended: {row['end']}") if row else ("", "")
        return SeatNow(seat, role, "idle", why or ended)
    until = said.at + timedelta(seconds=data["until"]) if said and data.get("why") and data.get("until") else None
    state, reason = "works", "a person or another program" if row["open_seat"] else ""
    if row["state"] == "waiting":
        state, reason, until = "waits", "a verdict", None
    elif data.get("why") and (until is None or until > at):
        state, reason = "waits", why
    return SeatNow(seat, row["role"], state, reason, until if state == "waits" else None, row["task"] or "", row["id"])


def _latest(db: sqlite3.Connection, kinds: tuple[str, ...]) -> list[Entry]:
    """The newest entry of some kinds for each seat."""
    marks = ", ".join("?" * len(kinds))
    sql = f"SELECT max(seq) AS seq FROM journal WHERE kind IN ({marks}) AND seat <> '' GROUP BY seat ORDER BY seq"
    return [entry for row in db.execute(sql, kinds) for entry in entries(db, after=row["seq"] - 1, kinds=kinds)[:1]]


def attention_of(db: sqlite3.Connection, spending: Spending, budget: int | None, at: datetime) -> list[Attention]:
    """The few things a person should look at, worst first."""
    found = [Attention("gate", f"the gate is paused: {reason}") for reason in gate_paused(db)]
    hour = iso(at - timedelta(hours=1))
    crashed = Counter(entry.seat for entry in entries(db, kinds=["seat-crashed"]) if iso(entry.at) > hour)
    found += [
        Attention(seat, f"{seat} crashed {plural(times, 'time')} in the last hour") for seat, times in crashed.items()
    ]
    if budget and spending.spent_usd is not None and spending.spent_usd >= 0.8 * budget:
        found.append(Attention("budget", f"{percent(spending.spent_usd, budget)} of the budget is spent"))
    stuck = db.execute(
        "SELECT id, bounces, releases FROM task WHERE state IN ('ready', 'claimed')"
        " AND (bounces > 1 OR releases > 1) ORDER BY bounces + releases DESC, id LIMIT 3"
    )
    for row in stuck.fetchall():
        what = " and ".join(
            f"{word} {row[key]} times"
            for key, word in (("bounces", "bounced"), ("releases", "given back"))
            if row[key] > 1
        )
        found.append(Attention(row["id"], f"{row['id']} {what} (why {row['id']})"))
    files = Counter(name for change in changes.live(db) for name in set(change.files))
    crowd = [(name, n) for name, n in files.most_common(3) if n >= CROWDED]
    found += [Attention("", f"{visible(name, 80)} is in {n} open changes") for name, n in crowd]
    return found


def gate_paused(db: sqlite3.Connection) -> list[str]:
    """Why the gate stands still, if it does."""
    last = entries(db, kinds=["gate-paused", "judging", "judged", "run-resumed"], last=1)
    return [visible(entry.data["reason"]) for entry in last if entry.kind == "gate-paused"]


def status(db: sqlite3.Connection, alive: bool, now: datetime, *, reveal: bool = False) -> Status:
    row = db.execute("SELECT * FROM run").fetchone()
    at, state, limits = as_of(db, alive, now), state_of(db, alive), settings_of(db)
    spending = spending_of(db, at)
    healthy = state != "dead" and not gate_paused(db) and not str(row["reason"]).startswith("fault")
    live = db.execute("SELECT count(*) AS n FROM session WHERE state <> 'ended'").fetchone()["n"]
    return Status(
        run=row["name"],
        as_of=at,
        project=limits.project,
        agents=limits.agents,
        models=limits.models,
        state=state,
        healthy=healthy,
        reason=visible(row["reason"]),
        since=when(row["created"]),
        elapsed_s=elapsed_s(db, at),
        suites=suites_of(db, at),
        heldout=heldout_of(db) if reveal else None,
        spent_usd=spending.spent_usd,
        budget_usd=limits.budget,
        burn_usd_h=spending.last_hour_usd if spending.metered else None,
        spending=spending,
        hours_limit=limits.hours,
        seats=seats_of(db, at),
        queue=queue_of(db),
        sessions_live=live,
        attention=tuple(attention_of(db, spending, limits.budget, at)),
    )


@dataclass(frozen=True)
class TaskRow:
    id: str
    title: str
    state: str
    source: str
    cases: int
    bounces: int
    releases: int
    seat: str
    session: str
    since: datetime | None
    after: tuple[str, ...]
    touches: tuple[str, ...]
    reason: str


def tasks(db: sqlite3.Connection, states: tuple[TaskState, ...] = ()) -> list[TaskRow]:
    """The board: what is worked on, then what is ready, best first, then the rest."""
    claims = {claim["task"]: record(Claim, claim) for claim in db.execute("SELECT * FROM claim")}
    every = [record(Task, row) for row in db.execute("SELECT * FROM task")]
    chosen = [task for task in every if not states or task.state in states]
    chosen.sort(key=lambda task: (BOARD.index(task.state), task.order, int(task.id[1:])))
    return [_task_row(task, claims.get(task.id)) for task in chosen]


def _task_row(task: Task, claim: Claim | None) -> TaskRow:
    session = claim.session if claim else ""
    return TaskRow(
        id=task.id,
        title=visible(task.title, 120),
        state=task.state.value,
        source=task.source.value,
        cases=len(task.cases),
        bounces=task.bounces,
        releases=task.releases,
        seat=session.partition("/")[0],
        session=session,
        since=claim.since if claim else None,
        after=task.after,
        touches=tuple(map(visible, task.touches)),
        reason=visible(task.reason),
    )


@dataclass(frozen=True)
class Rows:
    """The answer of commands that list things: `tasks`, `runs`, `logs`."""

    run: str | None
    as_of: datetime
    rows: tuple[Any, ...]


def log(
    db: sqlite3.Connection, seat: str = "", kinds: tuple[str, ...] = (), since: datetime | None = None
) -> list[Line]:
    return [line for _, line in Narrator(db).tell(entries(db, seat=seat, kinds=kinds, since=since))]


def spent_words(result: Status) -> str:
    """`$641.20 of $2,000.00, $74.00/h`, or that nothing is metered."""
    money_now = result.spending
    if not money_now.metered:
        return "unmetered" + (
            f" ({plural(money_now.unpriced, 'request')} without a price)" if money_now.unpriced else ""
        )
    words = money(money_now.spent_usd) + (f" of {money(result.budget_usd)}" if result.budget_usd else "")
    if money_now.last_hour_usd:
        words += f", {money(money_now.last_hour_usd)} in the last hour"
    if money_now.in_doubt:
        words += f" · {money(money_now.in_doubt_usd)} of it in doubt"
    return words + (f" · {plural(money_now.unpriced, 'request')} of unknown price" if money_now.unpriced else "")
