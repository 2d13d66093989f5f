"""What `python -m orchestrator` takes. A command's module is imported when it is chosen: a look costs no SDK."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import typer

from orchestrator.cli.failures import Failure
from orchestrator.cli.manners import guarded

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "doctor": ("orchestrator.cli.readiness:doctor", "Is this machine ready: engine, git, cores, disk, keys, prices?"),
    "project": ("orchestrator.cli.projects:project", "Lock a project's folder, or prove its judge: lock, check."),
    "start": ("orchestrator.cli.starting:start", "Start a run in a process of its own, and look at it."),
    "runs": ("orchestrator.cli.looking:runs", "All runs here, ended and aborted ones too."),
    "resume": ("orchestrator.cli.steering:resume", "Go on, after pause, stop, crash, reboot or upgrade."),
    "pause": ("orchestrator.cli.steering:pause", "Start nothing new."),
    "stop": ("orchestrator.cli.steering:stop", "Drain, then end."),
    "status": ("orchestrator.cli.looking:status", "One screen: healthy? progressing? cost? stuck on what?"),
    "logs": ("orchestrator.cli.looking:log", "What happened, in words."),
    "why": ("orchestrator.cli.looking:why", "Why it bounced, waits, was given back, ended, fails."),
    "tasks": ("orchestrator.cli.looking:tasks", "The board; tasks add, tasks drop."),
    "cost": ("orchestrator.cli.looking:cost", "Money and waste."),
    "set": ("orchestrator.cli.steering:set_", "Change the budget or the hours while it runs."),
    "say": ("orchestrator.cli.steering:say", "A word to one seat or all."),
    "seat": ("orchestrator.cli.seat:main", "Take a seat yourself, or for any program: seat RUN take."),
    "report": ("orchestrator.cli.publishing:report", "One HTML file to publish."),
}
NESTED: Final[dict[tuple[str, ...], str]] = {
    ("tasks", "add"): "orchestrator.cli.steering:add_task",
    ("tasks", "drop"): "orchestrator.cli.steering:drop_task",
}
SERVE: Final = "_serve"  # the run's own process, started by `start` and `resume`
USAGE: Final = "usage: python -m orchestrator COMMAND …      COMMAND --help says more"


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return guarded(_run, arguments)


def _run(arguments: list[str]) -> Any:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        width = max(map(len, COMMANDS))
        typer.echo("\n".join([USAGE, "", *(f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items())]))
        return 0 if arguments else 2
    name, *rest = arguments
    if name == SERVE:
        return importlib.import_module("orchestrator.cli.launch").serve_command(rest)
    if name == "seat":
        return importlib.import_module("orchestrator.cli.seat").main(rest)
    if nested := NESTED.get((name, *rest[:1])):
        return _call(nested, f"{name} {rest[0]}", rest[1:])
    if name not in COMMANDS:
        raise Failure("usage", f"there is no command {name!r}", "python -m orchestrator --help")
    return _call(COMMANDS[name][0], name, rest)


def _call(place: str, name: str, arguments: list[str]) -> Any:
    module, _, attribute = place.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(command)
        command = app
    return command(arguments, standalone_mode=False, prog_name=f"python -m orchestrator {name}")
