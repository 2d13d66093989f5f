"""The block that the run writes as a session's first message; agents' words in it are quoted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.quoting import visible
from orchestrator.records import Session, Task
from orchestrator.store import Tx
from orchestrator.tasklist import describe, note_lines

CHANGES_SHOWN: Final = 5
NOTES_SHOWN: Final = 5


def opening(
    tx: Tx, session: Session, task: Task | None, *, counts: Mapping[str, tuple[int, int]], others: int, left: str
) -> str:
    """What a session is told about itself: `counts` of main by suite, how many `others` work, what is `left` to spend.
    Without a task it has to choose one."""
    article = "an" if session.role[:1] in "aeiou" else "a"
    named = f"{task.id} {task.title}" if task else "none yet: call tasks"
    suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in counts.items())
    landed = landed_since(tx, session.seat)[-CHANGES_SHOWN:]
    notes = note_lines(tx.db, task)[:NOTES_SHOWN] if task else []
    return "\n".join(
        [
            f"You are {session.seat}, {article} {session.role}, in session {session.number} of this seat. "
            f"{others} other seats work at the same time.",
            f"Task: {named}    Left for this session: {left}.",
            f"Main: {session.base[:7]}, {suites or 'nothing passes yet'}.",
            f"Changed since your last session:{'' if landed else ' nothing.'}",
            *(f"  {visible(line)}" for line in landed),
            f"Notes of whoever held this task before:{'' if notes else ' none.'}",
            *(f"  {line}" for line in notes),
            *(["", describe(tx.db, task, session.id)] if task else []),
        ]
    )


def landed_since(tx: Tx, seat: str) -> list[str]:
    """One line for each change that landed since the seat's last session began."""
    row = tx.one("SELECT max(started) AS started FROM session WHERE seat = ?", seat)
    since = (row["started"] if row else None) or ""
    rows = tx.all("SELECT * FROM change WHERE state = 'landed' AND ended > ? ORDER BY ended", since)
    return [f"{row['id']} {row['seat']}: {row['summary'].strip().splitlines()[0][:100]}" for row in rows]
