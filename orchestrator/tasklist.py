"""The board as agents and people read it: totals first, one line a task, best first, titles quoted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orchestrator import board
from orchestrator.records import Claim, Task, TaskState
from orchestrator.store import tasks

LINES: Final = 40
STUCK_TIMES: Final = 2  # bounces or releases
STUCK_FOR: Final = timedelta(hours=2)
TRIED: Final = 3  # earlier sessions named
FOLDERS: Final = 3


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
    weights: Mapping[str, float] | None = None,
) -> str:
    """At most `LINES` lines. `session` is whose tasks `mine` means."""
    every = tasks.every(db)
    claims = {held.task: held for held in tasks.claims(db)}
    ready = board.ready(db, weights)
    names = {task.id for task in ready}
    waiting = [task for task in every if task.state is TaskState.READY and task.id not in names]
    claimed = [task for task in every if task.id in claims]
    over = [task for task in every if task.state in (TaskState.CLOSED, TaskState.DROPPED)]
    shown = {
        Show.READY: lambda: ready,
        Show.MINE: lambda: [task for task in claimed if claims[task.id].session == session],
        Show.STUCK: lambda: [task for task in every if stuck(task, claims.get(task.id), now)],
        Show.ALL: lambda: [*ready, *waiting, *claimed, *reversed(over)],
    }[show]()
    line = _liner(db, claims)
    lines = [
        f"{len(ready)} ready, {len(claimed)} claimed, {len(waiting)} waiting, {len(over)} closed or dropped",
        *(row for task in shown[: max(1, limit)] for row in (line(task), *_last_note(db, task, show))),
    ]
    if not shown:
        lines.append({Show.MINE: "you hold no task", Show.READY: "nothing is ready"}.get(show, "none"))
    rest = len(shown) - max(1, limit)
    if rest > 0 and len(lines) < LINES:
        lines.append(f"… {rest} more")
    return "\n".join(lines[:LINES])


def stuck(task: Task, held: Claim | None, now: datetime) -> bool:
    """Bounced twice, released twice, or held for over two hours, and still open."""
    if task.state not in (TaskState.READY, TaskState.CLAIMED):
        return False
    tried = task.bounces >= STUCK_TIMES or task.releases >= STUCK_TIMES
    return tried or (held is not None and now - held.since > STUCK_FOR)


def _last_note(db: sqlite3.Connection, task: Task, show: Show) -> list[str]:
    left = tasks.notes(db, task.id)[:1] if show is Show.STUCK else []
    return [f"    {note.session}: > {line}" for note in left for line in note.text.splitlines()[:1]]


def _liner(db: sqlite3.Connection, claims: Mapping[str, Claim]) -> Callable[[Task], str]:
    holders = tasks.holders(db)
    promises = tasks.promises(db)
    states = {task.id: task.state for task in tasks.open_tasks(db)}

    def line(task: Task) -> str:
        parts = [f'{task.id} "{task.title.replace(chr(34), chr(39))}"']
        if task.cases:
            parts.append(f"{len(task.cases)} case{'s' * (len(task.cases) > 1)}, first {task.cases[0]}")
        if task.touches:
            more = f" and {len(task.touches) - FOLDERS} more" if len(task.touches) > FOLDERS else ""
            parts.append("in " + ", ".join(task.touches[:FOLDERS]) + more)
        held = claims.get(task.id)
        tried = [one for one in holders.get(task.id, ()) if held is None or one != held.session]
        if tried:
            parts.append(f"tried by {', '.join(dict.fromkeys(tried[-TRIED:]))}" + _marks(task))
        if held is not None:
            parts.append(f"held by {held.session} since {held.since:%H:%M}")
        elif task.id in states:
            before = [name for name in task.after if name in states]
            change = board.promised_by(task, promises)
            parts += [f"waits for {', '.join(before)}"] * bool(before) + [f"fixed by {change} in the queue"] * bool(
                change
            )
        else:
            parts.append(f"{task.state}: {task.reason}")
        return " · ".join(parts)

    return line


def _marks(task: Task) -> str:
    counts = [f"{n} {word}" for n, word in ((task.bounces, "bounced"), (task.releases, "released")) if n]
    return f" ({', '.join(counts)})" if counts else ""
