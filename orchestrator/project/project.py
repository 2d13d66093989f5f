"""A project as the rest of the system takes it: frozen data, in the units we count with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.project.schema import Budget, Cheat, Expectation, Milestone, PlannedTask
from sandbox.debian import Source
from sandbox.image import ImageSpec
from sandbox.room import Limits
from verifiers.suites import BuildPlan, Suite

SHIPPED_ROLES = ("builder", "planner")


@dataclass(frozen=True)
class Project:
    """A valid project folder. `prompts` holds the folder's own texts by role, with `all` for every role."""

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
    suites: tuple[Suite, ...]
    roles: Mapping[str, int]
    budget: Budget
    milestones: tuple[Milestone, ...]
    plan: tuple[PlannedTask, ...]
    prompts: Mapping[str, str]
    reference: Expectation | None
    cheats: Mapping[str, Cheat]

    @property
    def planned(self) -> bool:
        """Whether a planner hands tasks out; without one in the team, seats choose for themselves."""
        return "planner" in self.roles
