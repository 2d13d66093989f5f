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
from orchestrator.records import Change, Claim, Note, Session, SessionState, Task, TaskSource, TaskState
from orchestrator.store import Tx, rows, tasks

TITLE: Final = 120  # characters
TOPIC: Final = 100
NAMED: Final = 200  # cases or patterns that one task written by hand may name
FOLDERS: Final = 20
PLAN_LINES: Final = 3
SET_ASIDE: Final = 3  # owners that gave a task back; then it is `stuck` until a planner cuts it anew
OPEN: Final = (TaskState.READY, TaskState.CLAIMED)


class Refused(Exception):
    """The board says no. The message says why and what to do instead."""


def seat_of(session: str) -> str:
    return session.rpartition("/")[0] or session


def get(db: sqlite3.Connection, task: str) -> Task:
    """Raises `Refused` when there is no such task."""
    try:
        return rows.get(db, Task, task)
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
    named, folders = _cases(cases, known), declared(touches)
    for earlier in after:
        get(tx.db, earlier)
    open_now = tasks.open_tasks(tx.db)
    for other in open_now:
        _refuse_double(tx, title, named, other)
    facts = {"cases": named, "touches": folders, "after": tuple(after), "order": order}
    task = put(tx, title, source, by=by, why=few_lines(why), **facts)
    for group in open_now:
        rest = tuple(case for case in group.cases if case not in named)
        if group.signature and group.state is TaskState.READY and rest != group.cases:
            rows.update(tx, "task", group.id, cases=rest)
            if not rest:
                _drop(tx, group, f"all of its cases went to {task.id}", by, into=task.id)
    return task


def rewrite(
    tx: Tx,
    task_id: str,
    by: str,
    *,
    title: str = "",
    why: str = "",
    cases: Sequence[str] = (),
    touches: Sequence[str] = (),
    after: Sequence[str] = (),
    known: Collection[str] | None = None,
) -> Task:
    """Changes what is given of a task that nobody holds, which then counts as untried and as the planner's own words.

    Raises `Refused`.
    """
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
    rows.update(tx, "task", task_id, by=by, releases=0, **{name: value for name, value in given.items() if value})
    return get(tx.db, task_id)


def put(tx: Tx, title: str, source: TaskSource, **facts: Any) -> Task:
    """Writes a task whose fields are already what they should be. Ids come from here alone."""
    task = Task(f"T{rows.next_number(tx, 'task')}", title, TaskState.READY, source, tx.now, **facts)
    tasks.add(tx, task)
    return task


def _cases(cases: Sequence[str], known: Collection[str] | None) -> tuple[str, ...]:
    if len(cases) > NAMED:
        raise Refused(f"a task names at most {NAMED} cases (got {len(cases)}): use a pattern such as torture/20*")
    for case in cases:
        if known is not None and not expand((case,), known):
            example = f", for example {min(known)}" if known else ""
            raise Refused(f"no visible case is or matches {one_line(case, 60)!r}: cases are suite/name{example}")
    return _both(map(one_line, cases))


