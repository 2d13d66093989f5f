"""What agents read of the board: the list of tasks, one task, a session's opening, and the lock files.

What agents, programs and failing cases wrote is quoted in all of them.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain
from pathlib import Path
from textwrap import indent
from typing import Final

from orchestrator import board, excused
from orchestrator.quoting import QUOTE, one_line, visible
from orchestrator.records import Change, Claim, ExcuseKind, Session, Task, TaskState
from orchestrator.store import Tx, changes, rows
from orchestrator.watch.queries import SQL
from orchestrator.watch.render import some
from verifiers.scorecard import Scorecard

LINES: Final = 40  # of the list
STUCK_TIMES: Final = 2  # bounces or releases
STUCK_FOR: Final = timedelta(hours=2)
TRIED: Final = 3  # earlier sessions named
FOLDERS: Final = 3
HELD: Final = 20  # claims named below the list
CASES: Final = 10
LOCKED_CASES: Final = 5  # named in a lock file
CHANGES_SHOWN: Final = 5
NOTES_SHOWN: Final = 5
BOUNCES_SHOWN: Final = 6  # the newest


class Show(StrEnum):
    READY = "ready"
    MINE = "mine"
    STUCK = "stuck"
    ALL = "all"


def render_tasks(
    db: sqlite3.Connection,
    show: Show,
    now: datetime,
    *,
    session: str = "",
    limit: int = 10,
    card: Scorecard | None = None,
) -> str:
    """At most `LINES` lines. `session` is whose tasks `mine` means, `card` is main's."""
    ready = board.ready(db)
    shown, none = _asked(db, show, ready, now, session)
    sql = "SELECT data ->> 'task', data ->> 'session' FROM journal WHERE kind = 'claimed' AND data ->> 'task' IN "
    wanted = json.dumps([task.id for task in shown[:limit]])
    taken = db.execute(f"{sql} (SELECT value FROM json_each(?)) ORDER BY seq", (wanted,)).fetchall()
    promises, landed = changes.promises(db), board.landed(db)
    open_now = board.open_ids(db) if any(task.after for task in shown[:limit]) else set[str]()
    many = Counter(dict(db.execute("SELECT state, count(*) FROM task GROUP BY state")))
    waiting, over = many["ready"] - len(ready), many["closed"] + many["dropped"]
    lines = [f"{len(ready)} ready, {many['claimed']} claimed, {waiting} waiting, {over} closed or dropped"]
    lines += _warnings(db, now)
    for task in shown[:limit]:
        before = [name for name in task.after if name in open_now]
        change = board.promised_by(task, promises)
        holders = [name for id, name in taken if id == task.id]
        left = _left(db, task, landed[task.id], card) if task.id in landed and task.state in board.OPEN else ""
        lines.append(_line(task, board.claim_on(db, task.id), holders, before, change, left))
        if show is Show.STUCK:
            newest = board.notes(db, task.id)[:1]
            lines += [f"    {note.session}: > {note.text.splitlines()[0]}" for note in newest]
    lines += [] if shown else [none]
    lines += [f"… {len(shown) - limit} more"] if len(shown) > limit else []
    held = [f"{one.task} {board.seat_of(one.session)} ({', '.join(one.touches[:FOLDERS])})" for one in board.claims(db)]
    held = [one.removesuffix(" ()") for one in held]
    last = [f"held: {', '.join(held[:HELD])}{' …' * (len(held) > HELD)}"] if held and show is Show.READY else []
    return "\n".join([*lines[: LINES - len(last)], *last])


def _left(db: sqlite3.Connection, task: Task, change: str, card: Scorecard | None) -> str:
    """What a landed change left of its task."""
    known = card.verdicts.keys() if card else ()
    named = set(chain.from_iterable(board.meant(case, known) for case in task.cases))
    failing, every = named - (card.passed() if card else set()), named | set(rows.get(db, Change, change).fixes)
    return f"landed {change}" + (f", {len(failing)} of {len(every)} cases still fail" if failing and card else "")


