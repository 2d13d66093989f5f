"""`project lock` and `project check`: a project's folder as it will be judged, and the proof that its judge judges."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from orchestrator.cli.manners import Json, give, hint
from orchestrator.project import check as proof
from orchestrator.project import lock as locking
from orchestrator.watch.text import table
from sandbox.engines import choose
from sandbox.home import state_home

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.", show_default=False)]
Sandbox = Annotated[str | None, typer.Option(help="docker, bubblewrap or local (no isolation).")]
project = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@project.command()
def lock(folder: Dir, sandbox: Sandbox = None, as_json: Json = False) -> None:
    """Build the image, fetch the sources, let the reference settle the cases, and write project.lock.

    Example: python -m orchestrator project lock projects/hello
    """
    home = state_home()
    engine = choose(sandbox, home)

    async def work() -> locking.Lock:
        return await locking.lock(folder, engine, home, cores=_cores(), progress=partial(hint, as_json=as_json))

    def words(made: locking.Lock) -> str:
        suites = [
            [name, f"{one.shown} shown", f"{one.heldout} held out", f"{len(one.dropped)} dropped"]
            for name, one in made.suites.items()
        ]
        return "\n".join([f"{folder}/project.lock", *table(suites)])

    give("project-lock", anyio.run(work), as_json, words)


@project.command()
def check(
    folder: Dir,
    quick: Annotated[bool, typer.Option("--quick", help="A sample of the cases, one round.")] = False,
    sandbox: Sandbox = None,
    as_json: Json = False,
) -> None:
    """Prove the judge: the reference passes, the seed fails, cheats are caught, three runs agree. Exit 1 if not.

    Example: python -m orchestrator project check projects/hello --quick
    """
    home = state_home()
    engine = choose(sandbox, home)

    async def work() -> proof.Report:
        cores = _cores()
        return await proof.check(
            folder, engine, home, cores=cores, quick=quick, progress=partial(hint, as_json=as_json)
        )

    report = anyio.run(work)
    give("project-check", report, as_json, _proof)
    if not report.ok:
        raise typer.Exit(1)


def _proof(report: proof.Report) -> str:
    suites = ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in report.reference.suites.items())
    lines = [
        f"reference  {suites}",
        f"cheats     {report.cheats.caught} of {report.cheats.total} caught",
        f"agree      {report.agree.agreed} of {report.agree.total} cases",
        *(f"moved      {package}" for package in report.drift),
        *(f"REFERENCE  {line}" for line in report.reference.missed),
        *(f"SEED       passes {case}" for case in report.empty.passed),
        *(["SEED       does not build"] if not report.empty.builds else []),
        *(f"CHEAT      {line}" for line in report.cheats.missed),
        *(f"UNSTEADY   {line}" for line in report.agree.unsteady),
    ]
    return "\n".join([*lines, "proved" if report.ok else "NOT PROVED"])


def _cores() -> int:
    return len(os.sched_getaffinity(0))
