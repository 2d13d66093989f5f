"""Tasks, claims and notes in the state."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from orchestrator.records import Change, Claim, Note, Task, TaskState
from orchestrator.store.rows import find, first, insert, update
from orchestrator.store.store import Tx

OPEN: Final = "state IN ('ready', 'claimed')"
LIVE: Final = "state NOT IN ('landed', 'bounced', 'withdrawn')"  # of changes


def add(tx: Tx, task: Task) -> None:
    insert(tx, "task", task, number=int(task.id[1:]))
    facts = {"title": task.title, "source": task.source, "by": task.by, "cases": len(task.cases)}
    tx.journal("task-added", task=task.id, **facts)


def open_tasks(db: sqlite3.Connection) -> list[Task]:
    return find(db, Task, f"WHERE {OPEN} ORDER BY number")


def claims(db: sqlite3.Connection) -> list[Claim]:
    return find(db, Claim, "ORDER BY since, task")


def claim_of(db: sqlite3.Connection, session: str) -> Claim | None:
    return first(db, Claim, "WHERE session = ?", session)


def claim_on(db: sqlite3.Connection, task: str) -> Claim | None:
    return first(db, Claim, "WHERE task = ?", task)


def end_claim(tx: Tx, task: str, state: TaskState, **fields: object) -> None:
    tx.run("DELETE FROM claim WHERE task = ?", task)
    update(tx, "task", task, state=state, **fields)


def promises(db: sqlite3.Connection) -> list[Change]:
    """Changes that are not yet landed, bounced or withdrawn, oldest first."""
    return find(db, Change, f"WHERE {LIVE} ORDER BY number")


def holders(db: sqlite3.Connection) -> dict[str, list[str]]:
    """Sessions that held each task so far, oldest first."""
    found: dict[str, list[str]] = {}
    for row in db.execute("SELECT data FROM journal WHERE kind = 'claimed' ORDER BY seq"):
        data = json.loads(row["data"])
        found.setdefault(data["task"], []).append(data["session"])
    return found


def notes(db: sqlite3.Connection, topic: str) -> list[Note]:
    """Newest first."""
    return find(db, Note, "WHERE topic = ? ORDER BY at DESC, session", topic)
