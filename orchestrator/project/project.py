"""A project as the rest of the system takes it: frozen data, in the units we count with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.room import Limits
from verifiers.suites import BuildPlan, Suite

SHIPPED_ROLES = ("builder", "planner")


@dataclass(frozen=True)
class Budget:
    """Micro-dollars and seconds; None is "no limit" and has to be given elsewhere for `usd`."""

    usd: int | None
    session: int
    run_s: float | None
    idle_s: float | None


@dataclass(frozen=True)
class Need:
    """What a milestone asks of `cases`, a suite or `suite/pattern`: a `share` of them, or a bound on a suite's measured value."""

    cases: str
    kind: str  # "share", "<=" or ">="
    value: float


@dataclass(frozen=True)
class Milestone:
    name: str
    credit: float
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class PlannedTask:
    """A task of `plan.toml`. `after` holds names of other planned tasks, which become board ids when the run begins."""

    name: str
    title: str
    why: str
    cases: tuple[str, ...]
    touches: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceEntry:
    """`[sources]`: one input from outside. Exactly one of `deb`, `src`, `url`, `git` is set."""

    name: str
    deb: str = ""
    src: str = ""
    url: str = ""
    sha256: str = ""
    git: str = ""
    commit: str = ""
    path: str = ""
    show: bool = False


@dataclass(frozen=True)
class ImageEntry:
    """`[image]`. `judge` None: case rooms use the seats' image."""

    packages: tuple[str, ...]
    base: str
    judge: tuple[str, ...] | None


@dataclass(frozen=True)
class Expectation:
    """What the reference must reach: shares by suite (absent = all), and what it alone may have."""

    suites: Mapping[str, float]
    allow: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Project:
    """A valid project folder. `prompts` holds the folder's own texts by role, with `all` for every role.

    `notices` are keys that this version accepts and does not act on yet, said in words; whoever starts a run prints them.
    """

    name: str
    folder: Path
    goal: str
    image: ImageEntry
    sources: tuple[SourceEntry, ...]
    build: BuildPlan
    limits: Limits
    command_s: float
    fast_s: float
    suites: tuple[Suite, ...]
    forbid: tuple[str, ...]
    network: str | tuple[str, ...]
    roles: Mapping[str, int]
    budget: Budget
    milestones: tuple[Milestone, ...]
    plan: tuple[PlannedTask, ...]
    prompts: Mapping[str, str]
    reference: Expectation | None
    cheats: Mapping[str, str]  # folder name → the means that must catch it
    notices: tuple[str, ...] = ()

    @property
    def planned(self) -> bool:
        """Whether tasks are handed out by a planner (a planner in the team) or chosen by the seats themselves."""
        return "planner" in self.roles

    def suite(self, name: str) -> Suite:
        return next(suite for suite in self.suites if suite.name == name)
