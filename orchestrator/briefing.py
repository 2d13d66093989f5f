"""The block that the run writes as a session's first message. Agents' words in it are quoted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from agents.visible import visible
from orchestrator.desk import Desk
from orchestrator.records import Session, Task
from orchestrator.tasklist import describe, note_lines
from verifiers.scorecard import Scorecard

CHANGES_SHOWN: Final = 5
NOTES_SHOWN: Final = 5


def opening(
    db: sqlite3.Connection, desk: Desk, session: Session, task: Task | None, card: Scorecard, landed: Sequence[str]
) -> str:
    """What a session is told about itself: `task` is None when it has to choose one, `card` is main's scorecard, and
    `landed` has a line for each change since its seat's last session."""
    metered = not desk.ledger.prices.unmetered(session.model)
    money = f"{desk.settings.session_budget / 1e6:.2f} USD" if desk.settings.session_budget and metered else ""
    suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in card.counts().items())
    chosen = f"{task.id} {task.title}" if task else "none yet: call tasks"
    notes = note_lines(db, task)[:NOTES_SHOWN] if task else []
    lines = [
        f"You are {session.seat}, a{'n' * (session.role[0] in 'aeiou')} {session.role}, in session {session.number} "
        f"of this seat. {desk.settings.agents - 1} other seats work at the same time.",
        f"Task: {chosen}    Left for this session: {money or 'not limited'}.",
        f"Main: {session.base[:7]}, {suites or 'nothing passes yet'}.",
        f"Changed since your last session:{'' if landed else ' nothing.'}",
        *(f"  {visible(line)}" for line in landed[-CHANGES_SHOWN:]),
        f"Notes of whoever held this task before:{'' if notes else ' none.'}",
        *(f"  {line}" for line in notes),
    ]
    return "\n".join([*lines, "", describe(db, task, session.id)] if task else lines)
