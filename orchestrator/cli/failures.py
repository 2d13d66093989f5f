"""How a command fails: in words, with a kind for programs and an exit code for shells."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any, Final

import typer
from typer import _click as click

from orchestrator.control import Refusal
from orchestrator.watch.text import visible

EXIT: Final = {"refused": 1, "usage": 2, "config": 2, "ambiguous": 2, "not_ready": 3, "not_found": 4, "busy": 5} | {
    "lock_differs": 6,
    "internal": 70,
}
"""Exit code of each kind of failure. Whatever carries a `kind` from this table is such a failure."""
NAMED: Final = {
    "not_ready": ("Unpriced", "ModelNotReady", "RoomError"),
    "usage": ("ModelUnknown",),
    "config": ("FileError", "SuiteError"),
    "refused": ("ReferenceFailed", "StoreError"),
}
"""Failures of other packages, which know no kinds of ours, by class."""


def guarded(command: Callable[[list[str]], Any], arguments: list[str]) -> int:
    """Runs a command and returns its exit code; says on stderr, or as JSON, what went wrong."""
    try:
        code = command(arguments)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except click.exceptions.UsageError as usage:
        path = usage.ctx.command_path if usage.ctx else "python -m orchestrator"
        failure = Refusal(usage.format_message(), "usage", f"{path} --help")
    except Exception as raised:  # noqa: BLE001 - the last net: what nobody named is our bug, and said so
        failure = failure_of(raised)
        if failure.kind == "internal":
            traceback.print_exception(raised)
    if "--json" in arguments:
        typer.echo(json.dumps({"error": failure.told()}))
    else:
        lines = [*f"error: {failure}".splitlines(), *(f"  {line}" for line in failure.remedies)]
        typer.echo("\n".join(visible(line, 2000) for line in lines), err=True)
    return EXIT[failure.kind]


def failure_of(error: BaseException) -> Refusal:
    """The failure that an exception stands for, out of the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    classes = {base.__name__ for base in type(error).__mro__}
    named = [kind for kind, names in NAMED.items() if classes.intersection(names)]
    if (kind := getattr(error, "kind", *named[:1] or [""])) in EXIT:
        return Refusal(str(error), kind, *getattr(error, "remedies", ()))
    return Refusal(f"our bug: {type(error).__name__}: {error}", "internal")
