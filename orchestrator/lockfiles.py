"""`current_tasks/`: claims as agents and people see them, one file a task.

Copies of the tables, never read back: `sync` makes them right again whatever has become of them. The folder is mounted
read-only beside every workspace and holds nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.board import seat_of
from orchestrator.quoting import one_line, quoted
from orchestrator.records import Claim, Task
from orchestrator.store import tasks

CASES: Final = 5  # named in a lock file
NEW: Final = ".new"


@dataclass(frozen=True)
class Lock:
    task: Task
    claim: Claim


def locks(db: sqlite3.Connection) -> list[Lock]:
    return [Lock(tasks.get(db, held.task), held) for held in tasks.claims(db)]


def text(lock: Lock) -> str:
    """What stands in a lock file. What agents and programs wrote stands behind `>`."""
    task, held = lock.task, lock.claim
    parts = [
        f"task     {task.id}",
        quoted(task.title),
        f"owner    {seat_of(held.session)}",
        f"session  {held.session}",
        f"since    {held.since:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if held.touches:
        parts += ["touches", quoted("\n".join(held.touches))]
    if task.cases:
        shown = "\n".join(task.cases[:CASES])
        parts += [
            f"cases    {len(task.cases)}" + (f", the first {CASES}" if len(task.cases) > CASES else ""),
            quoted(shown),
        ]
    if task.signature:
        parts += ["failure", quoted(one_line(task.signature))]
    if held.plan:
        parts += ["plan", quoted(held.plan)]
    return "\n".join(parts) + "\n"


class LockFiles:
    """The folder. Its methods touch the disk: call them from a worker thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sync(self, held: Iterable[Lock]) -> None:
        """Makes the folder show exactly these claims. Each file appears whole and at once."""
        self.folder.mkdir(exist_ok=True)
        wanted = {f"{lock.task.id}.txt": text(lock) for lock in held}
        for entry in list(self.folder.iterdir()):
            if entry.name not in wanted:
                entry.unlink()
        for name, body in wanted.items():
            self._write(self.folder / name, body)

    def _write(self, path: Path, body: str) -> None:
        if path.is_file() and path.read_text() == body:
            return
        new = path.with_name(path.name + NEW)
        new.write_text(body)
        new.chmod(0o644)
        new.replace(path)
