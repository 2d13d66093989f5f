"""The board: tasks, and who may work on which. The one authority on claims (P4).

What changes something takes the transaction it belongs to, so that a verb's effect and its stored answer are one. A
claim is a row that names a live session: no heartbeat and no clock. It ends with its task, its release or its session.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import filter as matching
from pathlib import PurePosixPath
from typing import Any, Final

from orchestrator.quoting import few_lines, one_line
from orchestrator.records import Claim, Note, Task, TaskSource, TaskState
from orchestrator.store import Tx, tasks
from orchestrator.store.tasks import Promise

TITLE: Final = 120  # characters
TOPIC: Final = 100
NAMED: Final = 200  # cases or patterns that one task written by hand may name
FOLDERS: Final = 20
PLAN_LINES: Final = 3
SET_ASIDE: Final = 3  # owners that gave a task back; then it is `stuck` until a planner or a person looks at it


class Refused(Exception):
    """The board says no. The message says why and what to do instead."""


def seat_of(session: str) -> str:
    return session.rpartition("/")[0] or session


def get(db: sqlite3.Connection, task: str) -> Task:
    """Raises `Refused` when there is no such task."""
    try:
        return tasks.get(db, task)
    except KeyError:
        raise Refused(f"there is no task {one_line(task, 20)}: `tasks` shows the board") from None


# Writing tasks


def add_task(
    tx: Tx,
    title: str,
    source: TaskSource,
    *,
    by: str,
    why: str = "",
    cases: Sequence[str] = (),
    touches: Sequence[str] = (),
    after: Sequence[str] = (),
    order: float = 0.0,
    known: Collection[str] | None = None,
) -> Task:
    """Writes a task. `known` are the visible case ids that `cases` must name or match; None takes them as they are.

    Raises `Refused` for what names no case, folder or task, and for what an open task already covers. Cases that the
    new task names leave the groups of failing cases that nobody holds: this is how a planner splits one.
    """
    title = one_line(title, TITLE)
    if not title:
        raise Refused("a task needs a title that names the defect or the ability")
    cases = _cases(cases, known)
    for earlier in after:
        get(tx.db, earlier)
    folders = declared(touches)
    open_now = tasks.open_tasks(tx.db)
    _refuse_double(tx, title, cases, open_now)
    facts = {"cases": cases, "touches": folders, "after": tuple(after), "order": order}
    task = put(tx, title, source, by=by, why=few_lines(why), **facts)
    _split_off(tx, task, open_now)
    return task


def put(tx: Tx, title: str, source: TaskSource, **facts: Any) -> Task:
    """Writes a task whose fields are already what they should be. Ids come from here alone."""
    task = Task(f"T{tasks.next_number(tx)}", title, TaskState.READY, source, tx.now, **facts)
    tasks.add(tx, task)
    return task


def _cases(cases: Sequence[str], known: Collection[str] | None) -> tuple[str, ...]:
    if len(cases) > NAMED:
        raise Refused(f"a task names at most {NAMED} cases (got {len(cases)}): use a pattern such as torture/20*")
    for case in cases:
        if known is not None and not expand((case,), known):
            example = f", for example {min(known)}" if known else ""
            raise Refused(f"no visible case is or matches {one_line(case, 60)!r}: cases are suite/name{example}")
    return tuple(dict.fromkeys(one_line(case) for case in cases))


def expand(cases: Iterable[str], known: Collection[str]) -> set[str]:
    """Known cases that the ids and patterns mean."""
    found: set[str] = set()
    for case in cases:
        found.update((case,) if case in known else matching(known, case))
    return found


def declared(touches: Sequence[str]) -> tuple[str, ...]:
    """Folders and files as they are compared: relative to the repository, without `.`; raises `Refused` for others."""
    if len(touches) > FOLDERS:
        raise Refused(f"touches: at most {FOLDERS} folders (got {len(touches)})")
    for touch in touches:
        if ".." in PurePosixPath(touch).parts or touch.startswith("/"):
            raise Refused(f"touches: {one_line(touch, 60)!r} is not a folder or file of the repository")
    return tuple(dict.fromkeys(one_line(str(PurePosixPath(touch))) for touch in touches))


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a folder of one side holds, is, or lies in one of the other. Undeclared overlaps nothing."""
    paths = [PurePosixPath(other) for other in others]
    mine = [PurePosixPath(one) for one in some]
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a in mine for b in paths)


