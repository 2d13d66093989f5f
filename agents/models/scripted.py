'''A team that follows a file: no key, no network, the same run every time.

The next reply is a function of the file and the conversation alone, so a resumed session goes on exactly where it was.

    [usage]                       # tokens of each reply, by kind; default 0
    input = 2000
    output = 300
    [price]                       # USD per million tokens of a kind; none = unpriced
    input = 3.0
    output = 15.0

    [[session]]
    role  = "builder"             # optional: only for sessions in this role
    match = "*lexer*"             # glob on the held task's id or title; without it (and with a role) no task is needed
    calls = [                     # one reply each: a tool call, or a list of several
      { tool = "shell", command = """printf 'fn main() {}' > main.rs""" },
      [ { tool = "view", path = "main.rs" }, { tool = "verify", what = "task" } ],
      { tool = "submit", summary = "Lexer", fixes = ["{case}"] },
    ]
    on_bounce = [ { tool = "shell", command = "git pull --rebase" }, { tool = "submit", summary = "Again" } ]
    close = "Done."

A session without a task asks for the board and claims the top ready one. The first entry that matches is played.
`{task}` and `{case}` become the held task's id and its first case. After the last call comes `close`.
'''

import json
import re
import tomllib
from dataclasses import asdict
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, NonNegativeInt, ValidationError, model_validator

from agents.models.base import Message, Reply, Request, Stop, Text, ToolCall, ToolResult, Usage


class ScriptError(Exception):
    """A script that cannot be played: the file, where in it, and what is wrong."""


def _as_steps(value: Any) -> list[Any]:
    """A reply's calls: one, or a list of several."""
    steps = value if isinstance(value, list) else [value]
    if not all(isinstance(step, dict) and isinstance(step.get("tool"), str) for step in steps):
        raise ValueError('a call needs tool = "NAME"')
    return steps


Step = dict[str, Any]
"""One tool call: `tool`, and everything else is its arguments."""
Steps = Annotated[list[Step], BeforeValidator(_as_steps)]


class Entry(BaseModel, extra="forbid"):
    match: str = ""
    role: str = ""
    calls: list[Steps] = []
    on_bounce: list[Steps] = []
    close: str = "Nothing left to do."

    @model_validator(mode="after")
    def _names_something(self) -> "Entry":
        if not self.match and not self.role:
            raise ValueError('needs match = "GLOB" (of a task) or role = "ROLE"')
        return self

    def plays(self, story: "_Story") -> bool:
        held = any(fnmatchcase(name, self.match) for name in (story.task, story.title) if name)
        return self.role in ("", story.role) and (held or not self.match)


Kind = Literal["input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"]
Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel, extra="forbid"):
    """USD per million tokens. A kind of cached input that is not named costs what `input` costs."""

    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write_5m: Usd | None = None
    cache_write_1h: Usd | None = None


class Script(BaseModel, extra="forbid"):
    usage: dict[Kind, NonNegativeInt] = {}
    price: Price | None = None  # None: unpriced
    session: list[Entry] = Field(min_length=1)


class Scripted:
    """The model behind `scripted:FILE`. To make it raises `ScriptError`."""

    window = 100_000_000  # a script reads its conversation, so nothing of it may be trimmed

    def __init__(self, file: Path) -> None:
        self.id = f"scripted:{file}"
        try:
            self.script = Script.model_validate(tomllib.loads(file.read_text()))
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(part for part in map(str, wrong["loc"]) if "[" not in part)  # else it names a validator
            raise ScriptError(f"{file}: {where}: {wrong['msg']}") from error
        except (OSError, ValueError) as error:  # no such file, not UTF-8, not TOML (which says the line)
            raise ScriptError(f"{file}: {error}") from error

    async def reply(self, request: Request) -> Reply:
        story, usage = _Story(request.messages), Usage(**self.script.usage)
        wanted = self._next(story)
        if isinstance(wanted, str):
            return Reply((Text(wanted),), Stop.END, usage, self.id, asdict(usage))
        steps = enumerate(map(story.filled, wanted))
        calls = tuple(ToolCall(f"call_{story.turn}_{n}", step.pop("tool"), step) for n, step in steps)
        return Reply(calls, Stop.TOOLS, usage, self.id, asdict(usage))

    async def close(self) -> None: ...

    def _next(self, story: "_Story") -> list[Step] | str:
        """The calls of the next reply, or the words that end the session."""
        entry = next((entry for entry in self.script.session if entry.plays(story)), None)
        if entry is None:
            return story.look_for_work()
        steps = entry.on_bounce if story.bounces else entry.calls
        if story.bounces > 1 or (story.bounces and not steps):
            return [{"tool": "release", "reason": "bounced; the script has no answer to it"}]
        done = story.turn - (story.since if entry.match or story.bounces else 0)
        return steps[done] if done < len(steps) else entry.close


class _Story:
    """What a conversation tells so far, as a script needs to know it."""

    def __init__(self, messages: tuple[Message, ...]) -> None:
        self.turn = 0  # replies so far
        self.since = 0  # the turn from which calls count: the held task's, or the bounce's
        self.task = self.title = self.case = self.role = ""
        self.bounces = 0  # of the held task
        self._refused: set[str] = set()
        self._ready: list[str] | None = None  # ids of the board, if it was looked at last
        calls: dict[str, ToolCall] = {}
        for message in messages:
            self.turn += message.role == "assistant"
            for block in message.blocks:
                match block:
                    case Text(text) if self.turn == 0:
                        found = re.search(r"You are \S+, an? ([\w-]+)", text)
                        self.role = found[1] if found else self.role
                        self._hold(text)
                    case ToolCall(id):
                        calls[id] = block
                    case ToolResult(call) if call in calls:
                        self._hear(calls[call], block)

    def _hold(self, text: str) -> None:
        """Takes the task that an opening block or the answer to a claim names (`T91 bit-fields wider than int`)."""
        if found := re.search(r"(?:\A|^Task: )(T\d+)\b\W*(.*?)(?:\s{2,}|$)", text, re.MULTILINE):
            self.task, self.title = found[1], found[2]
            case = re.search(r"^\W*(?:\d+ )?cases?\b[^:\n]*:\s*(\S+/\S*\w)", text, re.MULTILINE)
            self.case = case[1] if case else ""
            self.since, self.bounces = self.turn, 0

    def _hear(self, call: ToolCall, result: ToolResult) -> None:
        self._ready = None
        match call.name:
            case "tasks":
                self._ready = re.findall(r"^\W*(T\d+)\b", result.text, re.MULTILINE)
            case "claim":
                self._refused.add(str(call.arguments.get("task")))  # or, where it failed, it would be claimed for ever
                if not result.failed:
                    self._hold(result.text)
            case "release" if not result.failed:
                self._refused.add(self.task)  # the opening block's may be ready again
                self.task, self.bounces = "", 0
            case "submit" if "bounced" in result.text.lower():
                self.bounces += 1
                self.since = self.turn

    def look_for_work(self) -> list[Step] | str:
        if self.task:
            return [{"tool": "release", "reason": "the script has no entry for this task"}]
        if self._ready is None:
            return [{"tool": "tasks"}]
        free = [task for task in self._ready if task not in self._refused]
        return [{"tool": "claim", "task": free[0], "plan": "as the script says"}] if free else "Nothing is ready."

    def filled(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """`{task}` and `{case}` replaced in every string, and nothing else: commands are full of braces."""
        text = json.dumps(arguments)
        for name, value in (("{task}", self.task), ("{case}", self.case)):
            text = text.replace(name, json.dumps(value)[1:-1])
        return dict(json.loads(text))
