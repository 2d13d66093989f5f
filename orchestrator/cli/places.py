"""Where runs lie, which one is meant, and whether a process lives in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from orchestrator.cli.failures import Failure

STATE = "state.db"


def runs_in(logs: Path) -> list[Path]:
    """The folders of all runs, oldest first. Raises `Failure` when there is none."""
    found = [file.parent for file in logs.glob(f"*/{STATE}")]
    if not found:
        first = "start one: python -m orchestrator start DIR --agents N --model ID"
        raise Failure("not_found", f"there is no run in {logs}", first, "elsewhere? give --logs DIR")
    return sorted(found, key=lambda folder: ((folder / STATE).stat().st_ctime_ns, folder.name))


def live_pid(folder: Path) -> int | None:
    """The process that works on a run. A later process that was given the same number is not it."""
    pid_file = folder / "run.pid"
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(pid_file.read_text()))
        began = process.create_time()
        if process.status() != psutil.STATUS_ZOMBIE and began <= pid_file.stat().st_mtime + 1:
            return process.pid
    return None


def find(logs: Path, name: str | None = None) -> Path:
    """The run of that name; without one the only live run, else the newest."""
    runs = {folder.name: folder for folder in runs_in(logs)}
    if name is not None and name not in runs:
        known = ", ".join([*runs][-8:])
        raise Failure("not_found", f"there is no run {name!r} in {logs}", f"runs here: {known}")
    live = [folder for folder in runs.values() if live_pid(folder)]
    if name is None and len(live) > 1:
        names = ", ".join(folder.name for folder in live)
        raise Failure("ambiguous", f"{len(live)} runs are live: name one", names)
    return runs[name] if name is not None else (live or [*runs.values()])[-1]