def _refuse_double(tx: Tx, title: str, cases: tuple[str, ...], open_now: Iterable[Task]) -> None:
    for task in open_now:
        if task.title.casefold() == title.casefold():
            raise Refused(f"{task.id} has this title already")
        if cases and set(cases) == set(task.cases):
            raise Refused(f"{task.id} {task.title!r} is about the same cases already")
        if cases and task.state is TaskState.CLAIMED and set(cases) <= set(task.cases):
            held = tasks.claim_on(tx.db, task.id)
            assert held is not None
            raise Refused(f"{held.session} works on these cases as {task.id} {task.title!r}")


def _split_off(tx: Tx, task: Task, open_now: Iterable[Task]) -> None:
    for group in open_now:
        rest = tuple(case for case in group.cases if case not in task.cases)
        if not group.signature or group.state is not TaskState.READY or len(rest) == len(group.cases):
            continue
        tasks.change(tx, group.id, cases=rest)
        if not rest:
            _drop(tx, group, f"all of its cases went to {task.id}", task.by, into=task.id)


def rewrite(
    tx: Tx,
    task_id: str,
    *,
    title: str = "",
    why: str = "",
    cases: Sequence[str] = (),
    touches: Sequence[str] = (),
    after: Sequence[str] = (),
    known: Collection[str] | None = None,
) -> Task:
    """Changes what is given of a task that nobody holds, which then counts as untried. Raises `Refused`."""
    _free(tx, task_id)
    for earlier in after:
        get(tx.db, earlier)
    given = {
        "title": one_line(title, TITLE),
        "why": few_lines(why),
        "cases": _cases(cases, known),
        "touches": declared(touches),
        "after": tuple(after),
    }
    tasks.change(tx, task_id, releases=0, **{name: value for name, value in given.items() if value})
    return get(tx.db, task_id)


def drop_task(tx: Tx, task_id: str, reason: str, by: str) -> Task:
    """Drops a task that nobody holds. Raises `Refused`."""
    task = _free(tx, task_id)
    _drop(tx, task, one_line(reason), by)
    return task


def merge(tx: Tx, into: str, others: Sequence[str], by: str) -> Task:
    """Gives the cases, folders and dependants of `others` to the open task `into`, and drops them. Raises `Refused`."""
    kept = get(tx.db, into)
    if kept.state not in (TaskState.READY, TaskState.CLAIMED):
        raise Refused(f"{into} is {kept.state}: merge into a task that is open")
    for other in dict.fromkeys(others):
        task = _free(tx, other)
        if other == into:
            raise Refused(f"{into} cannot be merged into itself")
        kept = dataclasses.replace(
            kept,
            cases=tuple(dict.fromkeys(kept.cases + task.cases)),
            touches=tuple(dict.fromkeys(kept.touches + task.touches)),
        )
        _drop(tx, task, f"merged into {into}", by, into=into)
        for waiting in tasks.open_tasks(tx.db):
            if other in waiting.after:
                then = tuple(dict.fromkeys(into if one == other else one for one in waiting.after))
                tasks.change(tx, waiting.id, after=tuple(one for one in then if one != waiting.id))
    tasks.change(tx, into, cases=kept.cases, touches=kept.touches)
    return get(tx.db, into)


def order(tx: Tx, ids: Sequence[str], by: str) -> None:
    """Puts these tasks before all others, in this order; an earlier order is forgotten. Raises `Refused`."""
    for name in ids:
        get(tx.db, name)
    tx.run("UPDATE task SET priority = 0 WHERE priority < 0")
    for place, name in enumerate(dict.fromkeys(ids)):
        tasks.change(tx, name, order=float(place - len(ids)))
    tx.journal("tasks-ordered", seat_of(by), tasks=list(ids), by=by)


