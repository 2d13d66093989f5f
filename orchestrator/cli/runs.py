"""Commands about runs that are there: `runs`, `status`, `logs`, `tasks`, `why`, `cost` and `report` look; `resume`,
`pause`, `stop`, `set` and `say` change one, and are journalled with who and when."""

import re
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated

import typer

from orchestrator.cli.app import Screen
from orchestrator.cli.process import asked, change, find, follow, live_pid, runs_in, spawn, state, tell
from orchestrator.control import Refusal, who
from orchestrator.settings import set_budget
from orchestrator.store.store import iso, utc_now
from orchestrator.watch import queries, render
from orchestrator.watch.journal import PARTS, Entry, entries, spoken
from orchestrator.watch.queries import By, Show
from orchestrator.watch.render import Answer, clock, moment, money
from orchestrator.watch.report import publish
from orchestrator.watch.why import why as why_of

Run = Annotated[str | None, typer.Argument(help="The run; left out: the only live one, else the newest.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[RUN] [SEAT|gate|run]")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens, one line an event.")]
Since = Annotated[str, typer.Option("--since", metavar="AGO", help="Only the last 90s, 10m, 2h or 1d.")]
Check = Annotated[bool, typer.Option("--check", help="Exit 1 if the run is not healthy.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show held-out results; journalled.")]
Id = Annotated[str, typer.Argument(help="C63 (change), T91 (task), agent-07, agent-07/12 (session), suite/case.")]
OfRun = Annotated[str | None, typer.Option("--run", help="The run, if not the only live or the newest one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
AtOnce = Annotated[bool, typer.Option("--now", help="At each seat's next request or stored turn, not in its own time.")]
Budget = Annotated[list[str], typer.Argument(metavar="[RUN] budget=USD")]
Text = Annotated[list[str], typer.Argument(metavar="[RUN] [SEAT] TEXT")]
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def runs(screen: Screen) -> None:
    """All runs here, ended and aborted ones too.

    Example: python -m orchestrator runs --logs logs
    """
    rows = []
    for folder in runs_in(screen.logs):
        try:
            rows.append(asked(folder, queries.status))
        except Refusal as broken:
            rows.append({"run": folder.name, "state": "unreadable", "reason": str(broken)})
            screen.hint("unreadable", str(broken))
    answer = {"run": None, "as_of": iso(utc_now()), "rows": rows}
    screen.give("runs", answer, render.runs(answer))


def status(screen: Screen, run: Run = None, check: Check = False, show_heldout: Reveal = False) -> int:
    """One screen: healthy, progressing, at what cost, stuck on what.

    Example: python -m orchestrator status c-compiler-2 --check
    """
    folder = find(screen.logs, run)
    if show_heldout:
        _reveal(folder)
    query = partial(queries.status, reveal=show_heldout)
    answer = screen.look("status", folder.name, query, render.status)
    return int(answer["state"] == "dead" or (check and not answer["healthy"]))


def logs(screen: Screen, words: Words = None, follow_on: Follow = False, since: Since = "") -> None:
    """What happened, in words: of a seat (every tool call), of the gate, or of the run (what is news).

    Example: python -m orchestrator logs agent-07 --since 10m
    """
    names = words or []
    part = names.pop() if names and re.fullmatch(r"agent-\d+|gate|run", names[-1]) else ""
    if len(names) > 1:
        raise Refusal(f"{names[-1]!r} is no seat (agent-07), and neither `gate` nor `run`", "usage")
    folder = find(screen.logs, *names)
    where, values = (PARTS[part], []) if part in PARTS else ("seat = ?", [part])
    if since:
        if not re.fullmatch(r"\d{1,6}[smh]|\d{1,5}d", since):
            raise Refusal(f"--since {since}: not a length of time like 90s, 10m, 2h or 1d", "usage")
        where += " AND at >= ?"
        values.append(iso(utc_now() - timedelta(**{UNITS[since[-1]]: int(since[:-1])})))

    def words_of(entry: Entry) -> str:
        return spoken(entry, moment(entry.at), with_seat=not part.startswith("agent-"))

    def query(db: Connection, _: Answer) -> Answer:
        found = entries(db, where, *values)
        if not found and (part or since):
            raise Refusal(f"{folder.name}: no such entry in the journal", "not_found", "whole: logs, or logs run")
        return {"rows": found}

    if follow_on:
        for entry in follow(folder, where, *values):
            screen.give("logs", entry, words_of(entry))
    else:
        screen.look("logs", folder.name, query, lambda answer: "\n".join(map(words_of, answer["rows"])))


def tasks(screen: Screen, run: Run = None, show: Annotated[Show, typer.Option(help="Which tasks.")] = "open") -> None:
    """The board: what is worked on, then what is ready, best first.

    Example: python -m orchestrator tasks --show all
    """
    screen.look("tasks", run, lambda db, _: {"rows": queries.rows(db, queries.SQL["tasks"], show=show)}, render.tasks)


def why(screen: Screen, id: Id, run: OfRun = None) -> None:
    """Why it bounced, waits, was given back, ended, fails.

    Example: python -m orchestrator why C63
    """
    screen.look("why", run, lambda db, _: why_of(db, id), render.why)


def cost(screen: Screen, run: Run = None, by: Annotated[By, typer.Option(help="What the rows are.")] = "role") -> None:
    """Money and waste.

    Example: python -m orchestrator cost --by seat
    """
    screen.look("cost", run, lambda db, _: queries.cost(db, by), render.cost)


def report(screen: Screen, run: Run = None) -> None:
    """One HTML file to publish. Held-out results are revealed from here on, and that is journalled.

    Example: python -m orchestrator report c-compiler-2
    """
    folder = find(screen.logs, run)
    _reveal(folder)
    screen.look("report", folder.name, lambda db, begin: publish(folder, db, begin), render.report)
    screen.hint("revealed", "held-out results, from here on; journalled")


def resume(screen: Screen, run: Run = None, dry_run: DryRun = False) -> None:
    """Go on, after pause, stop, crash, reboot or upgrade.

    Example: python -m orchestrator resume c-compiler-2
    """
    folder, began, since = find(screen.logs, run), time.monotonic(), iso(utc_now())
    with state(folder) as db:
        for (reason,) in db.execute(queries.SQL["no_money"]):
            remedy = f"python -m orchestrator set {folder.name} budget=USD, then resume it"
            raise Refusal(f"{folder.name} has no money left ({reason})", "refused", remedy)
    if dry_run:
        _done(screen, folder, "resume", dry_run)
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
    if not dry_run:
        tell(folder, "pause", now=at_once)
    _done(screen, folder, did, dry_run)


def stop(screen: Screen, run: Run = None, at_once: AtOnce = False, dry_run: DryRun = False) -> None:
    """Drain (seats submit or note), then end. Ctrl-C ends the waiting, not the draining.

    Example: python -m orchestrator stop c-compiler-2
    """
    folder = find(screen.logs, run)
    did = "stop at the next stored turn" if at_once else "drain: no new sessions, seats are asked to submit or note"

    if live_pid(folder) is None:
        did = "leave it as it is: it does not run"
    elif not dry_run:
        since = iso(utc_now())
        tell(folder, "stop", now=at_once)
        screen.hint("draining", did)
        for entry in follow(folder, f"{PARTS['run']} AND at >= ?", since):
            screen.hint(clock(entry.at), spoken(entry, ""))
    _done(screen, folder, did, dry_run)


def set_(screen: Screen, words: Budget, dry_run: DryRun = False) -> None:
    """Another budget, while the run works or before it is resumed; shown in every report.

    Example: python -m orchestrator set c-compiler-2 budget=2500
    """
    *run, setting = words
    given = re.fullmatch(r"budget=(\d{1,9}(\.\d+)?)", setting)
    if given is None or float(given[1]) < 0.01 or len(run) > 1:
        raise Refusal(f"{' '.join(words)}: set takes [RUN] budget=USD", "usage", "USD is from 0.01 to 999999999")
    folder, budget = find(screen.logs, *run), round(float(given[1]) * 1_000_000)
    if budget <= (spent := asked(folder, queries.status)["spent_usd"] or 0):
        raise Refusal(f"{folder.name} has spent {money(spent)} already: a budget must be above that")
    if not dry_run:
        change(folder, lambda tx: set_budget(tx, budget, who()), "set", key="budget", value=budget)
    _done(screen, folder, f"set {setting}", dry_run)


def say(screen: Screen, words: Text, dry_run: DryRun = False) -> None:
    """A word to one seat or to all; counted as an intervention.

    Example: python -m orchestrator say agent-07 "Prefer the aarch64 cases today."
    """
    *names, text = words
    to = names.pop() if names and re.fullmatch(r"agent-\d+", names[-1]) else "all"
    if len(names) > 1:
        raise Refusal("say takes [RUN] [SEAT] TEXT", "usage", "put the text into quotes")
    folder = find(screen.logs, *names)
    if not dry_run:
        tell(folder, "say", to=to, text=text)
    _done(screen, folder, f"say to {to}: {text}", dry_run)


def _reveal(folder: Path) -> None:
    """Journals, once, that the held-out results of a run have been shown."""
    with state(folder) as db:
        known = entries(db, "kind = 'revealed'")
    if not known:
        change(folder, lambda tx: tx.journal("revealed", by=who()), "reveal")


def _done(screen: Screen, folder: Path, did: str, dry_run: bool) -> None:
    """Says what was done, or would be, with the state that the run is in now."""
    words = f"{{run}}   {'would ' * dry_run}{{did}} · {{state}}"
    screen.look("done", folder.name, lambda _db, _: {"did": did, "dry_run": dry_run}, words.format_map)
