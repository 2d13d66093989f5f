"""Tasks, claims and notes in the state."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Final

from orchestrator.records import Claim, Note, Task, TaskState
from orchestrator.store.rows import insert, record, update
from orchestrator.store.store import Tx, iso, when

OPEN: Final = "state IN ('ready', 'claimed')"


@dataclass(frozen=True)
class Promise:
    """What a change that has not ended promises: its task, and the cases it says it fixes."""

    change: str
    task: str
    fixes: tuple[str, ...]


def next_number(tx: Tx) -> int:
    row = tx.one("SELECT coalesce(max(number), 0) + 1 AS next FROM task")
    assert row is not None
    return int(row["next"])


def add(tx: Tx, task: Task) -> None:
    insert(tx, "task", task, number=int(task.id[1:]))
    facts = {"title": task.title, "source": task.source.value, "by": task.by, "cases": len(task.cases)}
    tx.journal("task-added", task=task.id, **facts)


def get(db: sqlite3.Connection, task: str) -> Task:
    row = db.execute("SELECT * FROM task WHERE id = ?", (task,)).fetchone()
    if row is None:
        raise KeyError(f"no task {task}")
    return record(Task, row)


def every(db: sqlite3.Connection) -> list[Task]:
    return [record(Task, row) for row in db.execute("SELECT * FROM task ORDER BY number")]


def open_tasks(db: sqlite3.Connection) -> list[Task]:
    return [record(Task, row) for row in db.execute(f"SELECT * FROM task WHERE {OPEN} ORDER BY number")]


def newest_of_signature(db: sqlite3.Connection, signature: str) -> Task | None:
    sql = "SELECT * FROM task WHERE signature = ? ORDER BY number DESC LIMIT 1"
    row = db.execute(sql, (signature,)).fetchone()
    return None if row is None else record(Task, row)


def merged_into(db: sqlite3.Connection, task: str) -> str:
    """The task that took this one's cases over, or ""."""
    row = db.execute("SELECT merged FROM task WHERE id = ?", (task,)).fetchone()
    return "" if row is None else str(row["merged"])


def change(tx: Tx, task: str, **fields: object) -> None:
    update(tx, "task", task, **fields)


def count_bounce(tx: Tx, task: str) -> None:
    tx.run("UPDATE task SET bounces = bounces + 1 WHERE id = ?", task)


def claims(db: sqlite3.Connection) -> list[Claim]:
    return [record(Claim, row) for row in db.execute("SELECT * FROM claim ORDER BY since, task")]


def claim_of(db: sqlite3.Connection, session: str) -> Claim | None:
    row = db.execute("SELECT * FROM claim WHERE session = ?", (session,)).fetchone()
    return None if row is None else record(Claim, row)


def claim_on(db: sqlite3.Connection, task: str) -> Claim | None:
    row = db.execute("SELECT * FROM claim WHERE task = ?", (task,)).fetchone()
    return None if row is None else record(Claim, row)


def add_claim(tx: Tx, claim: Claim) -> None:
    insert(tx, "claim", claim)
    change(tx, claim.task, state=TaskState.CLAIMED)


def remove_claim(tx: Tx, task: str) -> None:
    tx.run("DELETE FROM claim WHERE task = ?", task)


def promises(db: sqlite3.Connection) -> list[Promise]:
    """Of every change that is not yet landed, bounced or withdrawn, oldest first."""
    sql = "SELECT id, task, fixes FROM change WHERE state NOT IN ('landed', 'bounced', 'withdrawn') ORDER BY number"
    return [Promise(row["id"], row["task"], tuple(json.loads(row["fixes"]))) for row in db.execute(sql)]


def holders(db: sqlite3.Connection) -> dict[str, list[str]]:
    """Sessions that held each task so far, oldest first."""
    found: dict[str, list[str]] = {}
    for row in db.execute("SELECT data FROM journal WHERE kind = 'claimed' ORDER BY seq"):
        data = json.loads(row["data"])
        found.setdefault(data["task"], []).append(data["session"])
    return found


def put_note(tx: Tx, note: Note, seat: str) -> None:
    sql = "INSERT OR REPLACE INTO note (topic, session, at, text) VALUES (?, ?, ?, ?)"
    tx.run(sql, note.topic, note.session, iso(note.at), note.text)
    tx.journal("noted", seat, session=note.session, topic=note.topic, text=note.text)


def notes(db: sqlite3.Connection, topic: str) -> list[Note]:
    """Newest first."""
    rows = db.execute("SELECT * FROM note WHERE topic = ? ORDER BY at DESC, session", (topic,))
    return [Note(row["topic"], row["session"], when(row["at"]), row["text"]) for row in rows]
