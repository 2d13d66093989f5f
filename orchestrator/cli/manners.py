"""What every command shares: its options, how results and hints are given, how a failure ends the process."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer import _click as click

from orchestrator.cli.failures import EXIT, Failure
from orchestrator.store import StoreError
from orchestrator.watch.encode import encode
from orchestrator.watch.text import visible

R = TypeVar("R")

Run = Annotated[
    str | None, typer.Argument(help="The run; left out: the only live one, else the newest.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON object on stdout.")]
Logs = Annotated[Path, typer.Option("--logs", envvar="ORCHESTRATOR_LOGS", help="The folder of all runs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
LOGS = Path("logs")
NAMED = {
    "Unpriced": "not_ready",
    "ModelNotReady": "not_ready",
    "RoomError": "not_ready",
    "ScriptError": "config",
    "SuiteError": "config",
    "ReferenceFailed": "refused",
    "CheckFailed": "refused",
}
"""Failures of other packages, which know no kinds of ours, by class."""


def give(schema: str, result: R, as_json: bool, words: Callable[[R], str]) -> None:
    typer.echo(encode(schema, result) if as_json else words(result))


def hint(text: str, as_json: bool) -> None:
    if not as_json:
        typer.echo(text, err=True)


def guarded(command: Callable[[list[str]], Any], arguments: list[str]) -> int:
    """Runs a command and returns its exit code; says on stderr, or as JSON, what went wrong."""
    try:
        code = command(arguments)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as done:
        return done.exit_code
    except Failure as failure:
        return _complain(failure, arguments)
    except click.exceptions.UsageError as usage:
        path = usage.ctx.command_path if usage.ctx else "python -m orchestrator"
        return _complain(Failure("usage", usage.format_message(), f"{path} --help"), arguments)
    except StoreError as unreadable:
        return _complain(Failure("refused", str(unreadable)), arguments)
    except Exception as raised:  # noqa: BLE001 - the last net: what nobody named is our bug, and said so
        error = leaf(raised)
        named = (NAMED.get(kind.__name__, "") for kind in type(error).__mro__)
        kind = getattr(error, "kind", "") or next(filter(None, named), "")
        if kind in EXIT:
            return _complain(Failure(kind, str(error), *getattr(error, "remedies", ())), arguments)
        traceback.print_exception(raised)
        return _complain(Failure("internal", f"our bug: {type(error).__name__}: {error}"), arguments)


def leaf(error: Exception) -> Exception:
    """What was raised, out of the groups that task groups put around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _complain(failure: Failure, arguments: list[str]) -> int:
    if "--json" in arguments:
        sys.stdout.write(json.dumps(failure.plain()) + "\n")
    else:
        lines = [f"error: {_lines(str(failure))}", *(f"  {_lines(line)}" for line in failure.hints)]
        sys.stderr.write("\n".join(lines) + "\n")
    return EXIT[failure.kind]


def _lines(text: str) -> str:
    return "\n".join(visible(line, 2000) for line in text.splitlines())
