"""What a project declares for its judge, in the words of `project.toml`, and all that a judge is given of it.

First the forms in which people write a project's values: sizes become bytes and durations seconds here, at the border.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from sandbox.room import MIB, Limits, RootFs

Item = TypeVar("Item")


class Section(BaseModel):
    """Unknown keys are mistakes: a misspelt `heldout` would publish what was to be hidden, and to ignore a key of a
    later version would judge something else than was meant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def form(pattern: str, words: str) -> AfterValidator:
    """A text of this form; `words` say what is wrong with any other."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def _quantity(units: Mapping[str, int], words: str, least: float, most: float) -> BeforeValidator:
    """A number with one of the units, which is asked for: 4 may mean four of anything."""
    written = re.compile(rf"(\d+(?:\.\d+)?) ?([{''.join(units)}])")

    def read(value: object) -> float:
        match = written.fullmatch(value) if isinstance(value, str) else None
        if match is None or not least <= float(match[1]) * units[match[2]] <= most:
            raise ValueError(words)
        return float(match[1]) * units[match[2]]

    return BeforeValidator(read)


_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# With less nothing runs, which would be told of each case.
_BYTES = _quantity(_SIZES, 'must be a size like "4G" or "512M", at least "64M"', 64 * MIB, 1 << 50)
_TIME = _quantity({"s": 1, "m": 60, "h": 3600, "d": 86400}, 'must be a duration like "10s", "5m" or "2h"', 0.001, 1e9)
Size = Annotated[int, BeforeValidator(int), _BYTES]  # the last one is asked first
Seconds = Annotated[float, _TIME]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Listed = Annotated[tuple[Item, ...], Strict(False)]  # a list of the file, frozen; its items stay strict
Strings = Listed[Text]
Name = Annotated[str, form(r"[a-z0-9][a-z0-9_-]*", "must be of lower case letters, digits, - and _")]
_INSIDE = r"(?!/|(.*/)?\.\.(/|$)).+"
Inside = Annotated[str, form(_INSIDE, "must be a path inside its folder, without ..")]
Cases = Annotated[Inside, form("(?!!).*", "must be a pattern of files in this version, not a command that lists cases")]


def _starts_inside(command: str) -> str:
    if not re.fullmatch(_INSIDE, "".join(shlex.split(command)[:1])):  # which raises for a quote that is not closed
        raise ValueError("must begin with a path inside the project's folder, without ..")
    return command


CommandLine = Annotated[str, AfterValidator(_starts_inside)]  # split as a shell would


class SuiteError(Exception):
    """What a suite declares and the project's files do not fit; the message says what to do, `suite` and `key` where
    it is declared."""

    def __init__(self, message: str, suite: str = "", key: str = "cases") -> None:
        super().__init__(message)
        self.suite, self.key = suite, key


class Suite(Section):
    """One `[[suite]]`. Paths are relative to the project's folder, or `sources/NAME/…`; seconds are CPU seconds."""

    name: Name
    cases: Cases = ""  # glob, or "" for a whole-suite command
    prepare: Inside = ""
    run: CommandLine = ""
    steps: Listed[CommandLine] = ()
    room: Literal["judge", "build"] = "judge"  # build: the image and the tree
    results: Literal["exit", "libtest"] = "exit"
    heldout: Share = 0.0
    when: Literal["fast", "gate", "main"] = "fast"  # which tiers it belongs to: `fast` ⊂ `gate`; main = after landing
    revert: bool = False  # what lands and loses a case of it is taken back
    time_s: Seconds = Field(default=10.0, alias="time")
    allow: Strings = ()


class BuildPlan(Section):
    """`[build]`: one command line run by `sh -c` inside the build room, and what leaves that room."""

    run: Text
    artifacts: Listed[Inside] = ()  # () = the whole tree
    time_s: Seconds = Field(default=600.0, alias="time")


@dataclass(frozen=True)
class LockedCase:
    """One case as `project lock` fixed it. `file` is relative to the project or `sources/…`.

    `twists` are the rewritings that the reference gets right (for example "inverse"), all that its plug-in offers while
    nothing is settled; `with_files` travel with it.
    """

    id: str
    suite: str
    file: str
    heldout: bool
    twists: tuple[str, ...] = ()
    with_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgePlan:
    """All that a judge needs to know of a frozen project. Paths are on the trusted side."""

    folder: Path  # the run's frozen copy: runners and plug-ins are taken from here, never from the live folder
    sources: Mapping[str, Path]
    build: BuildPlan
    suites: tuple[Suite, ...]
    cases: tuple[LockedCase, ...]
    image: RootFs | None  # None only for the `local` engine
    judge_root: RootFs | None
    scratch: Path  # the judge's own folder for builds, artifacts and products; may be removed between runs
    secret: bytes  # of this run: every draw is keyed by it
    limits: Limits
    cores: int
