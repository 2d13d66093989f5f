"""What `python -m orchestrator` takes, what goes with every command, and how one fails.

A command's module is imported when it is chosen: a look costs no SDK.
"""

import inspect
import json
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Final

import typer
from typer import _click as click

from orchestrator.cli.process import Query, asked, find
from orchestrator.control import EXIT, Refusal, failure_of
from orchestrator.project.reading import nearest
from orchestrator.watch.render import Answer, plain, visible

MODULES: Final = {
    "projects": "doctor project_lock project_check start record",
    "runs": "runs status logs tasks why cost report resume pause stop set_ say waive",
    "cases": "cases blame regressions",
    "watching": "watch",
    "seat": "seat",
}
"""Where the function of each command stands, by its name."""
COMMANDS: Final = {
    name.replace("_", " ").strip(): f"orchestrator.cli.{module}:{name}"
    for module, names in MODULES.items()
    for name in names.split()
}
Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON object on stdout.")]
Logs = Annotated[Path, typer.Option(envvar="ORCHESTRATOR_LOGS", file_okay=False, help="The folder of all runs.")]


@dataclass(frozen=True)
class Screen:
    """Where answers go, and where the runs lie that they are about."""

    as_json: bool
    logs: Path

    def give(self, schema: str, answer: Any, words: str) -> None:
        """An answer in words, or as JSON, whose fields are only ever added to."""
        typer.echo(json.dumps({"schema": f"{schema}/1", **plain(answer)}) if self.as_json else words)

    def hint(self, word: str, text: str) -> None:
        if not self.as_json:
            typer.echo(f"{word:<9} {text}", err=True)

    def look(self, schema: str, run: str | None, query: Query, words: Callable[[Any], str]) -> Answer:
        """Gives what a query answers about a run."""
        answer = asked(find(self.logs, run), query)
        self.give(schema, answer, words(answer))
        return answer


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; says on stderr, or as JSON, what went wrong."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(arguments) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except click.exceptions.UsageError as usage:
        path = usage.ctx.command_path if usage.ctx else "python -m orchestrator"
        failure = Refusal(usage.format_message(), "usage", f"{path} --help")
    except Exception as raised:  # noqa: BLE001 - the last net: what nobody named is our bug, and said so
        failure = failure_of(raised)
        if failure.kind == "internal":
            traceback.print_exception(raised)
        if isinstance(raised, OSError) and raised.filename is None:  # stdout's: nothing more can be said there
            sys.stdout = sys.stderr
    as_json, lines = "--json" in arguments, [f"error: {failure}", *(f"  {line}" for line in failure.remedies)]
    words = "\n".join(visible(line, 2000) for line in "\n".join(lines).splitlines())
    with suppress(OSError):
        typer.echo(json.dumps({"error": failure.told()}) if as_json else words, err=not as_json)
    return EXIT[failure.kind]


def _run(arguments: list[str]) -> Any:
    group = "project " if arguments[:1] == ["project"] else ""
    first, *rest = arguments[bool(group) :] or [""]
    name = group + first
    if first in ("", "-h", "--help", "help"):
        found = {one: resolve_name(path).__doc__ for one, path in COMMANDS.items() if one.startswith(group)}
        usage = f"usage: python -m orchestrator {group}COMMAND …      COMMAND --help says more\n"
        typer.echo("\n".join([usage, *(f"  {one:<13}  {says.splitlines()[0]}" for one, says in found.items())]))
        return 0 if first else 2
    if name == "_serve":  # the run's own process, begun by `start` and `resume`: its folder is the last argument
        return resolve_name("orchestrator.cli.process:serve")(Path(rest[-1]))
    if name not in COMMANDS:
        wrong = f"there is no command {name!r}{nearest(name, COMMANDS)}"
        raise Refusal(wrong, "usage", f"python -m orchestrator {group}--help")
    if name == "seat":  # which reads its arguments itself
        return resolve_name(COMMANDS[name])(rest)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_with_screen(resolve_name(COMMANDS[name])))
    return app(rest, standalone_mode=False, prog_name=f"python -m orchestrator {name}")


def _with_screen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with `--json` and `--logs` instead of its first parameter, the screen that they make."""

    def run(as_json: Json = False, logs: Logs = Path("logs"), **given: Any) -> Any:
        return command(Screen(as_json, logs), **given)

    (_, *own), (*shared, _) = (inspect.signature(one, eval_str=True).parameters.values() for one in (command, run))
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__, run.__doc__ = {one.name: one.annotation for one in (*own, *shared)}, command.__doc__
    return run
