"""Failing visible cases as tasks: one task for each failure signature, so that one cause has one owner.

On an empty main everything fails alike: that is one task about 1,281 cases, which falls apart into others by itself as
soon as cases begin to fail differently.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter
from typing import Final

from orchestrator import board, excused
from orchestrator.quoting import one_line
from orchestrator.records import Task, TaskSource, TaskState
from orchestrator.store import Tx, changes, rows
from verifiers.scorecard import Outcome, Scorecard, Tier, Verdict
from verifiers.signature import signature

FAILED: Final = frozenset({Outcome.FAIL, Outcome.TIMEOUT, Outcome.MISSING})


def failures(card: Scorecard) -> dict[str, Verdict]:
    return {case: verdict for case, verdict in card.verdicts.items() if verdict.outcome in FAILED}


def give_back(tx: Tx, task_id: str, then: Scorecard, now: Scorecard) -> None:
    """After a change for a task has landed: its cases that fail for another reason by now are somebody else's."""
    cases, before, after = board.get(tx.db, task_id).cases, failures(then), failures(now)
    both = before.keys() & after.keys()
    other = {case for case in both.intersection(cases) if signature(before[case]) != signature(after[case])}
    rows.update(tx, "task", task_id, cases=tuple(case for case in cases if case not in other))


def update_board(tx: Tx, card: Scorecard) -> None:
    """Makes the board that of today's main, of whose visible cases this is the scorecard (P8: never hand in another).

    Every open task is closed whose cases, ids and patterns alike, all pass. Of the others, a case stays with a task
    that somebody holds, and with a task that names it by its id, however it fails by now; a claimed task is not closed,
    because its owner is at work. A group that a planner dropped stays dropped while its signature is the same, and one
    that was merged goes where it was merged. A flaky case has a task of its own, and no other waits for it.
    """
    if late := changes.newest_card(tx.db, Tier.MAIN):  # as far as it is judged after landing
        searched = {row["case_id"] for row in tx.db.execute("SELECT case_id FROM regression WHERE culprit IS NULL")}
        after = {case: verdict for case, verdict in late.verdicts.items() if case not in searched}
        card = replace(card, verdicts={**after, **card.verdicts})
    excused.follow(tx, card)
    passing, failing, unsure = card.passed(), failures(card), excused.flaky(tx.db)
    for task in board.open_tasks(tx.db):
        named = [board.meant(case, card.verdicts.keys()) for case in task.cases]
        every = set(chain.from_iterable(named))
        if named and all(named) and (sure := every - unsure) and sure <= passing:
            board.close(tx, task.id, f"{len(sure)} of {len(sure)} cases pass")
    open_now = board.open_tasks(tx.db)
    owned = {case for task in open_now if task.state is TaskState.CLAIMED or not task.signature for case in task.cases}
    loose = sorted((signature(failing[case]), case) for case in failing.keys() - owned - unsure)
    gained: dict[str, tuple[str, ...]] = {}  # by task
    for cause, group in groupby(loose, itemgetter(0)):
        cases, home = tuple(case for _, case in group), _home(tx, cause)
        if home is not None:
            gained[home.id] = (*gained.get(home.id, ()), *cases)
        else:
            board.put(tx, _title(cases, failing), TaskSource.CASES, by="run", cases=cases, signature=cause)
    for task in open_now:
        free = task.signature and task.state is TaskState.READY
        kept = () if free else (case for case in task.cases if not task.signature or case not in passing | unsure)
        cases = (*kept, *gained.get(task.id, ()))
        if free and not cases:
            board.close(tx, task.id, "its cases fail differently by now")
        elif cases and cases != task.cases:
            title = _title(cases, failing) if task.signature and task.by == "run" else ""  # a planner's words stay
            rows.update(tx, "task", task.id, cases=cases, title=title or task.title)


def _home(tx: Tx, cause: str) -> Task | None:
    """The task that cases of a signature belong to: their open group, or where a planner merged it; one that was
    dropped keeps them off the board. None when they need a task of their own."""
    task = rows.first(tx.db, Task, "WHERE signature = ? ORDER BY number DESC", cause)
    while task is not None and task.merged:
        task = rows.get(tx.db, Task, task.merged)
    return None if task is None or task.state is TaskState.CLOSED else task


def _title(cases: tuple[str, ...], failing: Mapping[str, Verdict]) -> str:
    """`torture: 1281 cases: run: exit 134, expected 0`, after the first case that fails now; "" when none does."""
    first = next((failing[case] for case in cases if case in failing), None)
    if first is None:
        return ""
    where = first.case if len(cases) == 1 else f"{first.case.split('/', 1)[0]}: {len(cases)} cases"
    return one_line(f"{where}: {first.reason}".rstrip(": "), board.TITLE)
