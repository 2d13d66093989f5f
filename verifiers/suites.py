"""What a project declares for its judge, in the words of `project.toml`, and all that a judge is given of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sandbox.room import Limits, RootFs
from verifiers.forms import Inside, Listed, Name, Seconds, Section, Share, Strings, Text, form

Cases = Annotated[Inside, form("(?!!).*", "must be a pattern of files in this version, not a command that lists cases")]


class SuiteError(Exception):
    """What a suite declares and the project's files do not fit; the message says which and what to do."""


class Suite(Section):
    """One `[[suite]]`. Paths are relative to the project's folder, or `sources/NAME/…`; seconds are CPU seconds."""

    name: Name
    cases: Cases = ""  # glob, or "" for a whole-suite command
    prepare: str = ""
    run: str = ""
    steps: Strings = ()
    room: Literal["judge", "build"] = "judge"  # build: the image and the tree
    results: Literal["exit", "libtest"] = "exit"
    heldout: Share = 0.0
    when: Literal["fast", "gate"] = "fast"  # which tiers it belongs to: `fast` ⊂ `gate`
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

    `twists` are the rewritings that the reference gets right (for example "inverse"); `with_files` travel with it.
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
    limits: Limits = field(default_factory=Limits)
    cores: int = 1
