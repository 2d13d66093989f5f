"""Commands that only look: `runs`, `status`, `logs`, `tasks`, `why`, `cost`, `report`."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated

import typer

from orchestrator.cli.launch import change, follow
from orchestrator.cli.screen import STATE, Run, Screen, asked, find, runs_in, utc_now
from orchestrator.control import Refusal, who
from orchestrator.store import reading
from orchestrator.store.store import iso
from orchestrator.watch import queries, render
from orchestrator.watch.journal import PARTS, Entry, entries, spoken
from orchestrator.watch.queries import By, Show
from orchestrator.watch.render import Answer, moment
from orchestrator.watch.report import publish
from orchestrator.watch.why import why as why_of

Words = Annotated[list[str] | None, typer.Argument(metavar="[RUN] [SEAT|gate|run]", show_default=False)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens, one line an event.")]
Since = Annotated[str, typer.Option("--since", metavar="AGO", help="Only the last 90s, 10m, 2h or 1d.")]
Check = Annotated[bool, typer.Option("--check", help="Exit 1 if the run is not healthy.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show held-out results; journalled.")]
Id = Annotated[str, typer.Argument(help="C63 (change), T91 (task), agent-07, agent-07/12 (session), suite/case.")]
OfRun = Annotated[str | None, typer.Option("--run", help="The run, if not the only live or the newest one.")]
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def runs(screen: Screen) -> None:
    """All runs here, ended and aborted ones too.

    Example: python -m orchestrator runs --logs logs
    """
    rows = [asked(folder, queries.status) for folder in runs_in(screen.logs)]
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
        if not re.fullmatch(r"\d{1,6}[smhd]", since):
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
    screen.look("tasks", run, lambda db, _: {"rows": queries.tasks(db, show)}, render.tasks)


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


def _reveal(folder: Path) -> None:
    """Journals, once, that the held-out results of a run have been shown."""
    with reading(folder / STATE) as db:
        known = entries(db, "kind = 'revealed'")
    if not known:
        change(folder, lambda tx: tx.journal("revealed", by=who()), "reveal")
