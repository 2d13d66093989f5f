"""`current_tasks/`: claims as agents and people see them, one file a task.

Copies of the tables, never read back: `sync` makes them right again whatever has become of them. The folder is mounted
read-only beside every workspace and holds nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orchestrator.board import seat_of
from orchestrator.quoting import one_line, quoted
from orchestrator.records import Claim, Task
from orchestrator.store import rows, tasks

CASES: Final = 5  # named in a lock file


def locks(db: sqlite3.Connection) -> dict[str, str]:
    """What stands in each lock file, by its name."""
    return {f"{held.task}.txt": _text(rows.get(db, Task, held.task), held) for held in tasks.claims(db)}


def _text(task: Task, held: Claim) -> str:
    """What agents and programs wrote stands behind `>`."""
    first = f", the first {CASES}" if len(task.cases) > CASES else ""
    written = {
        "touches": "\n".join(held.touches),
        f"cases    {len(task.cases)}{first}": "\n".join(task.cases[:CASES]),
        "failure": one_line(task.signature),
        "plan": held.plan,
    }
    lines = [
        f"task     {task.id}",
        quoted(task.title),
        f"owner    {seat_of(held.session)}",
        f"session  {held.session}",
        f"since    {held.since:%Y-%m-%d %H:%M:%S} UTC",
        *(f"{label}\n{quoted(text)}" for label, text in written.items() if text),
    ]
    return "\n".join(lines) + "\n"


def sync(folder: Path, wanted: Mapping[str, str]) -> None:
    """Makes the folder show exactly these claims, each file whole and at once. Blocks: call it from a worker thread."""
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
