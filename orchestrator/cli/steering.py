"""Commands that change a run: `resume`, `pause`, `stop`, `set`, `say`, tasks of people. All are journalled."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.failures import Failure
from orchestrator.cli.launch import change_setting, last_seq, look, spawn, tell, utc_now
from orchestrator.cli.manners import LOGS, DryRun, Json, Logs, Run, give, hint
from orchestrator.cli.places import STATE, find, live_pid
from orchestrator.store import reading
from orchestrator.watch import queries
from orchestrator.watch.journal import Entry, Line, entries, spoken
from orchestrator.watch.text import clock

SETTINGS: Final = {"budget": ("budget", 1_000_000, int), "hours": ("hours", 1, float)}
"""What `set` takes: the field of the settings, the unit it is stored in, and its type."""


@dataclass(frozen=True)
class Done:
    """What a command did, or would do; `answer` is what the run's process said."""

    run: str
    as_of: datetime
    did: str
    dry_run: bool
    answer: dict[str, Any]


@dataclass(frozen=True)
class Resumed:
    run: str
    as_of: datetime
    seconds: float
    sessions: dict[str, int | None]
    requests_resent: int | None
    verdicts_kept: int | None
    state: str
    dry_run: bool


def resume(run: Run = None, dry_run: DryRun = False, as_json: Json = False, logs: Logs = LOGS) -> None:
    """Go on, after pause, stop, crash, reboot or upgrade.

    Example: python -m orchestrator resume c-compiler-2
    """
    folder = find(logs, run)
    began, mark = time.monotonic(), last_seq(folder)
    live = live_pid(folder) is not None
    if not dry_run:
        if live:
            tell(folder, "resume")
        else:
            spawn(folder)
    with reading(folder / STATE) as db:
        new = entries(db, after=mark)
        state = queries.state_of(db, live or not dry_run)
    continued = sum(entry.data["sessions"] for entry in new if entry.kind == "run-resumed")
    cut = sum(entry.kind == "session-ended" for entry in new)
    result = Resumed(
        run=folder.name,
        as_of=utc_now(),
        seconds=round(time.monotonic() - began, 1),
        sessions={"continued": continued, "cut": cut, "collected": None},
        requests_resent=None,
        verdicts_kept=None,
        state=state,
        dry_run=dry_run,
    )
    give("resume", result, as_json, lambda done: _resumed(done, live))


def _resumed(done: Resumed, live: bool) -> str:
    if done.dry_run:
        return f"would resume {done.run}" + (" (its process is live)" if live else " in a new process")
    return f"{done.run}   {done.state} again after {done.seconds} s; {done.sessions['continued']} sessions go on"


def pause(
    run: Run = None,
    now: Annotated[bool, typer.Option("--now", help="Hold each seat before its next model request.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Start nothing new; `resume` goes on.

    Example: python -m orchestrator pause --now
    """
    folder = find(logs, run)
    answer = {} if dry_run else tell(folder, "pause", now=now)
    _done(
        folder.name, "pause, before each next request" if now else "pause: start nothing new", answer, dry_run, as_json
    )


def stop(
    run: Run = None,
    now: Annotated[bool, typer.Option("--now", help="End at the next stored turn instead of draining.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Drain (seats submit or note), then end. Ctrl-C ends the waiting, not the draining.

    Example: python -m orchestrator stop c-compiler-2
    """
    folder = find(logs, run)
    did = "stop at the next stored turn" if now else "drain: no new sessions, seats are asked to submit or note"
    if dry_run or live_pid(folder) is None:
        _done(folder.name, did if live_pid(folder) else "nothing: it is not running", {}, dry_run, as_json)
        return
    mark = last_seq(folder)
    answer = tell(folder, "stop", now=now)
    hint(f"draining  {did}", as_json)

    def show(_: Entry, line: Line) -> None:
        if line.news:
            hint(spoken(line, clock(line.at)), as_json)

    state = look(folder, mark, show)
    _done(folder.name, f"stop: it is {state}", answer, dry_run, as_json)


def set_(
    words: Annotated[
        list[str], typer.Argument(metavar="[RUN] KEY=VALUE…", help="budget=USD, hours=H", show_default=False)
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Change the budget or the hours, running or not; shown in every report.

    Example: python -m orchestrator set c-compiler-2 budget=2500
    """
    run = words.pop(0) if words and "=" not in words[0] else None
    changes = [_setting(word) for word in words]
    if not changes:
        raise Failure("usage", "nothing to set", f"keys: {', '.join(SETTINGS)}")
    folder = find(logs, run)
    for key, value in changes:
        if not dry_run:
            change_setting(folder, key, SETTINGS[key][0], value)
    _done(folder.name, "set " + " ".join(words), {}, dry_run, as_json)


def _setting(word: str) -> tuple[str, Any]:
    key, _, text = word.partition("=")
    if key not in SETTINGS:
        raise Failure("usage", f"{key!r} cannot be set", f"keys: {', '.join(SETTINGS)}")
    _, unit, kind = SETTINGS[key]
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) == 0:
        raise Failure("usage", f"{word}: the value must be a number above 0")
    return key, kind(round(float(text) * unit, 6))


def say(
    words: Annotated[list[str], typer.Argument(metavar="[RUN] [SEAT] TEXT", show_default=False)],
    dry_run: DryRun = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """A word to one seat or to all; counted as an intervention.

    Example: python -m orchestrator say agent-07 "Prefer the aarch64 cases today."
    """
    text = words.pop()
    to = words.pop() if words and re.fullmatch(r"agent-\d+", words[-1]) else "all"
    if len(words) > 1:
        raise Failure("usage", "say takes [RUN] [SEAT] TEXT", "put the text into quotes")
    folder = find(logs, words[0] if words else None)
    answer = {} if dry_run else tell(folder, "say", to=to, text=text)
    _done(folder.name, f"say to {to}: {text}", answer, dry_run, as_json)


def add_task(
    title: Annotated[str, typer.Argument(help="The defect or the ability.", show_default=False)],
    why: Annotated[str, typer.Option(help="Why it matters.")] = "",
    case: Annotated[list[str] | None, typer.Option(help="A case or pattern that says when it is done.")] = None,
    touches: Annotated[list[str] | None, typer.Option(help="A folder it will change.")] = None,
    run: Annotated[str | None, typer.Option("--run")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Put a task on the board.

    Example: python -m orchestrator tasks add "Bit-fields wider than int" --case "torture/bf64-*"
    """
    folder = find(logs, run)
    fields = {"title": title, "why": why, "cases": case or [], "touches": touches or []}
    answer = {} if dry_run else tell(folder, "task-add", **fields)
    _done(folder.name, f"add {answer.get('task', 'a task')}: {title}", answer, dry_run, as_json)


def drop_task(
    task: Annotated[str, typer.Argument(help="T91", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    run: Annotated[str | None, typer.Option("--run")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Take a task off the board.

    Example: python -m orchestrator tasks drop T91 --reason "done by T88"
    """
    folder = find(logs, run)
    answer = {} if dry_run else tell(folder, "task-drop", task=task, reason=reason)
    _done(folder.name, f"drop {task}", answer, dry_run, as_json)


def _done(run: str, did: str, answer: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    result = Done(run, utc_now(), did, dry_run, answer)
    give("done", result, as_json, lambda done: f"{done.run}   {'would ' if done.dry_run else ''}{done.did}")