def _free(tx: Tx, task_id: str) -> Task:
    task = get(tx.db, task_id)
    held = tasks.claim_on(tx.db, task_id)
    if held is not None:
        raise Refused(f"{held.session} works on {task_id} since {held.since:%H:%M}: leave it a note, or wait")
    if task.state is not TaskState.READY:
        raise Refused(f"{task_id} is {task.state} already: {task.reason}")
    return task


def _drop(tx: Tx, task: Task, reason: str, by: str, *, into: str = "") -> None:
    tasks.change(tx, task.id, state=TaskState.DROPPED, reason=reason, merged=into)
    tx.journal("task-dropped", seat_of(by), task=task.id, reason=reason, by=by)


def close(tx: Tx, task_id: str, reason: str) -> str:
    """Closes an open task, ends its claim and returns the session that held it, or ""; another task stays as it is."""
    task = get(tx.db, task_id)
    if task.state not in (TaskState.READY, TaskState.CLAIMED):
        return ""
    held = tasks.claim_on(tx.db, task_id)
    tasks.remove_claim(tx, task_id)
    tasks.change(tx, task_id, state=TaskState.CLOSED, reason=one_line(reason))
    tx.journal("task-closed", seat_of(held.session) if held else "", task=task_id, reason=one_line(reason))
    return held.session if held else ""


