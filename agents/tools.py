"""The tools as the model sees them: their words, the check of what it passes, and what it is answered.

Few, with verbs for names. What the shell tools do is `agents/hands.py`; the team's verbs are the orchestrator's, which
implements `Team`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Protocol

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from agents.models.base import ToolSpec

COMMAND: Final = 32_000  # characters: the kernel takes 128 KiB for one argument
SHORTER: Final = (
    "; write the text to a file with `edit` (from a shell: `seat RUN edit -`, JSON on stdin), then run that"
)
FOREGROUND_S: Final = 120  # what runs longer belongs in the background, where no restart of ours can end it


def _as_list(value: object) -> object:
    """Models often write one id, or several in one string, where a list is asked for."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


Word = Annotated[str, Field(min_length=1)]
Path = Annotated[str, Field(min_length=1, max_length=4000)]
Names = Annotated[list[str], BeforeValidator(_as_list)]
SHOWN: Final = Field(None, ge=1, le=400, description="of its output that you see; 36 unless given")


class Arguments(BaseModel, extra="forbid"):
    """What a tool takes. The docstring of each class below is its tool's description, as the model reads it."""

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("a NUL character cannot be passed on")
        return value


class Shell(Arguments):
    """Run a command in your sandbox, in /workspace, without network. Over 120 s: use background and `wait`.

    Of more than 36 lines (`lines`, up to 400) you see the first and the last, and where all of them are kept.
    """

    command: str = Field(min_length=1, max_length=COMMAND)
    timeout_s: float | None = Field(None, gt=0, description="seconds; 120 unless in the background")
    background: bool = False
    lines: int | None = SHOWN

    @model_validator(mode="after")
    def _short_in_front(self) -> "Shell":
        if not self.background and (self.timeout_s or 0) > FOREGROUND_S:
            raise ValueError(f"over {FOREGROUND_S} s: set background to true, then call wait")
        return self


class Wait(Arguments):
    """Wait for a background job. Costs nothing while you wait."""

    job: int = Field(ge=0, lt=1_000_000, description="the number that shell gave")
    timeout_s: float = Field(600, ge=0, le=3600)
    lines: int | None = SHOWN


class View(Arguments):
    """Show numbered lines of a text file, or a folder's entries."""

    path: Path
    lines: str = Field("1-200", pattern=r"^\d{1,9}(-\d{1,9})?$", description="first-last, at most 200")


class Edit(Arguments):
    """Replace one exact, unique piece of text. Empty `old` creates a file."""

    path: Path
    old: str
    new: str


class Tasks(Arguments):
    """The board, best first. Each line: id, title, cases, folders, who tried before."""

    show: str = Field("ready", pattern=r"^(ready|mine|stuck|all|T\d+)$", description="ready, mine, stuck, all or an id")
    limit: int = Field(10, ge=1, le=100)


class Claim(Arguments):
    """Take a task before you work on it. Fails if someone holds it, or if a queued change already fixes it."""

    task: str = ""
    title: str = ""
    touches: Names = []
    plan: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Claim":
        if bool(self.task) == bool(self.title):
            raise ValueError("give either task (an id from tasks), or title and touches for one of your own")
        return self


class Verify(Arguments):
    """Judge your workspace as the merge queue would, on newest main plus your change. `fast` is a fixed sample of your
    own."""

    what: Word = Field(
        "fast", description="fast, task, touched, or case ids separated by spaces; task is fast where it names no cases"
    )


class Submit(Arguments):
    """Hand your work to the merge queue and wait for its verdict. `fixes`: the cases it newly passes, as `verify` lists
    them. The task closes when all of its own cases pass on main."""

    summary: Word = Field(description="2 to 6 lines: what changed and why")
    fixes: Names = Field([], description="case ids")


class Release(Arguments):
    """Give the task back. Your work is kept for whoever takes it next."""

    reason: Word
    note: str = ""


class Note(Arguments):
    """Leave what the next one must know (at most 5 lines). Replaces your earlier note on that topic."""

    topic: Word = Field(description="a task id, a folder, suspect-case, planner or operator")
    text: Word


