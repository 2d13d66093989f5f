"""`seat RUN VERB`: an open seat from a shell, one command a tool call. Flags and help come from the tools' schemas."""

import argparse
import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from agents.tools import ARGUMENTS, DESCRIPTIONS, check, names
from orchestrator.cli.app import Screen
from orchestrator.cli.process import find, tell
from orchestrator.control import Refusal
from orchestrator.quoting import visible

TOKEN: Final = "ORCHESTRATOR_SEAT"
BOARD_WAIT_S: Final = 540.0  # `wait` without a job: until the board changes, but within usual limits of a shell tool
HOW: Final[dict[str, dict[str, Any]]] = {
    "bool": {"action": "store_true", "default": None},
    "list": {"nargs": "*"},
}
"""How an option takes its value, by what stands in its field's type."""
NONE: Final[tuple[list[str], ...]] = ([], [""], ["[]"], ["none"])  # an empty list, as it may be typed
OVER: Final = {
    "waiting": "This session waits for the merge queue; if its change bounces, your seat goes on with it.",
    "put-aside": "This session is put aside and goes on later.",
    "": "This session is over: {}.",
}
NEXT: Final = "`take` with your token begins your next session, or goes on with one."
KNOWN: Final = "Your instructions are those of your first `take`; `take --prompt` prints them once more."
VERBS: Final = {
    "take": "take a free seat, or begin the next session of yours",
    "last": "your newest command's answer, waiting for it if it still runs",
    "leave": "give the seat back; your task is released, its work kept",
    **{name: DESCRIPTIONS[name] for name in names("planner")},
}


def seat(arguments: Sequence[str]) -> int:
    """Take a seat yourself, or for any program: seat RUN take.

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
    `wait` without a job waits for the verdict on your change, a landing, a bounce or a task that gets ready.
    When a session is over, `take` with your token begins the next. `--after ""` gives an empty list.
    The exit code is 0 when it was done, 1 when the answer is a refusal or a failure.
    """
    asked = _parser().parse_args(arguments)
    request = {"verb": asked.verb, "token": asked.token}
    if asked.verb == "take":
        request |= {"role": asked.role, "seat": asked.seat, "prompt": asked.prompt}
    elif not asked.token:
        raise Refusal(f"which seat? give --token, or set {TOKEN}", "usage", f"seat {asked.run} take   gives one")
    elif asked.verb in ARGUMENTS:
        given = _arguments(asked)
        if asked.verb == "wait" and "job" not in given:
            whole = check("planner", "wait", {"job": 0, **given}).model_dump()
            request |= {"verb": "board", "wait_s": min(whole["timeout_s"], BOARD_WAIT_S)}
        else:
            request |= {"verb": "call", "tool": asked.verb, "arguments": given}
    answer = tell(find(asked.logs, asked.run), "seat", **request)
    screen = Screen(asked.as_json, asked.logs)
    screen.give("seat", {"run": asked.run, **answer}, "\n".join(map(visible, _lines(answer, asked.run))))
    return 1 if answer.get("failed") else 0


def _arguments(asked: argparse.Namespace) -> dict[str, Any]:
    """What was given, and nothing else: the tool's own checks say what is missing or of the wrong type."""
    fields, first = ARGUMENTS[asked.verb].model_fields, _first(asked.verb)
    given = {name: getattr(asked, name) for name in fields if getattr(asked, name) is not None}
    given |= {name: [] for name, value in given.items() if value in NONE}
    if asked.rest == ["-"]:
        try:
            return {**given, **json.loads(sys.stdin.read() if sys.stdin else "")}
        except (ValueError, TypeError) as wrong:
            what = f"standard input must hold one JSON object, the tool's arguments: {wrong}"
            raise Refusal(what, "usage") from wrong
    if extra := asked.rest[len(first) :]:
        takes = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
        much = f"{asked.verb}: {' '.join(extra)!r} is too much"
        raise Refusal(much, "usage", f"quote it as one word, or use {takes}")
    return given | dict(zip(first, asked.rest, strict=False))


def _first(tool: str) -> list[str]:
    """The fields that may be given without a flag, in order."""
    return [name for name, info in ARGUMENTS[tool].model_fields.items() if info.annotation in (str, int)]


def _lines(answer: dict[str, Any], run: str) -> list[str]:
    if "prompt" in answer:
        return [
            f"seat     {answer['seat']} ({answer['role']}), session {answer['session']}",
            f"token    {answer['token']}    (export {TOKEN}={answer['token']})",
            f"tools    python -m orchestrator seat {run} TOOL …    each has --help",
            *(f"  {name:<8} {DESCRIPTIONS[name]}" for name in answer["tools"]),
            *("", answer["prompt"] or KNOWN, "", answer["opening"], "", "Board:", answer["board"]),
        ]
    lines = [*answer.get("messages", ()), *([answer["text"]] if "text" in answer else [])]
    if "session" in answer:
        lines.append(f"({answer['session']})")
    if "left" in answer:
        lines.append(f"{answer['left']} is free again")
    if over := answer.get("session_over"):
        lines.append(f"[run] {OVER.get(over, OVER[''].format(over))} {NEXT}")
    return lines


class _Parser(argparse.ArgumentParser):
    """One that fails like every other command."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(message, "usage", f"{self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(prog="python -m orchestrator seat", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = inspect.cleandoc(str(seat.__doc__))
    parser.add_argument("run", metavar="RUN")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        one = verbs.add_parser(name, help=text, description=text)
        one.add_argument("--token", default=os.environ.get(TOKEN, ""), help=f"the seat's token; or set {TOKEN}")
        one.add_argument("--json", dest="as_json", action="store_true", help="exactly one JSON object on stdout")
        logs = Path(os.environ.get("ORCHESTRATOR_LOGS", "logs"))
        one.add_argument("--logs", type=Path, default=logs, help="folder of all runs")
        if name == "take":
            one.add_argument("--role", default="", help="builder, planner or a role of the project's own")
            one.add_argument("--seat", default="", help="a certain seat, such as agent-03")
            one.add_argument("--prompt", action="store_true", help="print your instructions once more")
        if name in ARGUMENTS:
            usage = f"{' '.join(map(str.upper, _first(name)))}; or - for JSON on standard input"
            one.add_argument("rest", nargs="*", metavar="ARGUMENT", help=usage)
            for field, info in ARGUMENTS[name].model_fields.items():
                how = next((how for kind, how in HOW.items() if kind in str(info.annotation)), {})
                one.add_argument(f"--{field.replace('_', '-')}", dest=field, help=info.description, **how)
    return parser
