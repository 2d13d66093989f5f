"""A project as the rest of the system takes it: frozen data, in the units we count with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.image import ImageSpec
from sandbox.room import Limits
from sandbox.sources import Source
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
class Expectation:
    """What the reference must reach: shares by suite (absent = all), and what it alone may have."""

    suites: Mapping[str, float]
    allow: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Cheat:
    """A way to look right without being it. It is caught when it passes at most the share `passes` of the cases and
    what stopped it is what was meant to: `reason` stands in the reasons of most cases it lost, and every case drawn
    as the twist `loses` is among these."""

    name: str
    caught: str
    reason: str
    passes: float
    loses: str


@dataclass(frozen=True)
class Project:
    """A valid project folder. `prompts` holds the folder's own texts by role, with `all` for every role.

    `notices` are keys that this version accepts and does not act on yet, said in words; whoever starts a run prints them.
    """

    name: str
    folder: Path
    goal: str
    image: ImageSpec
    judge_image: ImageSpec | None  # None: case rooms have the seats' image
    sources: Mapping[str, Source]
    shown_sources: frozenset[str]  # seen by seats at /sources/NAME
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
    cheats: tuple[Cheat, ...]
    notices: tuple[str, ...] = ()

    @property
    def planned(self) -> bool:
        """Whether tasks are handed out by a planner (a planner in the team) or chosen by the seats themselves."""
        return "planner" in self.roles

    def suite(self, name: str) -> Suite:
        return next(suite for suite in self.suites if suite.name == name)
