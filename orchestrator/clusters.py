"""Failing visible cases as tasks: one task for each failure signature, so that one cause has one owner.

On an empty main everything fails alike: that is one task about 1,281 cases, which falls apart into others by itself as
soon as cases begin to fail differently.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator import board
from orchestrator.quoting import one_line
from orchestrator.records import TaskSource, TaskState
from orchestrator.store import Tx, tasks
from verifiers.scorecard import Outcome, Scorecard, Verdict

FAILED: Final = frozenset({Outcome.FAIL, Outcome.TIMEOUT, Outcome.MISSING})


@dataclass(frozen=True)
class Failure:
    """Why a case fails: what it shares with others of the same cause, and its own line."""

    signature: str
    reason: str


@dataclass(frozen=True)
class Synced:
    """Ids of the tasks that a look at main opened, changed and closed."""

    opened: tuple[str, ...]
    changed: tuple[str, ...]
    closed: tuple[str, ...]


def failures(card: Scorecard, signature: Callable[[Verdict], str]) -> dict[str, Failure]:
    """The failing cases of a scorecard of visible cases (P8: never hand in another)."""
    failing = (verdict for verdict in card.verdicts.values() if verdict.outcome in FAILED)
    return {verdict.case: Failure(signature(verdict), verdict.reason) for verdict in failing}


def sync_failures(tx: Tx, failing: Mapping[str, Failure], passing: Collection[str]) -> Synced:
    """Makes the board's groups of failing cases those of today's main.

    A case stays with a task that somebody holds, and with a task that names it by its id, however it fails by now; a
    claimed task is never closed here, because its owner is at work. A group that a planner dropped stays dropped while
    its signature is the same, and one that was merged goes where it was merged.
    """
    groups = [task for task in tasks.open_tasks(tx.db) if task.signature]
    taken = _taken(tx)
    wanted: dict[str, list[str]] = {}  # signature -> cases
    for case in sorted(failing.keys() - taken):
        wanted.setdefault(failing[case].signature, []).append(case)
    changed = _decided(tx, wanted, {group.signature for group in groups})
    closed: list[str] = []
    for group in groups:
        found = wanted.pop(group.signature, [])
        kept = [case for case in group.cases if case not in passing] if group.state is TaskState.CLAIMED else []
        cases = tuple(sorted({*kept, *found}))
        if not cases and group.state is TaskState.READY:
            passed = all(case in passing for case in group.cases)
            board.close(tx, group.id, "its cases pass" if passed else "its cases fail differently by now")
            closed.append(group.id)
        elif cases and cases != group.cases:
            tasks.change(tx, group.id, cases=cases, title=_title(cases, failing, group.title))
            changed.append(group.id)
    opened = []
    for signature, names in wanted.items():
        cases = tuple(names)
        title = _title(cases, failing, "")
        task = board.put(tx, title, TaskSource.CASES, by="run", cases=cases, signature=signature)
        opened.append(task.id)
    return Synced(tuple(opened), tuple(changed), tuple(closed))


def _taken(tx: Tx) -> set[str]:
    """Cases that are somebody's already: of claimed tasks, and of tasks that people and planners wrote about them."""
    owners = [task for task in tasks.open_tasks(tx.db) if task.state is TaskState.CLAIMED or not task.signature]
    return {case for task in owners for case in task.cases}


def _decided(tx: Tx, wanted: dict[str, list[str]], open_now: set[str]) -> list[str]:
    """Takes out of `wanted` what a planner decided about: cases of a dropped group go nowhere, those of a merged one to
    its heir. Returns the tasks without a signature that grew by it."""
    grown = []
    for signature in wanted.keys() - open_now:
        task = tasks.newest_of_signature(tx.db, signature)
        while task is not None and task.state is TaskState.DROPPED:
            into = tasks.merged_into(tx.db, task.id)
            task = tasks.get(tx.db, into) if into else None
            if task is None:
                del wanted[signature]
            elif task.state is not TaskState.DROPPED and task.state is not TaskState.CLOSED:
                names = wanted.pop(signature)
                if task.signature:
                    wanted.setdefault(task.signature, []).extend(names)
                else:
                    tasks.change(tx, task.id, cases=tuple(dict.fromkeys((*task.cases, *names))))
                    grown.append(task.id)
    return grown


def _title(cases: tuple[str, ...], failing: Mapping[str, Failure], otherwise: str) -> str:
    """`torture: 1281 cases: run: exit 134, expected 0`, after the first case that fails now."""
    first = next((case for case in cases if case in failing), None)
    if first is None:
        return otherwise
    where = first if len(cases) == 1 else f"{first.split('/', 1)[0]}: {len(cases)} cases"
    return one_line(f"{where}: {failing[first].reason}".rstrip(": "), board.TITLE)
