"""The keys of a project's TOML files, as pydantic models: types, forms and defaults.

What needs more than one key, or a look into the folder, is in `rules.py`. Money becomes micro-dollars here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from orchestrator.project.reading import KeyPath, Problem, line_of, read_text
from sandbox import room
from verifiers.suites import BuildPlan, Inside, Listed, Name, Seconds, Section, Share, Size, Strings, Suite, Text, form

SHIPPED_ROLES: Final = ("builder", "planner")


def _money(value: object) -> int:
    """Micro-dollars of an amount in USD."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-6 <= value < 1e9:
        raise ValueError("must be an amount in USD above 0, like 15 or 0.5, without a currency sign")
    return round(value * 1_000_000)


MicroDollars = Annotated[int, BeforeValidator(_money)]
Threshold = Annotated[float, Field(gt=0, le=1)]
Package = Annotated[
    str, form(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=\S+)?", "is no Debian package's name; one name a string")
]
Program = Annotated[str, form(r"[^/ ]+", "must be a program's name without path or arguments")]
Base = Annotated[str, form(r"debian:[a-z]+", 'must be a Debian release like "debian:bookworm"')]


class Image(Section):
    packages: Annotated[Listed[Package], Field(min_length=1)]
    base: Base = "debian:bookworm"
    judge: Listed[Package] | None = None


class Source(Section):
    deb: Package = ""
    src: Package = ""
    path: Inside = ""
    show: bool = False


class Limits(Section):
    cpus: Annotated[float, Field(gt=0, le=1024)] = 2.0
    memory: Size = 4 * room.GIB
    disk: Size = 20 * room.GIB
    command: Seconds = 600.0
    fast: Seconds = 180.0

    def of_room(self, weight: int = 1) -> room.Limits:
        return room.Limits(cpus=self.cpus, memory=self.memory, disk=self.disk, weight=weight)


class Budget(Section):
    """None is "no limit", and has to be given elsewhere for `usd`."""

    usd: MicroDollars | None = None
    hours: Annotated[float, Field(gt=0, le=100_000)] | None = None
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
    build: BuildPlan
    suites: Annotated[Listed[Suite], Field(alias="suite", min_length=1)]
    network: Literal["none"] = "none"
    forbid: Listed[Program] = ()
    sources: dict[Name, Source] = Field(default={})
    limits: Limits = Limits()
    roles: dict[str, Annotated[int, Field(ge=1)]] = Field(default={"builder": 1})
    budget: Budget = Budget()
    milestones: Annotated[Listed[Milestone], Field(alias="milestone")] = ()


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

    task: Annotated[Listed[PlannedTask], Field(min_length=1)]


class Expectation(Section):
    """`reference/expect.toml`: the share each suite must reach (default all), and what the reference alone may have."""

    suites: dict[str, Share] = Field(default={})
    allow: Strings = ()
    packages: Listed[Package] = ()


class Cheat(Section):
    """`cheats/NAME/expect.toml`: a way to look right without being it, and the means that must catch it.

    It is caught when it passes at most the share `passes` of the cases and was stopped by what was meant to: `reason`
    stands in the reasons of most cases it lost ("outcome: words"), and every case drawn as the twist `loses` is among
    these. Some cheats aim elsewhere: at tests that passed before, all of which must be `lost`; at what may be known,
    so that of held-out cases no more than the share `heldout` may pass; at the luck of being asked once, so that each
    is asked `rounds` times, and what is not answered alike is lost as "unsteady".
    """

    caught: Text
    reason: str = ""
    passes: Share = 0.0
    loses: str = ""
    lost: Strings = ()
    heldout: Share = 1.0
    rounds: Annotated[int, Field(ge=1, le=9)] = 1


class Project(ProjectFile):
    """A project's folder: what its file says, and what lies beside it."""

    name: str
    folder: Path
    plan: tuple[PlannedTask, ...]
    reference: Expectation | None
    cheats: Mapping[str, Cheat]
    honest: tuple[str, ...]

    def problem(self, at: KeyPath, message: str, file: str = "project.toml") -> Problem:
        """A mistake at a key of a file that could be read."""
        return Problem(self.folder / file, line_of(read_text(self.folder / file, []) or "", at), message)
