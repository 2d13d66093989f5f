"""The board: tasks, and who may work on which. The one authority on claims (P4).

What changes something takes the transaction it belongs to, so that a verb's effect and its stored answer are one. A
claim is a row that names a live session: no heartbeat and no clock. It ends with its task, its release or its session.
"""

import re
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from fnmatch import filter as matching
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Final, TypedDict, Unpack

from orchestrator.quoting import few_lines, one_line
from orchestrator.records import Change, Claim, Note, Session, SessionState, Task, TaskSource, TaskState
from orchestrator.store import Tx, changes, rows, sessions

TITLE: Final = 120  # characters
TOPIC: Final = 100
NAMED: Final = 200  # cases or patterns that one task written by hand may name
FOLDERS: Final = 20
PLAN_LINES: Final = 3
BOUNCES: Final = 3  # of one owner's changes for a task; then it goes back to the board
SET_ASIDE: Final = 3  # owners that gave a task back; then it is `stuck` until a planner cuts it anew
OPEN: Final = (TaskState.READY, TaskState.CLAIMED)


class Refused(Exception):
    """The board says no. The message says why and what to do instead."""


class Words(TypedDict, total=False):
    """What somebody writes about a task. `touches` and `after` are taken away by an empty list. `known` are the visible
    case ids that `cases` must name or match; None takes them as they are."""

    why: str
    cases: Sequence[str]
    touches: Sequence[str] | None
    after: Sequence[str] | None
    known: Collection[str] | None


def seat_of(session: str) -> str:
    return session.rpartition("/")[0] or session


def get(db: sqlite3.Connection, task: str) -> Task:
    """Raises `Refused` when there is no such task."""
    try:
        return rows.get(db, Task, task)
    except KeyError:
        raise Refused(f"there is no task {one_line(task, 20)}: `tasks` shows the board") from None


def open_tasks(db: sqlite3.Connection) -> list[Task]:
    return rows.find(db, Task, "WHERE state IN ('ready', 'claimed') ORDER BY number")


def open_ids(db: sqlite3.Connection) -> set[str]:
    return {row["id"] for row in db.execute("SELECT id FROM task WHERE state IN ('ready', 'claimed')")}


def claims(db: sqlite3.Connection) -> list[Claim]:
    return rows.find(db, Claim, "ORDER BY since, task")


def claim_of(db: sqlite3.Connection, session: str) -> Claim | None:
    return rows.first(db, Claim, "WHERE session = ?", session)


def claim_on(db: sqlite3.Connection, task: str) -> Claim | None:
    return rows.first(db, Claim, "WHERE task = ?", task)


# Writing tasks


def add_task(tx: Tx, title: str, source: TaskSource, *, by: str, **words: Unpack[Words]) -> Task:
    """Writes a task.

    Raises `Refused` for what names no case, folder or task, and for what an open task already covers. Cases that the
    new task names leave the groups of failing cases that nobody holds: this is how a planner splits one.
    """
    facts = _checked(tx, title, words)
    if "title" not in facts:
        raise Refused("a task needs a title that names the defect or the ability")
    open_now, named = open_tasks(tx.db), set(facts.get("cases", ()))
    for other in open_now:
        if other.title.casefold() == facts["title"].casefold():
            raise Refused(f"{other.id} has this title already")
        if named and named == set(other.cases):
            raise Refused(f"{other.id} {other.title!r} is about the same cases already")
        if named and named <= set(other.cases) and (held := claim_on(tx.db, other.id)):
            raise Refused(f"{held.session} works on these cases as {other.id} {other.title!r}")
    task = put(tx, source=source, by=by, **facts)
    for group in open_now:
        rest = tuple(case for case in group.cases if case not in named)
        if group.signature and group.state is TaskState.READY and rest != group.cases:
            rows.update(tx, "task", group.id, cases=rest)
            if not rest:
                drop_task(tx, group.id, f"all of its cases went to {task.id}", by, into=task.id)
    return task


def rewrite(tx: Tx, task_id: str, title: str, *, by: str, **words: Unpack[Words]) -> Task:
    """Changes what is given of a task that nobody holds, which then counts as untried and as the planner's own words;
    of one that somebody works on why and after alone, and its holder is told.

    Raises `Refused`.
    """
    if (held := claim_on(tx.db, task_id)) and not (title or words.get("cases") or words.get("touches") is not None):
        facts = _checked(tx, "", words)
        if not facts:
            return get(tx.db, task_id)
        rows.update(tx, "task", task_id, **facts)
        after = [f"it comes after {', '.join(facts['after']) or 'none'}"] if "after" in facts else []
        what = "; ".join([*after, *(f"why: > {one_line(why)}" for why in [facts.get("why")] if why)])
        sessions.say(tx, held.session, "run", f"{seat_of(by)} changed {task_id}, which you hold: {what}")
        return get(tx.db, task_id)
    _free(tx.db, task_id)
    rows.update(tx, "task", task_id, by=by, releases=0, **_checked(tx, title, words))
    return get(tx.db, task_id)


