"""Commands that only look: `runs`, `status`, `logs`, `tasks`, `why`, `cost`."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from orchestrator.cli.failures import Failure
from orchestrator.cli.launch import last_seq, look, reveal, utc_now
from orchestrator.cli.manners import LOGS, Json, Logs, Run, give
from orchestrator.cli.places import STATE, find, live_pid, runs_in
from orchestrator.records import TaskState
from orchestrator.store import reading
from orchestrator.store.attempts import By
from orchestrator.watch import queries, render
from orchestrator.watch.cost import cost as cost_of
from orchestrator.watch.journal import GATE, Entry, Line, since, spoken
from orchestrator.watch.text import moment
from orchestrator.watch.why import why as why_of


class Show(StrEnum):
    OPEN = "open"
    READY = "ready"
    CLAIMED = "claimed"
    ALL = "all"


SHOWN = {
    Show.OPEN: (TaskState.CLAIMED, TaskState.READY),
    Show.READY: (TaskState.READY,),
    Show.CLAIMED: (TaskState.CLAIMED,),
    Show.ALL: (),
}


def runs(as_json: Json = False, logs: Logs = LOGS) -> None:
    """All runs here, ended and aborted ones too.

    Example: python -m orchestrator runs --logs logs
    """
    rows = []
    for folder in runs_in(logs):
        with reading(folder / STATE) as db:
            rows.append(queries.status(db, live_pid(folder) is not None, utc_now()))
    if not rows:
        find(logs, None)
    result = queries.Rows(None, utc_now(), tuple(rows))
    give("runs", result, as_json, lambda _: render.runs(rows))


def status(
    run: Run = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if the run is not healthy.")] = False,
    show_heldout: Annotated[bool, typer.Option("--reveal", help="Show held-out results; journalled.")] = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """One screen: healthy, progressing, at what cost, stuck on what.

    Example: python -m orchestrator status c-compiler-2 --check
    """
    folder = find(logs, run)
    if show_heldout:
        reveal(folder)
    with reading(folder / STATE) as db:
        result = queries.status(db, live_pid(folder) is not None, utc_now(), reveal=show_heldout)
    give("status", result, as_json, render.status)
    if result.state == "dead" or (check and not result.healthy):
        raise typer.Exit(1)


def log(
    words: Annotated[list[str] | None, typer.Argument(metavar="[RUN] [SEAT|gate|run]", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens, one line an event.")] = False,
    ago: Annotated[str, typer.Option("--since", help="Only the last 90s, 10m, 2h or 1d.")] = "",
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """What happened, in words: of a seat (every tool call), of the gate, or of the run (what is news).

    Example: python -m orchestrator logs agent-07 --since 10m
    """
    run, part = _parts(words or [])
    folder = find(logs, run)
    try:
        start = since(ago, utc_now()) if ago else None
    except ValueError as wrong:
        raise Failure("usage", f"--since: {wrong}") from wrong

    def belongs(line: Line) -> bool:
        if part == "gate":
            return line.kind in GATE
        if part == "run":
            return line.news
        return line.seat == part if part else line.kind != "call"

    def words_of(line: Line) -> str:
        return spoken(line, moment(line.at), with_seat=not part.startswith("agent-"))

    mark = last_seq(folder)
    with reading(folder / STATE) as db:
        found = [line for line in queries.log(db, since=start) if belongs(line) and line.seq <= mark]
        if part.startswith("agent-") and not db.execute("SELECT 1 FROM journal WHERE seat = ?", (part,)).fetchone():
            raise Failure("not_found", f"{folder.name} has no seat {part!r} that has done anything")
    if follow:

        def show(entry: Entry, line: Line) -> None:
            if belongs(line):
                give("logs", line, as_json, words_of)

        for line in found:
            give("logs", line, as_json, words_of)
        look(folder, mark, show)
        return
    result = queries.Rows(folder.name, utc_now(), tuple(found))
    give("logs", result, as_json, lambda _: "\n".join(map(words_of, found)) or "nothing yet")


def _parts(words: list[str]) -> tuple[str | None, str]:
    """Which run and which part of its log are meant: `[RUN] [SEAT|gate|run]`."""
    part = words.pop() if words and re.fullmatch(r"agent-\d+|gate|run", words[-1]) else ""
    if len(words) > 1:
        raise Failure("usage", f"{words[-1]!r} is no seat (agent-07), and neither `gate` nor `run`")
    return (words[0] if words else None), part


def tasks(
    run: Run = None,
    show: Annotated[Show, typer.Option(help="Which tasks.")] = Show.OPEN,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """The board: what is worked on, then what is ready, best first.

    Example: python -m orchestrator tasks --show all
    """
    folder = find(logs, run)
    with reading(folder / STATE) as db:
        rows = queries.tasks(db, SHOWN[show])
    result = queries.Rows(folder.name, utc_now(), tuple(rows))
    give("tasks", result, as_json, lambda _: render.tasks(rows) if rows else f"no task is {show.value}")


def why(
    id: Annotated[str, typer.Argument(help="C63 (change), T91 (task), agent-07, agent-07/12 (session), suite/case.")],
    run: Annotated[str | None, typer.Option("--run", help="The run, if not the only live or the newest one.")] = None,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Why it bounced, waits, was given back, ended, fails.

    Example: python -m orchestrator why C63
    """
    folder = find(logs, run)
    with reading(folder / STATE) as db:
        at = queries.as_of(db, live_pid(folder) is not None, utc_now())
        try:
            result = why_of(db, id, at)
        except KeyError as unknown:
            raise Failure("not_found", f"{folder.name}: {unknown.args[0]}") from unknown
    give("why", result, as_json, render.why)


def cost(
    run: Run = None,
    by: Annotated[By, typer.Option("--by", help="What the rows are.")] = By.ROLE,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Money and waste.

    Example: python -m orchestrator cost --by seat
    """
    folder = find(logs, run)
    with reading(folder / STATE) as db:
        result = cost_of(db, live_pid(folder) is not None, utc_now(), by)
    give("cost", result, as_json, render.cost)
