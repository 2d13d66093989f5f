"""What `python -m orchestrator` takes. A command's module is imported when it is chosen: a look costs no SDK."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer

from orchestrator.cli.failures import guarded
from orchestrator.cli.screen import with_screen
from orchestrator.control import Refusal

MODULES: Final = {
    "checks": "doctor project_lock project_check",
    "starting": "start",
    "looking": "runs status logs tasks why cost report",
    "steering": "resume pause stop set_ say",
    "seat": "seat",
}
"""Where the function of each command stands, by its name."""
COMMANDS: Final = {
    name.replace("_", " ").strip(): (module, name) for module, names in MODULES.items() for name in names.split()
}
SERVE: Final = "_serve"  # the run's own process, begun by `start` and `resume`: its folder is the last argument


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return guarded(_run, arguments)


def _run(arguments: list[str]) -> Any:
    words = 2 if arguments[:1] == ["project"] else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name in ("", "-h", "--help", "help"):
        _list()
        return 0 if name else 2
    if name == SERVE:
        return importlib.import_module("orchestrator.cli.launch").serve(Path(rest[-1]))
    if name not in COMMANDS:
        raise Refusal(f"there is no command {name!r}", "usage", "python -m orchestrator --help")
    if name == "seat":  # which reads its arguments itself
        return _function(name)(rest)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(with_screen(_function(name)))
    return app(rest, standalone_mode=False, prog_name=f"python -m orchestrator {name}")


def _function(command: str) -> Callable[..., Any]:
    module, name = COMMANDS[command]
    function: Callable[..., Any] = getattr(importlib.import_module(f"orchestrator.cli.{module}"), name)
    return function


def _list() -> None:
    lines = [f"  {name:<13}  {(_function(name).__doc__ or '').splitlines()[0]}" for name in COMMANDS]
    typer.echo("\n".join(["usage: python -m orchestrator COMMAND …      COMMAND --help says more", "", *lines]))
