"""The board as agents and people read it: totals first, one line a task, best first, titles quoted."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orchestrator import board
from orchestrator.records import Claim, Task, TaskState
from orchestrator.store import rows, tasks

LINES: Final = 40
STUCK_TIMES: Final = 2  # bounces or releases
STUCK_FOR: Final = timedelta(hours=2)
TRIED: Final = 3  # earlier sessions named
FOLDERS: Final = 3
CASES: Final = 10


class Show(StrEnum):
    READY = "ready"
    MINE = "mine"
    STUCK = "stuck"
    ALL = "all"


def render_tasks(db: sqlite3.Connection, show: Show, now: datetime, *, session: str = "", limit: int = 10) -> str:
    """At most `LINES` lines. `session` is whose tasks `mine` means."""
    every = rows.find(db, Task, "ORDER BY number")
    claims = {held.task: held for held in tasks.claims(db)}
    ready = board.ready(db)
    waiting = [task for task in every if task.state is TaskState.READY and task not in ready]
    claimed = [task for task in every if task.id in claims]
    over = [task for task in every if task.state not in board.OPEN]
    shown, none = {
        Show.READY: (ready, "nothing is ready"),
        Show.MINE: ([task for task in claimed if claims[task.id].session == session], "you hold no task"),
        Show.STUCK: ([task for task in every if _stuck(task, claims.get(task.id), now)], "none"),
        Show.ALL: ([*ready, *waiting, *claimed, *reversed(over)], "none"),
    }[show]
    holders, promises = tasks.holders(db), tasks.promises(db)
    open_now = {task.id for task in every if task.state in board.OPEN}
    lines = [f"{len(ready)} ready, {len(claimed)} claimed, {len(waiting)} waiting, {len(over)} closed or dropped"]
    for task in shown[:limit]:
        before = [name for name in task.after if name in open_now]
        change = board.promised_by(task, promises)
        lines.append(_line(task, claims.get(task.id), holders.get(task.id, []), before, change))
        if show is Show.STUCK:
            newest = tasks.notes(db, task.id)[:1]
            lines += [f"    {note.session}: > {note.text.splitlines()[0]}" for note in newest]
    lines += [] if shown else [none]
    lines += [f"… {len(shown) - limit} more"] if len(shown) > limit else []
    return "\n".join(lines[:LINES])


def describe(db: sqlite3.Connection, task: Task, session: str, shown: int = CASES) -> str:
    """Everything about one task, with at most `shown` of its cases: how to run one, notes, who else is in its folders.

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
    others = [held for held in tasks.claims(db) if held.session != session]
    here = [held for held in others if board.overlap(task.touches, held.touches)]
    return "\n".join(
        [
            f"{task.id} {task.title}",
            f"{task.state}, from {task.source} {task.by}".rstrip(),
            *(f"{label}: {text}" for label, text in facts.items() if text),
            *(f"note from {line}" for line in note_lines(db, task)),
            *(f"also here: {held.session} on {held.task} in {', '.join(held.touches)}" for held in here),
        ]
    )


def note_lines(db: sqlite3.Connection, task: Task) -> list[str]:
    """What earlier sessions left on the task and its folders, newest first, the task's own before the folders'."""
    left = [note for topic in (task.id, *task.touches) for note in tasks.notes(db, topic)]
    return [f"{note.session}: > {line}" for note in left for line in note.text.splitlines()]


def _stuck(task: Task, held: Claim | None, now: datetime) -> bool:
    """Bounced twice, released twice, or held for over two hours, and still open."""
    tried = max(task.bounces, task.releases) >= STUCK_TIMES
    return task.state in board.OPEN and (tried or (held is not None and now - held.since > STUCK_FOR))


def _line(task: Task, held: Claim | None, holders: list[str], before: list[str], change: str) -> str:
    parts = [f'{task.id} "{task.title.replace(chr(34), chr(39))}"']
    if task.cases:
        parts.append(f"{len(task.cases)} case{'s' * (len(task.cases) > 1)}, first {task.cases[0]}")
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
