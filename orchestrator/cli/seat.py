"""`seat RUN VERB`: an open seat from a shell, one command a tool call. Flags and help come from the tools' schemas."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import typer

from agents.tools import ARGUMENTS, DESCRIPTIONS, names
from agents.visible import visible
from orchestrator.cli.failures import Failure
from orchestrator.cli.launch import tell
from orchestrator.cli.places import find

TOKEN: Final = "ORCHESTRATOR_SEAT"
FIRST: Final = {  # what may be given without a flag
    "shell": ("command",),
    "wait": ("job",),
    "view": ("path", "lines"),
    "tasks": ("show",),
    "claim": ("task",),
    "verify": ("what",),
    "release": ("reason",),
    "note": ("topic", "text"),
}
BOARD_WAIT_S: Final = 540.0  # `wait` without a job: until the board changes, but within usual limits of a shell tool
EXAMPLE: Final = """
example:
  python -m orchestrator seat RUN take --role builder       prints your seat, its token, your prompt and the board
  export ORCHESTRATOR_SEAT=TOKEN                             or --token TOKEN with each command
  python -m orchestrator seat RUN claim T4 --plan "parse declarators, then test"
  python -m orchestrator seat RUN shell 'cargo build 2>&1 | tail -5'
  python -m orchestrator seat RUN edit - <<'JSON'            any tool's arguments as JSON on standard input
  {"path": "src/main.rs", "old": "fn a()", "new": "fn b()"}
  JSON
  python -m orchestrator seat RUN verify task
  python -m orchestrator seat RUN submit --summary "Parse declarators" --fixes torture/a torture/b

If your own shell cuts a long command off, it goes on: `last` waits for its answer and shows it.
`wait` without a job waits until the board changes. When a session is over, `take` with your token begins the next.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs one verb; 0 when it was done, 1 when the answer is a refusal or a failure."""
    asked = _parser().parse_args(arguments)
    folder = find(asked.logs, asked.run)
    if asked.verb == "take":
        fields = {"role": asked.role, "seat": asked.seat, "token": asked.token}
        return _show(tell(folder, "seat", verb="take", **fields), asked.as_json, asked.run)
    if not asked.token:
        raise Failure(
            "usage", "which seat? give --token, or set ORCHESTRATOR_SEAT", f"seat {asked.run} take   gives one"
        )
    if asked.verb in ("last", "leave"):
        return _show(tell(folder, "seat", verb=asked.verb, token=asked.token), asked.as_json, asked.run)
    if asked.verb == "wait" and asked.job is None:
        wait_s = min(asked.timeout_s or BOARD_WAIT_S, BOARD_WAIT_S)
        return _show(tell(folder, "seat", verb="board", token=asked.token, wait_s=wait_s), asked.as_json, asked.run)
    call = {"tool": asked.verb, "arguments": _arguments(asked), "token": asked.token}
    return _show(tell(folder, "seat", verb="call", **call), asked.as_json, asked.run)


def _arguments(asked: argparse.Namespace) -> dict[str, Any]:
    """What was given, and nothing else: the tool's own checks say what is missing."""
    fields = ARGUMENTS[asked.verb].model_fields
    given = {name: getattr(asked, name) for name in fields if getattr(asked, name) is not None}
    first = FIRST.get(asked.verb, ())
    if asked.rest == ["-"]:
        try:
            read = json.load(sys.stdin)
        except ValueError as wrong:
            raise Failure("usage", f"standard input is not JSON: {wrong}") from wrong
        if not isinstance(read, dict):
            raise Failure("usage", "standard input must hold one JSON object: the tool's arguments")
        return given | read
    if len(asked.rest) > len(first):
        takes = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
        extra = " ".join(asked.rest[len(first) :])
        raise Failure("usage", f"{asked.verb}: {extra!r} is too much", f"quote it as one word, or use {takes}")
    return given | dict(zip(first, asked.rest, strict=False))


def _show(answer: dict[str, Any], as_json: bool, run: str) -> int:
    if as_json:
        typer.echo(json.dumps({"schema": "seat/1", "run": run, **answer}))
    elif "prompt" in answer:
        typer.echo(_introduction(answer, run))
    else:
        for line in answer.get("messages", ()):
            typer.echo(visible(line))
        if "text" in answer:
            typer.echo(visible(answer["text"]))
        if asked_to_leave := answer.get("left"):
            typer.echo(f"{asked_to_leave} is free again")
        if answer.get("session_over"):
            typer.echo(
                f"[run] This session is over: {answer['session_over']}. `take` with your token begins the next one."
            )
    return 1 if answer.get("failed") else 0


def _introduction(answer: dict[str, Any], run: str) -> str:
    lines = [
        f"seat     {answer['seat']} ({answer['role']}), session {answer['session']}",
        f"token    {answer['token']}    (export {TOKEN}={answer['token']})",
        f"tools    python -m orchestrator seat {run} TOOL …    each has --help",
        *(f"  {name:<8} {DESCRIPTIONS[name]}" for name in answer["tools"]),
        "",
        answer["prompt"],
        "",
        answer["opening"],
        "",
        "Board:",
        answer["board"],
    ]
    return "\n".join(visible(line) for line in lines)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--token", default=os.environ.get(TOKEN, ""), help=f"the seat's token; or set {TOKEN}")
    common.add_argument("--json", dest="as_json", action="store_true", help="exactly one JSON object on stdout")
    common.add_argument(
        "--logs", type=Path, default=Path(os.environ.get("ORCHESTRATOR_LOGS", "logs")), help="folder of all runs"
    )
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator seat",
        description="Take a seat of a run's team from a shell, for a person or any program.",
        epilog=EXAMPLE,
        formatter_class=raw,
    )
    parser.add_argument("run", metavar="RUN")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    take = verbs.add_parser("take", parents=[common], help="take a free seat, or begin the next session of yours")
    take.add_argument("--role", default="", help="builder, planner or a role of the project's own")
    take.add_argument("--seat", default="", help="a certain seat, such as agent-03")
    verbs.add_parser(
        "last", parents=[common], help="the answer of your newest command, waiting for it if it still runs"
    )
    verbs.add_parser("leave", parents=[common], help="give the seat back; your task is released and its work kept")
    for name in names("planner"):
        _add_tool(
            verbs.add_parser(
                name, parents=[common], help=DESCRIPTIONS[name], description=_words(name), formatter_class=raw
            ),
            name,
        )
    return parser


def _words(name: str) -> str:
    first = " ".join(field.upper() for field in FIRST.get(name, ()))
    return "\n".join(
        [
            *textwrap.wrap(DESCRIPTIONS[name], 100),
            "",
            f"{name} {first}".rstrip() + "   or   - for JSON on standard input",
        ]
    )


def _add_tool(parser: argparse.ArgumentParser, name: str) -> None:
    for field, info in ARGUMENTS[name].model_fields.items():
        flag = f"--{field.replace('_', '-')}"
        kind = str(info.annotation)
        if "bool" in kind:
            parser.add_argument(flag, dest=field, action="store_true", default=None, help=info.description)
        elif "list" in kind:
            parser.add_argument(flag, dest=field, nargs="+", help=info.description)
        else:
            number = float if "float" in kind else int if "int" in kind else str
            parser.add_argument(flag, dest=field, type=number, help=info.description)
    parser.add_argument("rest", nargs="*", metavar="ARGUMENT", help=argparse.SUPPRESS)