def refuse_twin(db: sqlite3.Connection, title: str, touches: Sequence[str], session: str) -> None:
    """Raises `Refused` for a task of a session's own that has the words of an open task, or lies in folders in which
    somebody works or has handed in a change that is not judged yet."""
    words, folders, promised = _words(title), declared(touches), {one.task: one for one in changes.live(db)}
    for other in open_tasks(db):
        held, change = claim_on(db, other.id), promised.get(other.id)
        who = held.session if held else f"{change.id} of {change.session or 'the run'}" if change else ""
        if words and words == _words(other.title):
            holder = f", held by {who}" if who else f": claim {other.id}"
            raise Refused(f"{other.id} {other.title!r} has the same words{holder}")
        theirs = held.touches if held else other.touches
        if who and who != session and overlap(folders, theirs):
            raise Refused(f"{who} works on {other.id} {other.title!r} in {', '.join(theirs)}: take another, or wait")


def _words(title: str) -> list[str]:
    return sorted(re.findall(r"\w+", title.casefold()))


def put(tx: Tx, title: str, source: TaskSource, *, by: str, **facts: Any) -> Task:
    """Writes a task whose fields are already what they should be. Ids come from here alone."""
    number = rows.next_number(tx, "task")
    task = Task(f"T{number}", title, TaskState.READY, source, tx.now, by, **facts)
    rows.insert(tx, task, number=number)
    tx.journal("task-added", task=task.id, title=title, source=source, by=by, cases=len(task.cases))
    return task


def _checked(tx: Tx, title: str, words: Words) -> dict[str, Any]:
    """The fields of a task that somebody's words give it."""
    cases, known = words.get("cases", ()), words.get("known")
    touches, after = words.get("touches"), words.get("after")
    if len(cases) > NAMED:
        raise Refused(f"a task names at most {NAMED} cases (got {len(cases)}): use a pattern such as torture/20*")
    for case in cases:
        if known is not None and not meant(case, known):
            example = f", for example {min(known)}" if known else ""
            raise Refused(f"no visible case is or matches {one_line(case, 60)!r}: cases are suite/name{example}")
    said = {
        "title": one_line(title, TITLE),
        "why": few_lines(words.get("why", "")),
        "cases": _once(map(one_line, cases)),
    }
    given: dict[str, Any] = {name: value for name, value in said.items() if value}
    if touches is not None:
        given["touches"] = declared(touches)
    if after is not None:
        given["after"] = tuple(get(tx.db, earlier).id for earlier in after)
    return given


def _once(*names: Iterable[str]) -> tuple[str, ...]:
    """All names in their order, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(names)))


def meant(case: str, known: Collection[str]) -> Collection[str]:
    """Known cases that an id or pattern means."""
    return (case,) if case in known else matching(known, case)


def declared(touches: Sequence[str]) -> tuple[str, ...]:
    """Folders and files as they are compared: relative to the repository, without `.`; raises `Refused` for others."""
    if len(touches) > FOLDERS:
        raise Refused(f"touches: at most {FOLDERS} folders (got {len(touches)})")
    for touch in touches:
        if ".." in PurePosixPath(touch).parts or touch.startswith("/"):
            raise Refused(f"touches: {one_line(touch, 60)!r} is not a folder or file of the repository")
    return _once(one_line(str(PurePosixPath(touch))) for touch in touches)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a folder of one side holds, is, or lies in one of the other. Undeclared overlaps nothing."""
    paths = [PurePosixPath(other) for other in others]
    mine = [PurePosixPath(one) for one in some]
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a in mine for b in paths)


def drop_task(tx: Tx, task_id: str, reason: str, by: str, *, into: str = "") -> Task:
    """Drops a task that nobody holds; `into` is the task that took its cases over. Raises `Refused`."""
    task, reason = _free(tx.db, task_id), one_line(reason)
    rows.update(tx, "task", task_id, state=TaskState.DROPPED, reason=reason, merged=into)
    tx.journal("task-dropped", seat_of(by), task=task_id, reason=reason, by=by)
    return task