def _asked(
    db: sqlite3.Connection, show: Show, ready: list[Task], now: datetime, session: str
) -> tuple[list[Task], str]:
    """The tasks that are asked for, and what is said when there are none."""
    if show is Show.READY:
        return ready, "nothing is ready"
    if show is Show.MINE:
        held = board.claim_of(db, session)
        return [board.get(db, held.task)] if held else [], "you hold no task"
    every, claims = rows.find(db, Task, "ORDER BY number"), {held.task: held for held in board.claims(db)}
    if show is Show.STUCK:
        return [task for task in every if _stuck(task, claims.get(task.id), now)], "none"
    able = {task.id for task in ready}
    waiting = [task for task in every if task.state is TaskState.READY and task.id not in able]
    claimed = [task for task in every if task.id in claims]
    return [*ready, *waiting, *claimed, *(task for task in reversed(every) if task.state not in board.OPEN)], "none"


def _warnings(db: sqlite3.Connection, now: datetime) -> list[str]:
    """What the ratchet lets go, and the files that changes bounce over."""
    found = excused.standing(db, now)
    flaky = [f"{one.case} ({one.task})" for one in found if one.kind is ExcuseKind.FLAKY]
    waived = [f"{one.case} until {one.until:%d %b %H:%M}" for one in found if one.until]
    hot = [row["text"] for row in db.execute(SQL["hot_files"])]
    told = {"flaky, not counted as passing": flaky, "waived, may be lost": waived, "hot files": hot}
    return [f"{label}: {some(what)}" for label, what in told.items() if what]


def describe(db: sqlite3.Connection, task: Task, session: str, shown: int = CASES) -> str:
    """Everything about one task, with at most `shown` of its cases: how to run one, what bounced, notes, who else is in
    its folders.

    `session` is who asks.
    """
    cut = f" and {len(task.cases) - shown} more" if len(task.cases) > shown else ""
    facts = {
        "why": " ".join(task.why.splitlines()),
        "touches": " ".join(task.touches),
        "after": " ".join(task.after),
        f"cases ({len(task.cases)})": " ".join(task.cases[:shown]) + cut,
        "run one": f"verify {task.cases[0]}   its source: /team/cases/" if task.cases else "",
    }
    others = [held for held in board.claims(db) if held.session != session]
    here = [held for held in others if board.overlap(task.touches, held.touches)]
    tried = board.bounced(db, task.id)[-BOUNCES_SHOWN:]
    return "\n".join(
        [
            f"{task.id} {task.title}",
            f"{task.state}, from {task.source} {task.by}".rstrip(),
            *(f"{label}: {text}" for label, text in facts.items() if text),
            *(f"{one.id} of {one.session} bounced: > {one_line(one.reason.partition(chr(10))[0])}" for one in tried),
            *(f"note from {line}" for line in note_lines(db, task)),
            *(f"also here: {held.session} on {held.task} in {', '.join(held.touches)}" for held in here),
        ]
    )


def note_lines(db: sqlite3.Connection, task: Task) -> list[str]:
    """What earlier sessions left on the task and its folders, newest first, the task's own before the folders'."""
    left = [note for topic in (task.id, *task.touches) for note in board.notes(db, topic)]
    return [f"{note.session}: > {line}" for note in left for line in note.text.splitlines()]


def _stuck(task: Task, held: Claim | None, now: datetime) -> bool:
    """Bounced twice, released twice, or held for over two hours, and still open."""
    tried = max(task.bounces, task.releases) >= STUCK_TIMES
    return task.state in board.OPEN and (tried or (held is not None and now - held.since > STUCK_FOR))


def _line(task: Task, held: Claim | None, holders: list[str], before: list[str], change: str, left: str) -> str:
    parts = [f'{task.id} "{task.title.replace(chr(34), chr(39))}"']
    if task.cases:
        parts.append(f"{len(task.cases)} case{'s' * (len(task.cases) > 1)}, first {task.cases[0]}")
    parts += [left] if left else []
    if task.touches:
        parts.append("in " + ", ".join(task.touches[:FOLDERS]) + " …" * (len(task.touches) > FOLDERS))
    if tried := [one for one in holders if held is None or one != held.session]:
        counts = [f"{n} {word}" for n, word in ((task.bounces, "bounced"), (task.releases, "released")) if n]
        marks = f" ({', '.join(counts)})" if counts else ""
        parts.append(f"tried by {', '.join(dict.fromkeys(tried[-TRIED:]))}{marks}")
    if task.state not in board.OPEN:
        parts.append(f"{task.state}: {task.reason}")
    elif held is not None:
        parts.append(f"held by {held.session} since {held.since:%H:%M}")
    else:
        parts += [f"waits for {', '.join(before)}"] if before else []
        parts += [f"fixed by {change} in the queue"] if change else []
    return " · ".join(parts)


