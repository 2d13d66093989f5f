"""The keys of a project's TOML files, as pydantic models: types, forms and defaults.

What needs more than one key, or a look into the folder, is in `rules.py`. Sizes become bytes, durations seconds and
money micro-dollars here, at the border.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sandbox.room import GIB


def _quantity(units: Mapping[str, int], words: str) -> BeforeValidator:
    """A number with one of the units, which is asked for: 4 may mean four of anything."""
    form = re.compile(rf"(\d+(?:\.\d+)?) ?([{''.join(units)}])")

    def read(value: object) -> float:
        match = form.fullmatch(value) if isinstance(value, str) else None
        if match is None or float(match[1]) == 0:
            raise ValueError(words)
        return float(match[1]) * units[match[2]]

    return BeforeValidator(read)


def _money(value: object) -> int:
    """Micro-dollars of an amount in USD."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("must be an amount in USD above 0, like 15 or 0.5, without a currency sign")
    return round(value * 1_000_000)


def _form(pattern: str, words: str) -> AfterValidator:
    """A text of this form; `words` say what is wrong with any other."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


_BYTES = _quantity({"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}, 'must be a size like "4G" or "512M"')
_TIME = _quantity({"s": 1, "m": 60, "h": 3600, "d": 86400}, 'must be a duration like "10s", "5m" or "2h"')
Size = Annotated[int, BeforeValidator(int), _BYTES]  # the last one is asked first
Seconds = Annotated[float, _TIME]
MicroDollars = Annotated[int, BeforeValidator(_money)]
Share = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, _form(r"[a-z0-9][a-z0-9_-]*", "must be of lower case letters, digits, - and _")]
Package = Annotated[
    str, _form(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=\S+)?", "is no Debian package's name; one name a string")
]
Program = Annotated[str, _form(r"[^/ ]+", "must be a program's name without path or arguments")]
Inside = Annotated[str, _form(r"(?!/|(.*/)?\.\.(/|$)).*", "must be a path inside its folder, without ..")]
Base = Annotated[str, _form(r"debian:[a-z]+", 'must be a Debian release like "debian:bookworm"')]
Strings = tuple[Text, ...]


class Section(BaseModel):
    """Unknown keys are mistakes: a misspelt `heldout` would publish what was to be hidden, and to ignore a key of a
    later version would judge something else than was meant.

    Lists reach the models as tuples (`reading.py` turns them), so that strict types and frozen values go together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(Section):
    packages: Annotated[tuple[Package, ...], Field(min_length=1)]
    base: Base = "debian:bookworm"
    judge: tuple[Package, ...] | None = None


class Source(Section):
    deb: str = ""
    src: str = ""
    path: str = ""
    show: bool = False


class Build(Section):
    run: Text
    artifacts: tuple[Inside, ...] = ()
    time_s: Seconds = Field(600.0, alias="time")


class Limits(Section):
    cpus: Annotated[float, Field(gt=0)] = 2.0
    memory: Size = 4 * GIB
    disk: Size = 20 * GIB
    command: Seconds = 600.0
    fast: Seconds = 180.0


class Suite(Section):
    name: Name
    cases: Inside = ""
    prepare: str = ""
    run: str = ""
    steps: Strings = ()
    room: Literal["judge", "build"] = "judge"
    results: Literal["exit", "libtest"] = "exit"
    variants: Strings = ()
    heldout: Share = 0.0
    when: Literal["fast", "gate"] = "fast"
    time_s: Seconds = Field(10.0, alias="time")
    allow: Strings = ()


class Budget(Section):
    """None is "no limit", and has to be given elsewhere for `usd`."""

    usd: MicroDollars | None = None
    hours: Annotated[float, Field(gt=0)] | None = None
    session: MicroDollars = 15_000_000
    idle: Seconds | None = None


class Milestone(Section):
    name: Text
    credit: Annotated[float, Field(gt=0, le=100)]
    needs: Annotated[dict[str, Threshold], Field(min_length=1)]  # of a suite, or of suite/pattern


class ProjectFile(Section):
    """`project.toml`."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    image: Image
    build: Build
    suite: Annotated[tuple[Suite, ...], Field(min_length=1)]
    network: Literal["none"] = "none"
    forbid: tuple[Program, ...] = ()
    sources: dict[Name, Source] = {}
    limits: Limits = Limits()
    roles: dict[str, Annotated[int, Field(ge=1)]] = {"builder": 1}
    budget: Budget = Budget()
    milestone: tuple[Milestone, ...] = ()


class PlannedTask(Section):
    """A task that the board begins with. `after` names earlier tasks of the file; the board gives them ids."""

    name: Name
    title: Text
    why: Text
    cases: Annotated[Strings, Field(min_length=1)]
    touches: Strings = ()
    after: Strings = ()


class PlanFile(Section):
    """`plan.toml`."""

    task: Annotated[tuple[PlannedTask, ...], Field(min_length=1)]


class Expectation(Section):
    """`reference/expect.toml`: the share each suite must reach (default all), and what the reference alone may have."""

    suites: dict[str, Share] = {}
    allow: Strings = ()
    packages: Strings = ()


class Cheat(Section):
    """`cheats/NAME/expect.toml`: a way to look right without being it, and the means that must catch it.

    It is caught when it passes at most the share `passes` of the cases and was stopped by what was meant to: `reason`
    stands in the reasons of most cases it lost, and every case drawn as the twist `loses` is among these.
    """

    caught: Text
    reason: str = ""
    passes: Share = 0.0
    loses: str = ""
