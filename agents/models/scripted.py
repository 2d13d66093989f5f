'''A team that follows a file: no key, no network, the same run every time.

The next reply is a function of the file and the conversation alone, so a resumed session goes on exactly where it was.

    [usage]                       # tokens of each reply, by the names of `Usage`; default 0
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

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agents.models.base import Block, Message, Reply, Request, Stop, Text, ToolCall, ToolResult, Usage


class ScriptError(Exception):
    """A script that cannot be played: `file:line: what is wrong`."""


class Step(BaseModel):
    """One tool call: `tool`, and everything else is its arguments."""

    model_config = ConfigDict(extra="allow")
    tool: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def _step(tool: str, **arguments: str) -> Step:
    return Step.model_validate({"tool": tool, **arguments})


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    match: str = ""
    role: str = ""
    calls: list[Step | list[Step]] = []
    on_bounce: list[Step | list[Step]] = []
    close: str = "Nothing left to do."

    @model_validator(mode="after")
    def _names_something(self) -> Entry:
        if not self.match and not self.role:
            raise ValueError('needs match = "GLOB" (of a task) or role = "ROLE"')
        return self


Count = Annotated[int, Field(ge=0)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Tokens(BaseModel):
    """Tokens of each reply, by the kinds of `Usage`."""

    model_config = ConfigDict(extra="forbid")
    input: Count = 0
    output: Count = 0
    cache_read: Count = 0
    cache_write_5m: Count = 0
    cache_write_1h: Count = 0
    reasoning: Count = 0


class Price(BaseModel):
    """USD per million tokens; a kind that is not named has no price of its own."""

    model_config = ConfigDict(extra="forbid")
    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write_5m: Usd | None = None
    cache_write_1h: Usd | None = None


class Script(BaseModel):
    model_config = ConfigDict(extra="forbid")
    usage: Tokens = Tokens()
    price: Price | None = None  # None: unpriced
    session: list[Entry] = Field(min_length=1)


def load(file: Path) -> Script:
    """Reads a script. Raises `ScriptError` with file and line."""
    try:
        text = file.read_text()
        return Script.model_validate(tomllib.loads(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise ScriptError(f"{file}:{found[1] if found else text.count(chr(10)) + 1}: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if part not in ("Step", "list[Step]"))
        raise ScriptError(f"{file}:{_line(text, problem['loc'])}: {where}: {problem['msg']}") from error


def _line(text: str, loc: tuple[int | str, ...]) -> int:
    """The line nearest to an error's place: its table's header, then the key if it stands below."""
    headers = [n for n, line in enumerate(text.splitlines(), 1) if re.match(rf"\s*\[+{loc[0]}\]+", line)] if loc else []
    entry = loc[1] if len(loc) > 1 and isinstance(loc[1], int) else 0
    if entry >= len(headers):
        return 1
    names = [part for part in loc[1:] if isinstance(part, str)]
    for n, line in enumerate(text.splitlines()[headers[entry] :], headers[entry] + 1):
        if re.match(r"\s*\[", line):
            break
        if names and re.match(rf"\s*{re.escape(names[0])}\s*=", line):
            return n
    return headers[entry]


class Scripted:
    """The model behind `scripted:FILE`."""

    window = 100_000_000  # a script reads its conversation, so nothing of it may be trimmed

    def __init__(self, file: Path, name: str = "") -> None:
        self.id = f"scripted:{name or file}"
        self.script = load(file)

    async def reply(self, request: Request) -> Reply:
        story = _Story(request.messages)
        calls: tuple[ToolCall, ...] = ()
        text = ""
        match self._next(story):
            case str(closing):
                text = closing
            case list(steps):
                calls = tuple(
                    ToolCall(f"call_{story.turn}_{i}", step.tool, _filled(step.arguments, story))
                    for i, step in enumerate(steps)
                )
        blocks: tuple[Block, ...] = (Text(text), *calls) if text else calls
        usage = self.script.usage.model_dump()
        return Reply(blocks, Stop.TOOLS if calls else Stop.END, Usage(**usage), self.id, usage)

    async def close(self) -> None: ...

    def _next(self, story: _Story) -> list[Step] | str:
        entry = self._entry(story)
        if entry is None:
            return story.ask_for_work()
        done, steps = story.turn - (story.since if entry.match else 0), entry.calls
        if story.bounced_at is not None:
            done, steps = story.turn - story.bounced_at, entry.on_bounce
            if not steps or (story.bounces > 1 and done == 0):
                return [_step("release", reason="bounced; the script has no answer to it")]
        if done < len(steps):
            step = steps[done]
            return step if isinstance(step, list) else [step]
        return entry.close

    def _entry(self, story: _Story) -> Entry | None:
        """The entry to play, or None to look for a task first."""
        for entry in self.script.session:
            if entry.role and entry.role != story.role:
                continue
            if not entry.match or (story.task and story.matches(entry.match)):
                return entry
        if story.task:
            return Entry(match="*", calls=[_step("release", reason="the script has no entry for this task")])
        return None


class _Story:
    """What a conversation tells so far, as a script needs to know it."""

    def __init__(self, messages: tuple[Message, ...]) -> None:
        self.turn = 0  # replies so far
        self.since = 0  # the turn from which the held task's calls count
        self.task = self.title = self.case = self.role = ""
        self.bounces = 0
        self.bounced_at: int | None = None
        self._refused: set[str] = set()
        self._ready: tuple[str, ...] | None = None  # ids of the newest board, until a claim uses it
        calls: dict[str, ToolCall] = {}
        for message in messages:
            self.turn += message.role == "assistant"
            for block in message.blocks:
                match block:
                    case Text(text) if self.turn == 0:
                        self._open(text)
                    case ToolCall(id):
                        calls[id] = block
                    case ToolResult(call) if call in calls:
                        self._hear(calls[call], block)

    def _open(self, text: str) -> None:
        if found := re.search(r"You are \S+, an? ([\w-]+)", text):
            self.role = found[1]
        if found := re.search(r"^Task: (.*?)(?:\s{2,}|$)", text, re.MULTILINE):
            self._hold(found[1], text)

    def _hold(self, line: str, text: str) -> None:
        """Takes the task named in `line` (`T91 bit-fields wider than int`); its cases are somewhere in `text`."""
        if found := re.search(r"\b(T\d+)\b\W*(.*)", line):
            self.task, self.title = found[1], found[2]
            case = re.search(r"^\W*(?:\d+ )?cases?\b[^:\n]*:\s*(\S+/\S*\w)", text, re.MULTILINE)
            self.case = case[1] if case else ""
            self.since = self.turn

    def _hear(self, call: ToolCall, result: ToolResult) -> None:
        match call.name:
            case "tasks":
                self._ready = tuple(re.findall(r"^\W*(T\d+)\b", result.text, re.MULTILINE))
            case "claim" if result.failed:
                self._refused.add(str(call.arguments.get("task")))
                self._ready = None
            case "claim":
                self._hold(result.text.partition("\n")[0], result.text)
            case "release" if not result.failed:
                self._refused.add(self.task)  # or it would be claimed again, and given back again, for ever
                self.task, self.bounced_at, self._ready = "", None, None
            case "submit" if "bounced" in result.text.lower():
                self.bounces += 1
                self.bounced_at = self.turn

    def matches(self, glob: str) -> bool:
        return any(fnmatchcase(name, glob) for name in (self.task, self.title, f"{self.task} {self.title}"))

    def ask_for_work(self) -> list[Step] | str:
        if self._ready is None:
            return [_step("tasks")]
        for task in self._ready:
            if task not in self._refused:
                return [_step("claim", task=task, plan="as the script says")]
        return "Nothing is ready."


def _filled(value: Any, story: _Story) -> Any:
    """`{task}` and `{case}` replaced in every string, and nothing else: commands are full of braces."""
    match value:
        case str():
            return value.replace("{task}", story.task).replace("{case}", story.case)
        case list():
            return [_filled(item, story) for item in value]
        case Mapping():
            return {key: _filled(item, story) for key, item in value.items()}
    return value
