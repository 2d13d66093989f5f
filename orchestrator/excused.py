"""The exceptions to the ratchet: cases that main passes and the next main need not pass.

A case is *flaky* when it disagrees with itself on main. It goes into quarantine, and a task about it onto the board. It
counts again once a change for that task has landed and it has then passed on `STEADY` judged mains in a row, or when a
person says so. In quarantine it counts as not passing: in `status`, in the report's table, on the board and for the
goal; beside the count stands how many are flaky. A change neither bounces for losing it nor is praised for passing it.

A *waiver* is a person's: few cases, a reason, and an end after which they count again by themselves, at whatever they
do by then. A waived case is counted as what it does.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from orchestrator import board
from orchestrator.control import Refusal
from orchestrator.quoting import one_line
from orchestrator.records import Excuse, ExcuseKind, Task, TaskSource, TaskState
from orchestrator.store import Tx, changes, rows
from verifiers.scorecard import Scorecard, Tier

STEADY: Final = 5  # judged mains in a row on which a mended case passes
WAIVED: Final = 20  # cases at once
LONGEST: Final = timedelta(days=30)  # of a waiver

FLAKY: Final = f"WHERE kind = '{ExcuseKind.FLAKY}' AND ended IS NULL ORDER BY id"


def standing(db: sqlite3.Connection, now: datetime) -> list[Excuse]:
    """What is excused at a time, oldest first."""
    return rows.find(db, Excuse, "WHERE ended IS NULL AND ifnull(until > ?, 1) ORDER BY id", now)


def excused(db: sqlite3.Connection, now: datetime) -> frozenset[str]:
    """The cases that no change is held to now."""
    return frozenset(one.case for one in standing(db, now))


def flaky(db: sqlite3.Connection) -> frozenset[str]:
    """The cases in quarantine."""
    return frozenset(one.case for one in rows.find(db, Excuse, FLAKY))


# Quarantine


def quarantine(tx: Tx, cases: Mapping[str, str]) -> None:
    """Puts cases that disagree with themselves on main into quarantine, each with a line of evidence; one that is there
    stays as it is."""
    for case in sorted(cases.keys() - flaky(tx.db)):
        facts = {"kind": ExcuseKind.FLAKY, "since": tx.now, "reason": one_line(cases[case]), "by": "run"}
        rows.put(tx, "excuse", case=case, task=_task_about(tx, case, cases[case]), **facts)


def follow(tx: Tx, card: Scorecard) -> None:
    """After each whole judgement of a main: what of the quarantine is steady by now counts again, and what fails once
    more although a change for its task landed becomes a task once more. Suites that were not judged are left alone,
    and so is a case whose task a planner dropped: that one waits for a person."""
    suites = card.counts()
    for one in rows.find(tx.db, Excuse, FLAKY):
        task = _task_of(tx.db, one)
        if task.state is not TaskState.CLOSED or one.case.split("/", 1)[0] not in suites:
            continue
        if one.case not in card.passed():
            again = _task_about(tx, one.case, f"did not pass on main after {task.id} ({task.reason})")
            rows.update(tx, "excuse", one.id, task=again)
        elif _mains_since(tx.db, task, card.tier) >= STEADY:
            _end(tx, [one], f"passed on {STEADY} mains in a row since {task.id}", "run")


def _task_about(tx: Tx, case: str, evidence: str) -> str:
    evidence, title = one_line(evidence), one_line(f"{case} is flaky on main", board.TITLE)
    until = f"it counts again after a change for this task and {STEADY} mains in a row that pass it"
    why = f"{evidence}. Main may lose it meanwhile; {until}. One passing `verify {case}` proves nothing: repeat it."
    task = board.put(tx, title, TaskSource.FLAKY, by="run", why=why).id
    tx.journal("quarantined", case=case, task=task, evidence=evidence)
    return task


def _task_of(db: sqlite3.Connection, one: Excuse) -> Task:
    """Its task, or the one that a planner merged that into."""
    task = board.get(db, one.task)
    while task.merged:
        task = board.get(db, task.merged)
    return task


def _mains_since(db: sqlite3.Connection, task: Task, tier: str) -> int:
    """How many mains have been judged since a task was closed."""
    closed = "SELECT max(at) FROM journal WHERE kind = 'task-closed' AND data ->> 'task' = ?"
    mains = "commit_id <> '' AND tier = ? AND void = ''"
    sql = f"SELECT count(DISTINCT commit_id) FROM scorecard WHERE {mains} AND at > ({closed})"
    return int(db.execute(sql, (tier, task.id)).fetchone()[0])


# Waivers


def meant(
    db: sqlite3.Connection, names: Iterable[str], reason: str, until: datetime | None, now: datetime
) -> tuple[str, ...]:
    """The cases that ids and patterns mean: to be waived until then, or, for None, to count again.

    Raises `Refusal` for what main does not know or nobody excused, and for a waiver without reason, without an end that
    lies ahead, or beyond the few that may be waived at once.
    """
    card = changes.newest_card(db, Tier.FULL)
    ever = {row["case_id"] for row in db.execute("SELECT case_id FROM excuse")}
    known = ever if until is None else card.verdicts.keys() if card else ()
    found = {name: board.meant(name, known) for name in names}
    if missing := [name for name, cases in found.items() if not cases]:
        what = "case that was ever waived or flaky" if until is None else "case of main"
        raise Refusal(f"no {what} is or matches {one_line(missing[0])!r}", "not_found", "cases are suite/name")
    cases = tuple(dict.fromkeys(chain.from_iterable(map(sorted, found.values()))))
    if until is None:
        return cases
    if not one_line(reason):
        raise Refusal("a waiver needs a reason, which every report shows", "usage")
    if not now < until <= now + LONGEST:
        raise Refusal(f"a waiver ends in the future, at most {LONGEST.days} days from now", "usage")
    waived = {one.case for one in standing(db, now) if one.kind is ExcuseKind.WAIVED}
    if len(waived.union(cases)) > WAIVED:
        few = f"{len(waived)} are waived, this adds {len(set(cases) - waived)}; at most {WAIVED} at once"
        raise Refusal(f"{few}: a ratchet that lets more go holds nothing", "refused", "end some: waive CASE --end")
    return cases


def waive(tx: Tx, names: Sequence[str], reason: str, until: datetime | None, by: str) -> None:
    """Lets main lose cases until then (UTC); for None, they count again at once, flaky ones as well. What is so already
    stays as it is. Raises what `meant` raises."""
    cases = meant(tx.db, names, reason, until, tx.now)
    now = {(one.case, one.kind): one for one in standing(tx.db, tx.now)}
    if until is None:
        return _end(tx, [one for one in now.values() if one.case in cases], one_line(reason) or "said so", by)
    facts = {"kind": ExcuseKind.WAIVED, "reason": one_line(reason), "until": until}
    same = {case for (case, _), one in now.items() if facts.items() <= vars(one).items()}
    if new := [case for case in cases if case not in same]:
        for case in new:
            end = "UPDATE excuse SET ended = ? WHERE case_id = ? AND kind = ? AND ended IS NULL"
            tx.run(end, tx.now, case, facts["kind"])
            rows.put(tx, "excuse", case=case, since=tx.now, by=by, **facts)
        tx.journal("waived", cases=new, expires=until.isoformat(), reason=facts["reason"], by=by)


def _end(tx: Tx, excuses: Sequence[Excuse], reason: str, by: str) -> None:
    """Lets cases count again; the task about a flaky one is closed unless somebody works on it."""
    for one in excuses:
        rows.update(tx, "excuse", one.id, ended=tx.now)
        if one.task and (task := _task_of(tx.db, one)).state is TaskState.READY and task.id == one.task:
            board.close(tx, task.id, f"{one.case} is no longer flaky: {reason}")
    for kind in dict.fromkeys(one.kind for one in excuses):
        cases = [one.case for one in excuses if one.kind is kind]
        tx.journal("excuse-ended", cases=cases, kind=kind, reason=reason, by=by)
