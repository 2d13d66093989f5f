"""Commands about the cases that main was judged by: `cases`, `blame` and `regressions`."""

from typing import Annotated

import typer

from orchestrator.cli.app import Screen
from orchestrator.watch import cases as history

Case = Annotated[str, typer.Argument(help="The case: suite/name.")]
Pattern = Annotated[str, typer.Argument(help="A case, or a pattern like 'torture/2000*'.")]
Failing = Annotated[bool, typer.Option("--failing", help="Only what neither passes nor is skipped.")]
OfRun = Annotated[str | None, typer.Option("--run", help="The run, if not the only live or the newest one.")]


def blame(screen: Screen, case: Case, run: OfRun = None) -> None:
    """When a case first passed on main, who broke it, who is on it.

    Example: python -m orchestrator blame torture/20000112-1@x86_64
    """
    screen.look("blame", run, lambda db, _: history.blame(db, case), history.blame_words)


def cases(screen: Screen, pattern: Pattern = "", failing: Failing = False, run: OfRun = None) -> None:
    """Every shown case as it is on main, and since when.

    Example: python -m orchestrator cases 'torture/2000*' --failing
    """
    screen.look("cases", run, lambda db, _: history.cases(db, pattern, failing), history.cases_words)


def regressions(screen: Screen, run: OfRun = None) -> None:
    """Cases that passed at an earlier main and did not at a later one: by whom, and mended by whom.

    Example: python -m orchestrator regressions
    """
    screen.look("regressions", run, lambda db, _: history.regressions(db), history.regressions_words)