def merge(tx: Tx, into: str, others: Sequence[str], by: str) -> Task:
    """Gives the cases, folders and dependants of `others` to the open task `into`, and drops them. Raises `Refused`."""
    kept = get(tx.db, into)
    if kept.state not in OPEN:
        raise Refused(f"{into} is {kept.state}: merge into a task that is open")
    if into in others:
        raise Refused(f"{into} cannot be merged into itself")
    every = [kept, *(drop_task(tx, other, f"merged into {into}", by, into=into) for other in _once(others))]
    cases, touches = _once(*(task.cases for task in every)), _once(*(task.touches for task in every))
    rows.update(tx, "task", into, cases=cases, touches=touches)
    for waiting in open_tasks(tx.db):
        after = _once(into if one in others else one for one in waiting.after)
        if after != waiting.after:
            rows.update(tx, "task", waiting.id, after=tuple(one for one in after if one != waiting.id))
    return get(tx.db, into)


def order(tx: Tx, ids: Sequence[str], by: str) -> None:
    """Puts these tasks before all others, in this order; an earlier order is forgotten. Raises `Refused`."""
    tx.run("UPDATE task SET priority = 0 WHERE priority < 0")
    for place, name in enumerate(dict.fromkeys(ids)):
        rows.update(tx, "task", get(tx.db, name).id, order=float(place - len(ids)))
    tx.journal("tasks-ordered", seat_of(by), tasks=list(ids), by=by)


def _free(db: sqlite3.Connection, task_id: str) -> Task:
    """The task, which nobody holds. Raises `Refused`."""
    task, held = get(db, task_id), claim_on(db, task_id)
    if held is not None:
        raise Refused(f"{held.session} works on {task_id} since {held.since:%H:%M}: leave it a note, or wait")
    if task.state is not TaskState.READY:
        raise Refused(f"{task_id} is {task.state} already: {task.reason}")
    return task


def close(tx: Tx, task_id: str, reason: str) -> None:
    """Closes an open task and ends its claim; another task stays as it is."""
    if get(tx.db, task_id).state in OPEN:
        held, reason = claim_on(tx.db, task_id), one_line(reason)
        _end_claim(tx, task_id, TaskState.CLOSED, reason=reason)
        tx.journal("task-closed", seat_of(held.session) if held else "", task=task_id, reason=reason)


# Claims


def ready(db: sqlite3.Connection) -> list[Task]:
    """Tasks that may be claimed now, best first: as a planner ordered them, then those for which nothing landed
    yet, then those with the most cases."""
    free = rows.find(db, Task, "WHERE state = 'ready' AND releases < ? ORDER BY number", SET_ASIDE)
    names, promised = open_ids(db) if any(task.after for task in free) else set[str](), changes.promises(db)
    able = [task for task in free if not names.intersection(task.after) and not promised_by(task, promised)]
    tried = landed(db)
    return sorted(  # then by age
        able, key=lambda task: (task.order, task.id in tried, -len(task.cases), task.bounces + task.releases)
    )


def landed(db: sqlite3.Connection) -> dict[str, str]:
    """The newest change that landed for each task that had one: what is left of it is what that did not do."""
    sql = "SELECT task, id, max(number) FROM change WHERE state = 'landed' GROUP BY task"
    return {row["task"]: row["id"] for row in db.execute(sql)}


def promised_by(task: Task, promises: Iterable[Change]) -> str:
    """The change that was made for the task, or the last of those that together fix all its cases, or ""."""
    missing = set(task.cases)
    for promise in promises:
        if promise.task == task.id or (missing and not (missing := missing.difference(promise.fixes))):
            return promise.id
    return ""


def claimable(db: sqlite3.Connection, task_id: str, session: str) -> Task:
    """The task, which a session without one may claim. Raises `Refused` in words: who holds it, what it waits for, or
    which queued change already fixes it."""
    task, mine = get(db, task_id), claim_of(db, session)
    if mine is not None:
        raise Refused(f"you hold {mine.task}: submit or release it before you take another")
    _free(db, task_id)
    if rows.first(db, Session, "WHERE id = ? AND state <> ?", session, SessionState.ENDED.value) is None:
        raise Refused(f"session {session} has ended: only a live session can hold a task")
    if waits := [name for name in task.after if get(db, name).state in OPEN]:
        raise Refused(f"{task_id} waits for {', '.join(waits)}: take that, or another")
    if change := promised_by(task, changes.promises(db)):
        raise Refused(f"{change} in the merge queue already fixes {task_id}: take another task")
    return task