# A session's opening


def opening(
    tx: Tx, session: Session, task: Task | None, *, counts: Mapping[str, tuple[int, int]], others: int, left: str
) -> str:
    """What a session is told about itself: `counts` of main by suite, how many `others` work, what is `left` to spend.
    Without a task it has to choose one."""
    article = "an" if session.role[:1] in "aeiou" else "a"
    named = f"{task.id} {task.title}" if task else "none yet: call tasks"
    suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in counts.items())
    landed = landed_since(tx.db, session.seat)[-CHANGES_SHOWN:]
    notes = note_lines(tx.db, task)[:NOTES_SHOWN] if task else []
    judged = [change for change in changes.live(tx.db) if change.seat == session.seat]
    return "\n".join(
        [
            f"You are {session.seat}, {article} {session.role}, in session {session.number} of this seat. "
            f"{others} other seats work at the same time.",
            f"Task: {named}    Left for this session: {left}.",
            f"Main: {session.base[:7]}, {suites or 'nothing passes yet'}.",
            *(f"Being judged: {one.id} of {one.session}; if it bounces, you repair it first." for one in judged),
            f"Changed since your last session:{'' if landed else ' nothing.'}",
            *(f"  {visible(line)}" for line in landed),
            f"Notes of whoever held this task before:{'' if notes else ' none.'}",
            *(f"  {line}" for line in notes),
            *(["", describe(tx.db, task, session.id)] if task else []),
        ]
    )


def landed_since(db: sqlite3.Connection, seat: str) -> list[str]:
    """One line for each change that landed since the seat's last session began."""
    began = "SELECT coalesce(max(started), '') FROM session WHERE seat = ?"
    landed = rows.find(db, Change, f"WHERE state = 'landed' AND ended > ({began}) ORDER BY ended", seat)
    return [f"{change.id} {change.seat}: {change.summary.strip().splitlines()[0][:100]}" for change in landed]


# Lock files


def locks(db: sqlite3.Connection) -> dict[str, str]:
    """What stands in each lock file of `current_tasks/`, by its name: claims as agents and people see them."""
    return {f"{held.task}.txt": _lock(rows.get(db, Task, held.task), held) for held in board.claims(db)}


def _lock(task: Task, held: Claim) -> str:
    """What agents and programs wrote stands behind `>`."""
    first = f", the first {LOCKED_CASES}" if len(task.cases) > LOCKED_CASES else ""
    written = {
        "touches": "\n".join(held.touches),
        f"cases    {len(task.cases)}{first}": "\n".join(task.cases[:LOCKED_CASES]),
        "failure": one_line(task.signature),
        "plan": held.plan,
    }
    lines = [
        f"task     {task.id}",
        indent(task.title, QUOTE),
        f"owner    {board.seat_of(held.session)}",
        f"session  {held.session}",
        f"since    {held.since:%Y-%m-%d %H:%M:%S} UTC",
        *(f"{label}\n{indent(text, QUOTE)}" for label, text in written.items() if text),
    ]
    return "\n".join(lines) + "\n"


def sync_locks(folder: Path, wanted: Mapping[str, str]) -> None:
    """Makes the folder show exactly these claims, each file whole and at once. Blocks: call it from a worker thread.

    The files are copies of the tables, never read back: this makes them right again whatever has become of them. The
    folder is mounted read-only beside every workspace and holds nothing else.
    """
    folder.mkdir(exist_ok=True)
    for entry in list(folder.iterdir()):
        if entry.name not in wanted:
            entry.unlink()
    for name, text in wanted.items():
        path, new = folder / name, folder / f"{name}.new"
        if not path.is_file() or path.read_text() != text:
            new.write_text(text)
            new.chmod(0o644)
            new.replace(path)