def _both(names: Iterable[str], more: Iterable[str] = ()) -> tuple[str, ...]:
    """The names in order, each once."""
    return tuple(dict.fromkeys((*names, *more)))


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
    return _both(one_line(str(PurePosixPath(touch))) for touch in touches)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a folder of one side holds, is, or lies in one of the other. Undeclared overlaps nothing."""
    paths = [PurePosixPath(other) for other in others]
    mine = [PurePosixPath(one) for one in some]
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a in mine for b in paths)


def _refuse_double(tx: Tx, title: str, cases: tuple[str, ...], task: Task) -> None:
    if task.title.casefold() == title.casefold():
        raise Refused(f"{task.id} has this title already")
    if cases and set(cases) == set(task.cases):
        raise Refused(f"{task.id} {task.title!r} is about the same cases already")
    held = tasks.claim_on(tx.db, task.id)
    if cases and held and set(cases) <= set(task.cases):
        raise Refused(f"{held.session} works on these cases as {task.id} {task.title!r}")


def drop_task(tx: Tx, task_id: str, reason: str, by: str) -> Task:
    """Drops a task that nobody holds. Raises `Refused`."""
    task = _free(tx, task_id)
    _drop(tx, task, one_line(reason), by)
    return task


def merge(tx: Tx, into: str, others: Sequence[str], by: str) -> Task:
    """Gives the cases, folders and dependants of `others` to the open task `into`, and drops them. Raises `Refused`."""
    kept = get(tx.db, into)
    if kept.state not in OPEN:
        raise Refused(f"{into} is {kept.state}: merge into a task that is open")
    if into in others:
        raise Refused(f"{into} cannot be merged into itself")
    for other in _both(others):
        try:
            task = _free(tx, other)
        except Refused as why:
            raise Refused(f"nothing was merged, because {why}") from why
        cases, touches = _both(kept.cases, task.cases), _both(kept.touches, task.touches)
        kept = dataclasses.replace(kept, cases=cases, touches=touches)
        _drop(tx, task, f"merged into {into}", by, into=into)
        for waiting in tasks.open_tasks(tx.db):
            if other in waiting.after:
                then = _both(into if one == other else one for one in waiting.after)
                rows.update(tx, "task", waiting.id, after=tuple(one for one in then if one != waiting.id))
    rows.update(tx, "task", into, cases=kept.cases, touches=kept.touches)
    return get(tx.db, into)


def order(tx: Tx, ids: Sequence[str], by: str) -> None:
    """Puts these tasks before all others, in this order; an earlier order is forgotten. Raises `Refused`."""
    tx.run("UPDATE task SET priority = 0 WHERE priority < 0")
    for place, name in enumerate(dict.fromkeys(ids)):
        rows.update(tx, "task", get(tx.db, name).id, order=float(place - len(ids)))
    tx.journal("tasks-ordered", seat_of(by), tasks=list(ids), by=by)


def _free(tx: Tx, task_id: str) -> Task:
    """The task, which nobody holds. Raises `Refused`."""
    task, held = get(tx.db, task_id), tasks.claim_on(tx.db, task_id)
    if held is not None:
        raise Refused(f"{held.session} works on {task_id} since {held.since:%H:%M}: leave it a note, or wait")
    if task.state is not TaskState.READY:
        raise Refused(f"{task_id} is {task.state} already: {task.reason}")
    return task


def _drop(tx: Tx, task: Task, reason: str, by: str, *, into: str = "") -> None:
    rows.update(tx, "task", task.id, state=TaskState.DROPPED, reason=reason, merged=into)
    tx.journal("task-dropped", seat_of(by), task=task.id, reason=reason, by=by)


def close(tx: Tx, task_id: str, reason: str) -> None:
    """Closes an open task and ends its claim; another task stays as it is."""
    if get(tx.db, task_id).state in OPEN:
        held = tasks.claim_on(tx.db, task_id)
        tasks.end_claim(tx, task_id, TaskState.CLOSED, reason=one_line(reason))
        tx.journal("task-closed", seat_of(held.session) if held else "", task=task_id, reason=one_line(reason))


def close_passing(tx: Tx, passed: Collection[str], known: Collection[str]) -> list[str]:
    """Closes every open task whose cases, ids and patterns alike, all pass on main. `known` are all visible cases."""
    closed, passed, known = [], set(passed), set(known)
    for task in tasks.open_tasks(tx.db):
        meant = [expand((case,), known) for case in task.cases]
        every = set().union(*meant)
        if meant and all(meant) and every <= passed:
            close(tx, task.id, f"{len(every)} of {len(every)} cases pass")
            closed.append(task.id)
    return closed


# Claims


def ready(db: sqlite3.Connection, weights: Mapping[str, float] | None = None) -> list[Task]:
    """Tasks that may be claimed now, best first. `weights` say what a suite's milestones are worth."""
    open_now, promised = tasks.open_tasks(db), tasks.promises(db)
    names = {task.id for task in open_now}
    free = [task for task in open_now if task.state is TaskState.READY and task.releases < SET_ASIDE]
    able = [task for task in free if not names.intersection(task.after) and not promised_by(task, promised)]
    return sorted(able, key=lambda task: _rank(task, weights or {}))


