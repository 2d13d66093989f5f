"""A project as the rest of the system takes it: frozen data, in the units we count with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.project.schema import Cheat, Expectation, PlannedTask
from sandbox.image import ImageSpec
from sandbox.room import Limits
from sandbox.sources import Source
from verifiers.suites import BuildPlan, Suite

SHIPPED_ROLES = ("builder", "planner")


@dataclass(frozen=True)
class Budget:
    """Micro-dollars and seconds; None is "no limit", and has to be given elsewhere for `usd`."""

    usd: int | None
    session: int
    run_s: float | None
    idle_s: float | None


@dataclass(frozen=True)
class Need:
    """What a milestone asks of `cases`, a suite or `suite/pattern`: a share, or a bound on a measured value."""

    cases: str
    kind: str  # "share", "<=" or ">="
    value: float


@dataclass(frozen=True)
class Milestone:
    name: str
    credit: float
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Project:
    """A valid project folder. `prompts` holds the folder's own texts by role, with `all` for every role.

    `notices` say in words which keys this version accepts and does not act on yet; whoever starts a run prints them.
    """

    name: str
    folder: Path
    goal: str
    image: ImageSpec
    judge_image: ImageSpec | None  # None: case rooms have the seats' image
    sources: Mapping[str, Source]
    shown_sources: frozenset[str]  # names; seats see these at /sources/NAME
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
    cheats: Mapping[str, Cheat]
    notices: tuple[str, ...] = ()

    @property
    def planned(self) -> bool:
        """Whether a planner hands tasks out; without one in the team, seats choose for themselves."""
        return "planner" in self.roles
