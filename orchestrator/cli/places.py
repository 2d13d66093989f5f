"""Where runs lie, which one is meant, and whether a process lives in it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psutil

from orchestrator.cli.failures import Failure

STATE = "state.db"


def runs_in(logs: Path) -> list[Path]:
    """The folders of all runs, oldest first."""
    found = [file.parent for file in logs.glob(f"*/{STATE}")]
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


def find(logs: Path, name: str | None) -> Path:
    """The run of that name; without one the only live run, else the newest."""
    runs = runs_in(logs)
    if name is not None:
        for folder in runs:
            if folder.name == name:
                return folder
        raise Failure("not_found", f"there is no run {name!r} in {logs}", *_known(runs, logs))
    live = [folder for folder in runs if live_pid(folder)]
    if len(live) > 1:
        names = ", ".join(folder.name for folder in live)
        raise Failure("ambiguous", f"{len(live)} runs are live: name one", names)
    if not runs:
        raise Failure("not_found", f"there is no run in {logs}", *_known(runs, logs))
    return (live or runs)[-1]


def _known(runs: list[Path], logs: Path) -> tuple[str, ...]:
    if not runs:
        return ("start one: python -m orchestrator start DIR --agents N --model ID", "elsewhere? give --logs DIR")
    return ("runs here: " + ", ".join(folder.name for folder in runs[-8:]),)


def fresh_name(logs: Path, project: str) -> str:
    """`c-compiler-3` after c-compiler-2."""
    pattern = re.compile(re.escape(project) + r"-(\d+)")
    taken = [int(match[1]) for folder in logs.glob("*") if (match := pattern.fullmatch(folder.name))]
    return f"{project}-{max(taken, default=0) + 1}"
