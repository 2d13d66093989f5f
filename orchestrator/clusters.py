"""Failing visible cases as tasks: one task for each failure signature, so that one cause has one owner.

On an empty main everything fails alike: that is one task about 1,281 cases, which falls apart into others by itself as
soon as cases begin to fail differently.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

from orchestrator import board
from orchestrator.quoting import one_line
from orchestrator.records import Task, TaskSource, TaskState
from orchestrator.store import Tx, rows, tasks
from verifiers.scorecard import Outcome, Scorecard, Verdict

FAILED: Final = frozenset({Outcome.FAIL, Outcome.TIMEOUT, Outcome.MISSING})


@dataclass(frozen=True)
class Failure:
    """Why a case fails: what it shares with others of the same cause, and its own line."""

    signature: str
    reason: str


def failures(card: Scorecard, signature: Callable[[Verdict], str]) -> dict[str, Failure]:
    """The failing cases of a scorecard of visible cases (P8: never hand in another)."""
    failing = (verdict for verdict in card.verdicts.values() if verdict.outcome in FAILED)
    return {verdict.case: Failure(signature(verdict), verdict.reason) for verdict in failing}


def give_back(tx: Tx, task_id: str, then: Mapping[str, Failure], now: Mapping[str, Failure]) -> None:
    """After a change for a task has landed: its cases that fail for another reason by now are somebody else's."""
    task = board.get(tx.db, task_id)
    other = {case for case in now.keys() & then.keys() if now[case].signature != then[case].signature}
    if rest := other.intersection(task.cases):
        rows.update(tx, "task", task_id, cases=tuple(case for case in task.cases if case not in rest))


def sync_failures(tx: Tx, failing: Mapping[str, Failure], passing: Collection[str]) -> None:
    """Makes the board's groups of failing cases those of today's main.

    A case stays with a task that somebody holds, and with a task that names it by its id, however it fails by now; a
    claimed task is never closed here, because its owner is at work. A group that a planner dropped stays dropped while
    its signature is the same, and one that was merged goes where it was merged.
    """
    open_now = tasks.open_tasks(tx.db)
    owned = {case for task in open_now if task.state is TaskState.CLAIMED or not task.signature for case in task.cases}
    loose = sorted((failing[case].signature, case) for case in failing.keys() - owned)
    gained: dict[str, tuple[str, ...]] = {}  # by task
    for signature, group in groupby(loose, itemgetter(0)):
        cases, home = tuple(case for _, case in group), _home(tx, signature)
        if home is not None:
            gained[home.id] = (*gained.get(home.id, ()), *cases)
        else:
            title = _title(cases, failing)
            board.put(tx, title, TaskSource.CASES, by="run", cases=cases, signature=signature)
    for task in open_now:
        free = task.signature and task.state is TaskState.READY
        kept = () if free else (case for case in task.cases if not task.signature or case not in passing)
        cases = (*kept, *gained.get(task.id, ()))
        if free and not cases:
            passed = all(case in passing for case in task.cases)
            board.close(tx, task.id, "its cases pass" if passed else "its cases fail differently by now")
        elif cases and cases != task.cases:
            title = _title(cases, failing) if task.signature and task.by == "run" else ""  # a planner's words stay
            rows.update(tx, "task", task.id, cases=cases, title=title or task.title)


def _home(tx: Tx, signature: str) -> Task | None:
    """The task that cases of a signature belong to: their open group, or where a planner merged it; one that was
    dropped keeps them off the board. None when they need a task of their own."""
    task = rows.first(tx.db, Task, "WHERE signature = ? ORDER BY number DESC", signature)
    while task is not None and task.merged:
        task = rows.get(tx.db, Task, task.merged)
    return None if task is None or task.state is TaskState.CLOSED else task


def _title(cases: tuple[str, ...], failing: Mapping[str, Failure]) -> str:
    """`torture: 1281 cases: run: exit 134, expected 0`, after the first case that fails now; "" when none does."""
    for first in (case for case in cases if case in failing):
        where = first if len(cases) == 1 else f"{first.split('/', 1)[0]}: {len(cases)} cases"
        return one_line(f"{where}: {failing[first].reason}".rstrip(": "), board.TITLE)
    return ""
