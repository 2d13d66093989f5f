"""`doctor`: is this machine ready?"""

from __future__ import annotations

import typer

from orchestrator import doctor as machine
from orchestrator.cli.manners import Json, give
from orchestrator.watch.text import table
from sandbox.home import state_home


def doctor(as_json: Json = False) -> None:
    """Is this machine ready: engine, git, cores, memory, disk, keys, prices? Exit 3 if a run could not start.

    Example: python -m orchestrator doctor
    """
    report = machine.examine(state_home())
    give("doctor", report, as_json, _lines)
    if not report.ready:
        raise typer.Exit(3)


def _lines(report: machine.Report) -> str:
    marks = {machine.Level.OK: "ok", machine.Level.WARN: "less", machine.Level.MISSING: "MISSING"}
    rows = [[line.name, marks[line.level], line.text, line.remedy] for line in report.lines]
    return "\n".join([*table(rows, left=4), "ready" if report.ready else "NOT READY: see what is MISSING"])
