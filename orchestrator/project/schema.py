"""The keys of a project's TOML files, as pydantic models: types, forms and defaults.

What needs more than one key, or a look into the folder, is in `rules.py`. Sizes become bytes, durations seconds and
money micro-dollars here, at the border.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sandbox.room import GIB

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(?:i?B)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?([smhd])")
_HOST_PORT = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}")
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _size(value: object) -> int:
    """Bytes of `"4G"`. The unit is asked for: 4 may mean four of anything."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a size with its unit, like "4G" or "512M"')
    return int(float(match[1]) * _BYTES[match[2]])


def _duration(value: object) -> float:
    """Seconds of `"10m"`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError('must be a duration with its unit, like "10s", "5m" or "2h"')
    return float(match[1]) * _SECONDS[match[2]]


def _money(value: object) -> int:
    """Micro-dollars of an amount in USD."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("must be an amount in USD above 0, like 15 or 0.5, without a currency sign")
    return round(value * 1_000_000)


def _network(value: object) -> object:
    if value in ("none", "open"):
        return value
    if isinstance(value, tuple) and value and all(isinstance(one, str) and _HOST_PORT.fullmatch(one) for one in value):
        return value
    raise ValueError('must be "none", "open" or a list of "host:port"')


def _hours(value: object) -> float:
    """Seconds of a number of hours."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError("must be a number of hours above 0")
    return value * 3600.0


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        bound = 'a bound like "<= 1.0" is for a measured suite, which is not run by this version yet'
        raise ValueError(f"must be a share above 0 and up to 1, like 0.99; {bound}")
    return float(value)


Size = Annotated[int, BeforeValidator(_size)]
Seconds = Annotated[float, BeforeValidator(_duration)]
MicroDollars = Annotated[int, BeforeValidator(_money)]
Network = Annotated[str | tuple[str, ...], BeforeValidator(_network)]
Hours = Annotated[float, BeforeValidator(_hours)]
Threshold = Annotated[float, BeforeValidator(_share)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Strings = tuple[Text, ...]


class Section(BaseModel):
    """Unknown keys are mistakes: a misspelt `heldout` would publish what was to be hidden.

    Lists reach the models as tuples (`reading.py` turns them), so that strict types and frozen values go together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(Section):
    packages: Strings = ()
    base: Text = "debian:bookworm"
    judge: Strings | None = None
    dockerfile: str = ""


class Source(Section):
    deb: str = ""
    src: str = ""
    url: str = ""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = ""
    git: str = ""
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] = ""
    path: str = ""
    show: bool = False


class Seed(Section):
    git: Text
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]


class Build(Section):
    run: Text
    artifacts: Strings = ()
    time: Seconds = 600.0
    warm: Strings = ()


class Limits(Section):
    cpus: Annotated[float, Field(gt=0)] = 2.0
    memory: Size = 4 * GIB
    disk: Size = 20 * GIB
    command: Seconds = 600.0
    fast: Seconds = 180.0


class Suite(Section):
    name: Name
    cases: str = ""
    generate: str = ""
    count: Annotated[int, Field(ge=0)] = 0
    prepare: str = ""
    run: str = ""
    steps: Strings = ()
    verifier: str = ""
    room: Literal["judge", "build"] = "judge"
    results: str = ""
    variants: Strings = ()
    heldout: Share = 0.0
    when: Literal["fast", "gate", "main"] = "fast"
    time: Seconds = 10.0
    better: Literal["lower", "higher", ""] = ""
    allow: Strings = ()


class Budget(Section):
    """None is "no limit", and has to be given elsewhere for `usd`."""

    usd: MicroDollars | None = None
    run_s: Annotated[Hours | None, Field(alias="hours")] = None
    session: MicroDollars = 15_000_000
    idle_s: Annotated[Seconds | None, Field(alias="idle")] = None


class Milestone(Section):
    name: Text
    credit: Annotated[float, Field(gt=0, le=100)]
    needs: Annotated[dict[str, Threshold], Field(min_length=1)]  # of a suite, or of suite/pattern


class FollowUp(Section):
    name: Name
    suite: Text
    usd: MicroDollars | None = None


class ProjectFile(Section):
    """`project.toml`."""

    schema_: Annotated[int, Field(alias="schema")]
    image: Image
    build: Build
    suite: Annotated[tuple[Suite, ...], Field(min_length=1)]
    network: Network = "none"
    forbid: Strings = ()
    sources: dict[Name, Source] = {}
    seed: Seed | None = None
    limits: Limits = Limits()
    roles: dict[str, Annotated[int, Field(ge=1)]] = {"builder": 1}
    budget: Budget = Budget()
    milestone: tuple[Milestone, ...] = ()
    followup: tuple[FollowUp, ...] = ()


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