def claim(tx: Tx, task_id: str, session: str, plan: str = "", touches: Sequence[str] = ()) -> Claim:
    """Gives one live session the sole right to a task. Asking again for what it holds changes nothing. Raises
    `Refused`."""
    mine = claim_of(tx.db, session)
    if mine is not None and mine.task == task_id:
        return mine
    task = claimable(tx.db, task_id, session)
    folders = declared(touches) or task.touches
    taken = Claim(task_id, session, tx.epoch, tx.now, few_lines(plan, PLAN_LINES), folders)
    rows.insert(tx, taken)
    rows.update(tx, "task", task_id, state=TaskState.CLAIMED)
    tx.journal("claimed", seat_of(session), task=task_id, session=session, plan=taken.plan)
    return taken


def release(tx: Tx, session: str, reason: str, note: str = "", *, gave_up: bool = True, kept: str = "work kept") -> str:
    """Ends the session's claim, with a note for whoever takes the task next. Raises `Refused` when it holds none.

    `gave_up`: the task counts as tried once more by somebody who could not do it. `kept`: what
    became of its work. Returns the session's answer.
    """
    mine = claim_of(tx.db, session)
    if mine is None:
        raise Refused("you hold no task")
    if few_lines(note):
        leave_note(tx, session, mine.task, note)
    releases = get(tx.db, mine.task).releases + gave_up
    _end_claim(tx, mine.task, TaskState.READY, releases=releases)
    tx.journal("released", seat_of(session), task=mine.task, session=session, reason=one_line(reason))
    return f"{mine.task} released, {kept}"


def wait_for(tx: Tx, session: str, reason: str) -> bool:
    """Whether a release's reason is `waits for T9 …`, an open task that does not itself wait for the session's: then
    that one comes after it."""
    said, mine = re.match(r"waits for (T\d+)\b", reason.strip()), claim_of(tx.db, session)
    if said is None or mine is None or said[1] not in (still := open_ids(tx.db)):
        return False
    before = [said[1]]
    for earlier in before:  # which grows meanwhile
        before += [one for one in get(tx.db, earlier).after if one in still and one not in before]
    if mine.task not in before:
        rows.update(tx, "task", mine.task, after=_once(get(tx.db, mine.task).after, (said[1],)))
    return mine.task not in before


def bounced(db: sqlite3.Connection, task: str, session: str = "") -> list[Change]:
    """The changes for a task that bounced, of all sessions or of one; oldest first."""
    theirs = "WHERE task = ? AND state = 'bounced' AND ? IN ('', session) ORDER BY number"
    return rows.find(db, Change, theirs, task, session)


def worn_out(db: sqlite3.Connection, session: str, task: str) -> str:
    """Why a session should give back the task that it holds: `BOUNCES` of its changes for it bounced; or "". What
    earlier owners tried counts for the task, not against the next one."""
    held, tried = claim_of(db, session), bounced(db, task, session)
    if held is None or held.task != task or len(tried) < BOUNCES:
        return ""
    return f"{len(tried)} changes for it bounced: {', '.join(change.id for change in tried)}"


def recover(tx: Tx, continuing: Collection[str]) -> None:
    """At the start of an epoch: sessions that go on keep their claims. All others lose theirs."""
    for held in claims(tx.db):
        if held.session not in continuing:
            release(tx, held.session, "its session did not go on after a resume", gave_up=False)
    tx.run("UPDATE claim SET epoch = ?", tx.epoch)


def _end_claim(tx: Tx, task: str, state: TaskState, **fields: object) -> None:
    tx.run("DELETE FROM claim WHERE task = ?", task)
    rows.update(tx, "task", task, state=state, **fields)


# Notes


def leave_note(tx: Tx, session: str, topic: str, text: str) -> str:
    """Leaves a note; replaces the session's earlier one on the topic. Raises `Refused` when it says nothing.

    Returns the session's answer.
    """
    topic, text = one_line(topic, TOPIC), few_lines(text)
    if not topic or not text:
        raise Refused("a note needs a topic (a task, a folder, suspect-case, planner, operator) and a text")
    tx.run("DELETE FROM note WHERE topic = ? AND session = ?", topic, session)
    rows.insert(tx, Note(topic, session, tx.now, text))
    tx.journal("noted", seat_of(session), session=session, topic=topic, text=text)
    return "noted"


def notes(db: sqlite3.Connection, topic: str) -> list[Note]:
    """Newest first."""
    return rows.find(db, Note, "WHERE topic = ? ORDER BY at DESC, session", topic)
