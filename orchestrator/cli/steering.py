"""Commands that change a run: `resume`, `pause`, `stop`, `set`, `say`. All are journalled, with who and when."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated

import typer

from orchestrator.cli.launch import change, follow, spawn, tell
from orchestrator.cli.screen import DryRun, Run, Screen, find, live_pid, utc_now
from orchestrator.control import Refusal, who
from orchestrator.settings import set_budget
from orchestrator.store.store import iso
from orchestrator.watch.journal import PARTS, entries, spoken
from orchestrator.watch.queries import Answer
from orchestrator.watch.text import clock

AtOnce = Annotated[bool, typer.Option("--now", help="At each seat's next request or stored turn, not in its own time.")]
Budget = Annotated[list[str], typer.Argument(metavar="[RUN] budget=USD", show_default=False)]
Text = Annotated[list[str], typer.Argument(metavar="[RUN] [SEAT] TEXT", show_default=False)]


def resume(screen: Screen, run: Run = None, dry_run: DryRun = False) -> None:
    """Go on, after pause, stop, crash, reboot or upgrade.

    Example: python -m orchestrator resume c-compiler-2
    """
    folder, began, since = find(screen.logs, run), time.monotonic(), iso(utc_now())
    if dry_run:
        _act(screen, folder, "resume", None)
        return
    if live_pid(folder):
        tell(folder, "resume")
    else:
        spawn(folder)

    def query(db: Connection, _: Answer) -> Answer:
        resumed = entries(db, "at >= ? AND kind = 'run-resumed'", since)
        sessions = {"continued": sum(entry.data["sessions"] for entry in resumed), "cut": None, "collected": None}
        seconds = round(time.monotonic() - began, 1)
        return {"seconds": seconds, "sessions": sessions, "requests_resent": None, "verdicts_kept": None}

    words = "{run}   {state} again after {seconds} s; {sessions[continued]} sessions go on"
    screen.look("resume", folder.name, query, words.format_map)


def pause(screen: Screen, run: Run = None, at_once: AtOnce = False, dry_run: DryRun = False) -> None:
    """Start nothing new; `resume` goes on.

    Example: python -m orchestrator pause --now
    """
    folder, did = find(screen.logs, run), "pause, before each next request" if at_once else "pause: start nothing new"
    _act(screen, folder, did, None if dry_run else partial(tell, folder, "pause", now=at_once))


def stop(screen: Screen, run: Run = None, at_once: AtOnce = False, dry_run: DryRun = False) -> None:
    """Drain (seats submit or note), then end. Ctrl-C ends the waiting, not the draining.

    Example: python -m orchestrator stop c-compiler-2
    """
    folder = find(screen.logs, run)
    did = "stop at the next stored turn" if at_once else "drain: no new sessions, seats are asked to submit or note"
    if live_pid(folder) is None:
        dry_run, did = True, "do nothing, as it is not running"

    def drain() -> None:
        since = iso(utc_now())
        tell(folder, "stop", now=at_once)
        screen.hint("draining", did)
        for entry in follow(folder, f"{PARTS['run']} AND at >= ?", since):
            screen.hint(clock(entry.at), spoken(entry, ""))

    _act(screen, folder, did, None if dry_run else drain)


def set_(screen: Screen, words: Budget, dry_run: DryRun = False) -> None:
    """Another budget, while the run works or before it is resumed; shown in every report.

    Example: python -m orchestrator set c-compiler-2 budget=2500
    """
    *run, setting = words
    given = re.fullmatch(r"budget=(\d+(\.\d+)?)", setting)
    if given is None or not float(given[1]) or len(run) > 1:
        raise Refusal(f"{' '.join(words)}: set takes [RUN] budget=USD", "usage", "the budget is a number above 0")
    folder, budget = find(screen.logs, *run), round(float(given[1]) * 1_000_000)
    offline = partial(set_budget, budget=budget, by=who())
    do = partial(change, folder, offline, "set", key="budget", value=budget)
    _act(screen, folder, f"set {setting}", None if dry_run else do)


def say(screen: Screen, words: Text, dry_run: DryRun = False) -> None:
    """A word to one seat or to all; counted as an intervention.

    Example: python -m orchestrator say agent-07 "Prefer the aarch64 cases today."
    """
    *names, text = words
    to = names.pop() if names and re.fullmatch(r"agent-\d+", names[-1]) else "all"
    if len(names) > 1:
        raise Refusal("say takes [RUN] [SEAT] TEXT", "usage", "put the text into quotes")
    folder = find(screen.logs, *names)
    _act(screen, folder, f"say to {to}: {text}", None if dry_run else partial(tell, folder, "say", to=to, text=text))


def _act(screen: Screen, folder: Path, did: str, do: Callable[[], object] | None) -> None:
    """Does what is asked, if it is not only to be said, and says it with the state that the run is in then."""
    if do:
        do()
    words = f"{{run}}   {'' if do else 'would '}{{did}} · {{state}}"
    screen.look("done", folder.name, lambda _db, _: {"did": did, "dry_run": do is None}, words.format_map)
