"""`doctor`, `project lock`, `project check`: is this machine ready, and does a project's judge judge?"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from orchestrator import doctor as machine
from orchestrator.cli.screen import Dir, Sandbox, Screen
from orchestrator.project import check as proof
from orchestrator.project import lock as locking
from orchestrator.watch.render import lines
from orchestrator.watch.text import table
from sandbox.engines import choose
from sandbox.keep import state_home

Quick = Annotated[bool, typer.Option("--quick", help="A sample of the cases, one round.")]
MARKS = {machine.Level.OK: "ok", machine.Level.WARN: "less", machine.Level.MISSING: "MISSING"}


def doctor(screen: Screen) -> int:
    """Is this machine ready: engine, git, cores, memory, disk, keys, prices? Exit 3 if a run could not start.

    Example: python -m orchestrator doctor
    """
    report = machine.examine(state_home())
    rows = [{"what": one.name, "is": MARKS[one.level], "": one.text, "to do": one.remedy} for one in report.lines]
    end = "ready" if report.ready else "NOT READY: see what is MISSING"
    screen.give("doctor", report, f"{table(rows)}\n{end}")
    return 0 if report.ready else 3


def project_lock(screen: Screen, folder: Dir, sandbox: Sandbox = None) -> None:
    """Build the image, fetch the sources, let the reference settle the cases, and write project.lock.

    Example: python -m orchestrator project lock projects/hello
    """
    made = _judged(screen, locking.lock, folder, sandbox)
    rows = [
        {"suite": name, "shown": str(one.shown), "held_out": str(one.heldout), "dropped": len(one.dropped)}
        for name, one in made.suites.items()
    ]
    screen.give("project-lock", made, f"{folder}/project.lock\n{table(rows)}")


def project_check(screen: Screen, folder: Dir, quick: Quick = False, sandbox: Sandbox = None) -> int:
    """Prove the judge: the reference passes, the seed fails, cheats are caught, three runs agree. Exit 1 if not.

    Example: python -m orchestrator project check projects/hello --quick
    """
    report: proof.Report = _judged(screen, partial(proof.check, quick=quick), folder, sandbox)
    facts = {
        "reference": ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in report.reference.items()),
        "cheats": f"{report.cheats - len(report.wrong['cheat'])} of {report.cheats} caught",
        "agree": f"{report.cases - len(report.wrong['unsteady'])} of {report.cases} cases",
        "moved": report.drift,
        **{label.upper(): found for label, found in report.wrong.items()},
    }
    screen.give("project-check", report, lines("proved" if report.ok else "NOT PROVED", facts))
    return 0 if report.ok else 1


def _judged(screen: Screen, work: Callable[..., Any], folder: Path, sandbox: str | None) -> Any:
    """What a piece of work with the project's judge comes to, on all cores of this machine."""
    home, cores, told = state_home(), len(os.sched_getaffinity(0)), partial(screen.hint, "project")
    engine = choose(sandbox, home, judging=True)
    return anyio.run(partial(work, folder, engine, home, cores=cores, progress=told))