class Plan(Arguments):
    """Write, change or drop tasks."""

    title: str = ""
    why: str = ""
    done_when: Names = Field([], description="case ids or patterns, all of them")
    touches: Names | None = Field(None, description="folders; [] for none")
    after: Names | None = Field(None, description="ids of tasks it needs; [] for none")
    task: str = Field("", description="id of the task to change: what is given replaces what it had; else a new one")
    drop: Names = Field([], description="ids to drop; say why")
    merge: Names = Field([], description="ids to join into the first of them")
    order: Names = Field([], description="ids, the one to be done first in front")

    @model_validator(mode="after")
    def _asks_something(self) -> "Plan":
        if not (self.title or self.task or self.drop or self.merge or self.order):
            raise ValueError("give title and why for a task, or drop, merge or order with ids")
        return self


TOOLS: Final = (Shell, Wait, View, Edit, Tasks, Claim, Verify, Submit, Release, Note, Plan)  # as the model sees them
ARGUMENTS: Final[Mapping[str, type[Arguments]]] = {tool.__name__.lower(): tool for tool in TOOLS}
DESCRIPTIONS: Final = {name: " ".join(str(tool.__doc__).split()) for name, tool in ARGUMENTS.items()}

InRoom = Shell | Wait | View | Edit  # whose work is done in the room; all others are the team's verbs


class BadArguments(Exception):
    """What the model passed is not what the tool takes. The text is for the model: what is wrong, what to do."""


def names(role: str) -> tuple[str, ...]:
    """The tools of a role, in the order in which the model sees them."""
    return tuple(name for name in ARGUMENTS if name != "plan" or role == "planner")


@cache
def specs(role: str) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(name, DESCRIPTIONS[name], _schema(ARGUMENTS[name])) for name in names(role))


def check(role: str, name: str, arguments: Mapping[str, Any]) -> Arguments:
    """The call's arguments, complete and of the right types. Raises `BadArguments`."""
    if name not in names(role):
        raise BadArguments(f"there is no tool {name[:60]!r} here; you have {', '.join(names(role))}")
    try:
        return ARGUMENTS[name].model_validate(dict(arguments))
    except ValidationError as error:
        found = [(".".join(map(str, wrong["loc"])), wrong["msg"]) for wrong in error.errors()[:3]]
        long = name == "shell" and any(wrong["type"] == "string_too_long" for wrong in error.errors())
        wrong = "; ".join(f"{where}: {what}" if where else what.removeprefix("Value error, ") for where, what in found)
        raise BadArguments(
            f"{name} was not run: {wrong}. It takes {', '.join(ARGUMENTS[name].model_fields)}{SHORTER * long}"
        ) from None


def _schema(arguments: type[Arguments]) -> dict[str, Any]:
    """pydantic's schema without what the model has already or has no use for: titles, and the tool's description."""
    schema = arguments.model_json_schema()
    del schema["title"], schema["description"]
    for field in schema["properties"].values():
        del field["title"]
    return schema


class End(StrEnum):
    """Why a session is over."""

    LANDED = "landed"
    RELEASED = "released"
    FINISHED = "finished"  # the model had nothing left to do
    BUDGET = "budget"
    CONTEXT = "context"
    REPEATED_FAILURE = "repeated-failure"
    DRAINED = "drained"
    LEFT = "left"  # an open seat said so, or its lease ran out
    CRASHED = "crashed"
    # And where it is not over, but rests while its seat goes on with another:
    WAITING = "waiting"  # for the verdict on its change
    ASIDE = "put-aside"  # for an earlier session, whose change came back


@dataclass(frozen=True)
class Answer:
    """A verb's result as the model reads it: plain text, totals first. `end` ends the session once it is stored. `how`
    says in a word how a command ended, where `refused` does not say it. `stored`: it is on disk under its call's id,
    with the verb's effect."""

    text: str
    refused: bool = False
    end: End | None = None
    how: str = ""
    stored: bool = False

    @property
    def kind(self) -> str:
        """What a replay of the call should come to again."""
        return self.how or ("refused" if self.refused else "ok")


class Later(Exception):
    """The answer comes later and is stored by the run: the session rests until then. The message says what for."""


class Team(Protocol):
    """The verbs of one session. A verb's effect and its result are stored in one transaction under the call's id:
    a call that has had its effect has its answer, and is never asked again.
    """

    async def do(self, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        """Runs `tasks`, `claim`, `verify`, `submit`, `release`, `note`, `plan`. Authority is checked by seat and role.

        `submit` answers with the change's terminal state. Raises `Later` while that is open.
        """
