"""Changes, scorecards and landings in the state."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Final

from orchestrator.records import Change, ChangeState, Landing
from orchestrator.store import tasks
from orchestrator.store.rows import insert, record, update
from orchestrator.store.store import Tx, iso, read_payload
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

LIVE: Final = "state NOT IN ('landed', 'bounced', 'withdrawn')"


def next_number(tx: Tx) -> int:
    row = tx.one("SELECT coalesce(max(number), 0) + 1 AS next FROM change")
    assert row is not None
    return int(row["next"])


def add(tx: Tx, change: Change) -> None:
    insert(tx, "change", change, number=int(change.id[1:]))
    fixes, counts = list(change.fixes), {"added": change.added, "removed": change.removed}
    tx.journal(
        "submitted", change.seat, change=change.id, session=change.session, task=change.task, fixes=fixes, **counts
    )


def live(db: sqlite3.Connection) -> list[Change]:
    """Changes that are not yet landed, bounced or withdrawn, oldest first."""
    return [record(Change, row) for row in db.execute(f"SELECT * FROM change WHERE {LIVE} ORDER BY number")]


def get(db: sqlite3.Connection, change: str) -> Change:
    row = db.execute("SELECT * FROM change WHERE id = ?", (change,)).fetchone()
    if row is None:
        raise KeyError(f"no change {change}")
    return record(Change, row)


def by_call(db: sqlite3.Connection, call: str) -> Change | None:
    row = db.execute("SELECT * FROM change WHERE call = ?", (call,)).fetchone()
    return None if row is None else record(Change, row)


def move(tx: Tx, change: str, state: ChangeState) -> None:
    """Moves a live change to another live state. A terminal change stays what it is (P2)."""
    if tx.run(f"UPDATE change SET state = ? WHERE id = ? AND {LIVE}", state.value, change) != 1:
        raise KeyError(f"{change} is not a live change")


def finish(
    tx: Tx, change: Change, state: ChangeState, *, reason: str = "", lost: Iterable[str] = (), landed_as: str = ""
) -> None:
    """Ends a change, once: a second end raises `KeyError` and undoes the caller's transaction (P2)."""
    if not state.terminal:
        raise ValueError(f"{state} does not end a change")
    if tx.one(f"SELECT 1 FROM change WHERE id = ? AND {LIVE}", change.id) is None:
        raise KeyError(f"{change.id} has already ended")
    lost_cases = tuple(lost)
    update(tx, "change", change.id, state=state, ended=tx.now, reason=reason, lost=lost_cases, landed_as=landed_as)


def bounce(tx: Tx, change: Change, reason: str, detail: str = "", lost: Iterable[str] = ()) -> None:
    """Ends a change as bounced: `reason` is one line for everybody, `detail` what the submitter reads besides."""
    cases = list(lost)
    finish(tx, change, ChangeState.BOUNCED, reason=f"{reason}\n{detail}".strip(), lost=cases)
    tasks.count_bounce(tx, change.task)
    tx.journal("bounced", change.seat, change=change.id, task=change.task, reason=reason, lost=cases)


def add_scorecard(tx: Tx, card: Scorecard, *, commit: str = "", seconds: float = 0.0) -> int:
    """Stores a scorecard: one string of outcomes in the order of the cases, reasons and values beside it."""
    cases = list(card.verdicts)
    outcomes = "".join(card.verdicts[case].outcome.value for case in cases)
    details = {
        case: [round(v.seconds, 3), v.reason, v.value, v.unit]
        for case, v in card.verdicts.items()
        if v.outcome is not Outcome.PASS or v.value is not None
    }
    details["build/"] = [card.build.seconds, card.build.reason, None, card.build.log_tail]
    row = tx.db.execute(
        "INSERT INTO scorecard (tree, commit_id, tier, at, seconds, built, void, cases, outcomes, details, counts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            card.tree,
            commit,
            card.tier,
            iso(tx.now),
            seconds,
            int(card.build.ok),
            card.void,
            tx.keep(json.dumps(cases)),
            outcomes,
            tx.keep(json.dumps(details)),
            json.dumps(card.counts()),
        ),
    )
    assert row.lastrowid is not None
    return row.lastrowid


def read_scorecard(db: sqlite3.Connection, row: sqlite3.Row) -> Scorecard:
    cases = json.loads(read_payload(db, row["cases"]))
    details = json.loads(read_payload(db, row["details"]))
    seconds, reason, _, log_tail = details["build/"]
    verdicts = {}
    for case, letter in zip(cases, row["outcomes"], strict=True):
        took, line, value, unit = details.get(case, (0.0, "", None, ""))
        verdicts[case] = Verdict(case, Outcome(letter), took, line, value, unit)
    build = Build(bool(row["built"]), seconds, reason, log_tail)
    return Scorecard(row["tree"], row["tier"], build, verdicts, row["void"])


def scorecard_of(db: sqlite3.Connection, commit: str, tier: str = "full") -> Scorecard | None:
    """The newest scorecard that counts for a commit of main."""
    sql = "SELECT * FROM scorecard WHERE commit_id = ? AND tier = ? AND void = '' ORDER BY id DESC LIMIT 1"
    row = db.execute(sql, (commit, tier)).fetchone()
    return None if row is None else read_scorecard(db, row)


def newest_without_heldout(db: sqlite3.Connection) -> str:
    """The newest landed commit that has no verdict on the held-out cases, or ""."""
    row = db.execute(
        "SELECT new FROM landing WHERE done AND NOT EXISTS"
        " (SELECT 1 FROM scorecard WHERE commit_id = new AND tier = 'heldout' AND void = '')"
        " ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return "" if row is None else str(row["new"])


def scorecard_before(db: sqlite3.Connection, commit: str) -> Scorecard | None:
    """The scorecard of the main that a landed commit replaced."""
    row = db.execute("SELECT old FROM landing WHERE new = ?", (commit,)).fetchone()
    return None if row is None else scorecard_of(db, row["old"])


def intend(tx: Tx, change: str, old: str, new: str, scorecard: int) -> None:
    """Stores the intent to move main, before it moves."""
    sql = "INSERT INTO landing (change, old, new, scorecard, at) VALUES (?, ?, ?, ?, ?)"
    tx.run(sql, change, old, new, scorecard, iso(tx.now))
    tx.journal("landing", change=change, old=old, new=new, scorecard=scorecard)


def forget_intent(tx: Tx, change: str) -> None:
    tx.run("DELETE FROM landing WHERE change = ? AND NOT done", change)


def open_landing(db: sqlite3.Connection) -> Landing | None:
    row = db.execute("SELECT * FROM landing WHERE NOT done").fetchone()
    return None if row is None else record(Landing, row)
