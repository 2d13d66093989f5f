"""What `python -m orchestrator` takes. A command's module is imported when it is chosen: a look costs no SDK."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import typer

from orchestrator.cli.failures import Failure, guarded
from orchestrator.cli.screen import with_screen

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "doctor": ("checks:doctor", "Is this machine ready: engine, git, cores, disk, keys, prices?"),
    "project lock": ("checks:lock", "Build the image, fetch the sources, write project.lock."),
    "project check": ("checks:check", "Prove the judge of a project."),
    "start": ("starting:start", "Start a run in a process of its own, and look at it."),
    "runs": ("looking:runs", "All runs here, ended and aborted ones too."),
    "resume": ("steering:resume", "Go on, after pause, stop, crash, reboot or upgrade."),
    "pause": ("steering:pause", "Start nothing new."),
    "stop": ("steering:stop", "Drain, then end."),
    "status": ("looking:status", "One screen: healthy? progressing? cost? stuck on what?"),
    "logs": ("looking:logs", "What happened, in words."),
    "why": ("looking:why", "Why it bounced, waits, was given back, ended, fails."),
    "tasks": ("looking:tasks", "The board."),
    "cost": ("looking:cost", "Money and waste."),
    "set": ("steering:set_budget", "Another budget, while it runs or before a resume."),
    "say": ("steering:say", "A word to one seat or all."),
    "seat": ("seat:main", "Take a seat yourself, or for any program: seat RUN take."),
    "report": ("looking:report", "One HTML file to publish."),
}
RAW: Final = {"seat": "seat:main", "_serve": "process:serve_command"}
"""Commands that read their arguments themselves; `_serve` is the run's own process."""


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return guarded(_run, arguments)


def _run(arguments: list[str]) -> Any:
    words = 2 if arguments[:1] == ["project"] else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name in ("", "--help", "-h", "help", "project", "project --help"):
        typer.echo("usage: python -m orchestrator COMMAND …      COMMAND --help says more\n")
        typer.echo("\n".join(f"  {command:<13}  {line}" for command, (_, line) in COMMANDS.items()))
        return 0 if arguments[-1:] != ["project"] and arguments else 2
    if name not in COMMANDS and name not in RAW:
        raise Failure("usage", f"there is no command {name!r}", "python -m orchestrator --help")
    module, _, function = (RAW.get(name) or COMMANDS[name][0]).partition(":")
    command = getattr(importlib.import_module(f"orchestrator.cli.{module}"), function)
    if name in RAW:
        return command(rest)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(with_screen(command))
    return app(rest, standalone_mode=False, prog_name=f"python -m orchestrator {name}")