def _rank(task: Task, weights: Mapping[str, float]) -> tuple[float, int, float, int, int]:
    weight = max((weights.get(case.split("/", 1)[0], 0.0) for case in task.cases), default=0.0)
    return task.order, -len(task.cases), -weight, task.bounces + task.releases, int(task.id[1:])


def promised_by(task: Task, promises: Iterable[Change]) -> str:
    """The queued change that was made for the task, or the last of those that together fix all its cases, or ""."""
    missing = set(task.cases)
    for promise in promises:
        if promise.task == task.id or (missing and not (missing := missing.difference(promise.fixes))):
            return promise.id
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
        raise Refused(f"you hold {mine.task}: submit or release it before you take another")
    _free(tx, task_id)
    if rows.first(tx.db, Session, "WHERE id = ? AND state <> ?", session, SessionState.ENDED.value) is None:
        raise Refused(f"session {session} has ended: only a live session can hold a task")
    waits = [name for name in task.after if get(tx.db, name).state in OPEN]
    if waits:
        raise Refused(f"{task_id} waits for {', '.join(waits)}: take that, or another")
    change = promised_by(task, tasks.promises(tx.db))
    if change:
        raise Refused(f"{change} in the merge queue already fixes {task_id}: take another task")
    folders = declared(touches) or task.touches
    taken = Claim(task_id, session, tx.epoch, tx.now, few_lines(plan, PLAN_LINES), folders)
    rows.insert(tx, "claim", taken)
    rows.update(tx, "task", task_id, state=TaskState.CLAIMED)
    tx.journal("claimed", seat_of(session), task=task_id, session=session, plan=taken.plan)
    return taken


def claim_own(tx: Tx, title: str, touches: Sequence[str], session: str, plan: str = "") -> Claim:
    """Writes a task of the session's own and claims it. Raises `Refused`, which undoes the caller's transaction."""
    task = add_task(tx, title, TaskSource.SEAT, by=session, touches=touches)
    return claim(tx, task.id, session, plan)


def release(tx: Tx, session: str, reason: str, text: str = "", *, gave_up: bool = True) -> Task:
    """Ends the session's claim, with a note for whoever takes the task next. Raises `Refused` when it holds none.

    `gave_up`: the task counts as tried once more by somebody who could not do it.
    """
    mine = tasks.claim_of(tx.db, session)
    if mine is None:
        raise Refused("you hold no task")
    if few_lines(text):
        note(tx, mine.task, session, text)
    releases = get(tx.db, mine.task).releases + gave_up
    tasks.end_claim(tx, mine.task, TaskState.READY, releases=releases)
    tx.journal("released", seat_of(session), task=mine.task, session=session, reason=one_line(reason))
    return get(tx.db, mine.task)


def recover(tx: Tx, continuing: Collection[str]) -> None:
    """At the start of an epoch: sessions that go on keep their claims. All others lose theirs."""
    for held in tasks.claims(tx.db):
        if held.session not in continuing:
            release(tx, held.session, "its session did not go on after a resume", gave_up=False)
    tx.run("UPDATE claim SET epoch = ?", tx.epoch)


# Notes


def note(tx: Tx, topic: str, session: str, text: str) -> None:
    """Leaves a note; replaces the session's earlier one on the topic. Raises `Refused` when it says nothing."""
    topic, text = one_line(topic, TOPIC), few_lines(text)
    if not topic or not text:
        raise Refused("a note needs a topic (a task, a folder, suspect-case, planner, operator) and a text")
    tx.run("DELETE FROM note WHERE topic = ? AND session = ?", topic, session)
    rows.insert(tx, "note", Note(topic, session, tx.now, text))
    tx.journal("noted", seat_of(session), session=session, topic=topic, text=text)


def notes_for(db: sqlite3.Connection, task: Task) -> list[Note]:
    """What earlier sessions left on the task and its folders, newest first, the task's own before the folders'."""
    return [found for topic in (task.id, *task.touches) for found in tasks.notes(db, topic)]
