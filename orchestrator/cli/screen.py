"""What commands share: which run is meant, how an answer is given, and the options that go with every command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated, Any

import psutil
import typer

from orchestrator.control import Refusal
from orchestrator.store import reading
from orchestrator.store.store import utc_now
from orchestrator.watch.queries import frame
from orchestrator.watch.render import Answer, encode

STATE = "state.db"
Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON object on stdout.")]
Logs = Annotated[Path, typer.Option("--logs", envvar="ORCHESTRATOR_LOGS", help="The folder of all runs.")]
Query = Callable[[Connection, Answer], Answer]
"""What answers a question about a run, from its state and the answer's beginning: run, state, as of when."""


@dataclass(frozen=True)
class Screen:
    """Where answers go, and where the runs lie that they are about."""

    as_json: bool
    logs: Path

    def give(self, schema: str, answer: Any, words: str) -> None:
        typer.echo(encode(schema, answer) if self.as_json else words)

    def hint(self, word: str, text: str) -> None:
        if not self.as_json:
            typer.echo(f"{word:<9} {text}", err=True)

    def look(self, schema: str, run: str | None, query: Query, words: Callable[[Any], str]) -> Answer:
        """Gives what a query answers about a run."""
        answer = asked(find(self.logs, run), query)
        self.give(schema, answer, words(answer))
        return answer


def asked(folder: Path, query: Query) -> Answer:
    """What a query answers, after the beginning that it is handed."""
    with reading(folder / STATE) as db:
        begin = frame(db, live_pid(folder) is not None, utc_now())
        return begin | query(db, begin)


def runs_in(logs: Path) -> list[Path]:
    """The folders of all runs, oldest first. Raises `Refusal` when there is none."""
    found = [file.parent for file in logs.glob(f"*/{STATE}")]
    if not found:
        first = "start one: python -m orchestrator start DIR --agents N --model ID"
        raise Refusal(f"there is no run in {logs}", "not_found", first, "elsewhere? give --logs DIR")
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
        raise Refusal(f"there is no run {name!r} in {logs}", "not_found", f"runs here: {', '.join([*runs][-8:])}")
    live = [one for one in runs if live_pid(runs[one])]
    if name is None and len(live) > 1:
        raise Refusal(f"{len(live)} runs are live: name one", "ambiguous", ", ".join(live))
    return runs[name or [*runs, *live][-1]]
