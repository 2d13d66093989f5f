"""The block that the run writes as a session's first message. Agents' words in it are quoted."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from agents.visible import visible
from orchestrator.records import Session, Task
from orchestrator.tasklist import describe, note_lines

CHANGES_SHOWN: Final = 5
NOTES_SHOWN: Final = 5


def opening(
    db: sqlite3.Connection,
    session: Session,
    task: Task | None,
    *,
    others: int,
    left: str,
    counts: Mapping[str, tuple[int, int]],
    landed: Sequence[str],
) -> str:
    """What a session is told about itself. `task` is None when it has to choose one, `left` what it may still spend."""
    suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in counts.items())
    chosen = f"{task.id} {task.title}" if task else "none yet: call tasks"
    notes = note_lines(db, task)[:NOTES_SHOWN] if task else []
    lines = [
        f"You are {session.seat}, a{'n' * (session.role[0] in 'aeiou')} {session.role}, in session {session.number} "
        f"of this seat. {others} other seats work at the same time.",
        f"Task: {chosen}    Left for this session: {left or 'not limited'}.",
        f"Main: {session.base[:7]}, {suites or 'nothing passes yet'}.",
        f"Changed since your last session:{'' if landed else ' nothing.'}",
        *(f"  {visible(line)}" for line in landed[-CHANGES_SHOWN:]),
        f"Notes of whoever held this task before:{'' if notes else ' none.'}",
        *(f"  {line}" for line in notes),
    ]
    return "\n".join([*lines, "", describe(db, task, session.id)] if task else lines)