def close_passing(tx: Tx, passed: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Closes every open task whose cases, ids and patterns alike, all pass on main. `known` are all visible cases.

    Returns the tasks and, for each, the session that held it, or "".
    """
    ended = {}
    known = set(known)
    for task in tasks.open_tasks(tx.db):
        meant = expand(task.cases, known)
        named = all(case in known or expand((case,), known) for case in task.cases)
        if task.cases and named and meant <= set(passed):
            ended[task.id] = close(tx, task.id, f"{len(meant)} of {len(meant)} cases pass")
    return ended


def reopen(tx: Tx, task_id: str, reason: str) -> Task:
    """Makes a closed or dropped task ready again. Raises `Refused` when it is open, or when another has its cause."""
    task = get(tx.db, task_id)
    if task.state in (TaskState.READY, TaskState.CLAIMED):
        raise Refused(f"{task_id} is open already: claim it")
    newest = tasks.newest_of_signature(tx.db, task.signature) if task.signature else None
    if newest is not None and newest.state in (TaskState.READY, TaskState.CLAIMED):
        raise Refused(f"{newest.id} is open for the same failure")
    tasks.change(tx, task_id, state=TaskState.READY, reason="", merged="")
    tx.journal("task-reopened", task=task_id, reason=one_line(reason))
    return get(tx.db, task_id)


# Claims


def ready(db: sqlite3.Connection, weights: Mapping[str, float] | None = None) -> list[Task]:
    """Tasks that may be claimed now, best first. `weights` say what a suite's milestones are worth."""
    open_now = tasks.open_tasks(db)
    names = {task.id for task in open_now}
    promised = tasks.promises(db)
    free = [
        task
        for task in open_now
        if task.state is TaskState.READY
        and task.releases < SET_ASIDE
        and not names.intersection(task.after)
        and not promised_by(task, promised)
    ]
    return sorted(free, key=lambda task: _rank(task, weights or {}))


def _rank(task: Task, weights: Mapping[str, float]) -> tuple[float, int, float, int, int]:
    weight = max((weights.get(case.split("/", 1)[0], 0.0) for case in task.cases), default=0.0)
    return task.order, -len(task.cases), -weight, task.bounces + task.releases, int(task.id[1:])


def promised_by(task: Task, promises: Iterable[Promise]) -> str:
    """The queued change that was made for the task, or the last of those that together fix all its cases, or ""."""
    missing = set(task.cases)
    for promise in promises:
        if promise.task == task.id:
            return promise.change
        if missing and not (missing := missing.difference(promise.fixes)):
            return promise.change
    return ""


def claim(tx: Tx, task_id: str, session: str, plan: str = "", touches: Sequence[str] = ()) -> Claim:
    """Gives one live session the sole right to a task. Asking again for what it holds changes nothing.

    Raises `Refused` in words: who holds it, what it waits for, or which queued change already fixes it.
    """
    task = get(tx.db, task_id)
    mine = tasks.claim_of(tx.db, session)
    if mine is not None and mine.task == task_id:
        return mine
    if mine is not None:
        raise Refused(f"you hold {mine.task}: submit or release it before you take {task_id}")
    _free(tx, task_id)
    row = tx.one("SELECT state FROM session WHERE id = ?", session)
    if row is None or row["state"] == "ended":
        raise Refused(f"session {session} has ended: only a live session can hold a task")
    waits = [name for name in task.after if tasks.get(tx.db, name).state in (TaskState.READY, TaskState.CLAIMED)]
    if waits:
        raise Refused(f"{task_id} waits for {', '.join(waits)}: take that, or another")
    change = promised_by(task, tasks.promises(tx.db))
    if change:
        raise Refused(f"{change} in the merge queue already fixes {task_id}: take another task")
    folders = declared(touches) or task.touches
    taken = Claim(task_id, session, tx.epoch, tx.now, few_lines(plan, PLAN_LINES), folders)
    tasks.add_claim(tx, taken)
    tx.journal("claimed", seat_of(session), task=task_id, session=session, plan=taken.plan)
    return taken


def claim_own(tx: Tx, title: str, touches: Sequence[str], session: str, plan: str = "") -> Claim:
    """Writes a task of the session's own and claims it. Raises `Refused`, which undoes the caller's transaction."""
    mine = tasks.claim_of(tx.db, session)
    if mine is not None:
        raise Refused(f"you hold {mine.task}: submit or release it first")
    task = add_task(tx, title, TaskSource.SEAT, by=session, touches=touches)
    return claim(tx, task.id, session, plan)


def release(tx: Tx, session: str, reason: str, text: str = "") -> Task:
    """Gives the session's task back, with a note for whoever takes it next. Raises `Refused` when it holds none."""
    mine = tasks.claim_of(tx.db, session)
    if mine is None:
        raise Refused("you hold no task")
    if few_lines(text):
        note(tx, mine.task, session, text)
    task = tasks.get(tx.db, mine.task)
    tasks.change(tx, task.id, releases=task.releases + 1)
    _end(tx, mine, one_line(reason))
    return tasks.get(tx.db, task.id)


def end_claims_of(tx: Tx, session: str, reason: str) -> str:
    """Ends the claim of a session that is over. Returns its task, ready again, or ""."""
    mine = tasks.claim_of(tx.db, session)
    if mine is None:
        return ""
    _end(tx, mine, reason)
    return mine.task


def recover(tx: Tx, continuing: Collection[str]) -> list[Claim]:
    """At the start of an epoch: sessions that go on keep their claims. All others lose theirs, which are returned."""
    lost = [held for held in tasks.claims(tx.db) if held.session not in continuing]
    for held in lost:
        _end(tx, held, "its session did not go on after a resume")
    tx.run("UPDATE claim SET epoch = ?", tx.epoch)
    return lost


def _end(tx: Tx, held: Claim, reason: str) -> None:
    tasks.remove_claim(tx, held.task)
    tasks.change(tx, held.task, state=TaskState.READY)
    tx.journal("released", seat_of(held.session), task=held.task, session=held.session, reason=reason)


# Notes


def note(tx: Tx, topic: str, session: str, text: str) -> Note:
    """Leaves a note; replaces the session's earlier one on the topic. Raises `Refused` when it says nothing."""
    said = Note(one_line(topic, TOPIC), session, tx.now, few_lines(text))
    if not said.topic or not said.text:
        raise Refused("a note needs a topic (a task, a folder, suspect-case, planner, operator) and a text")
    tasks.put_note(tx, said, seat_of(session))
    return said


def notes_for(db: sqlite3.Connection, task: Task) -> list[Note]:
    """What earlier sessions left on the task and its folders, newest first, the task's own before the folders'."""
    return [found for topic in (task.id, *task.touches) for found in tasks.notes(db, topic)]
