"""What a project's suites and build declare, as the judge takes them; the reader of `project.toml` makes these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sandbox.room import Limits, RootFs


class SuiteError(Exception):
    """What a suite declares and the project's files do not fit; the message says which and what to do."""


class When(StrEnum):
    """Which tiers a suite belongs to: `fast` ⊂ `gate`; `main` is judged after landing."""

    FAST = "fast"
    GATE = "gate"
    MAIN = "main"


@dataclass(frozen=True)
class Suite:
    """One `[[suite]]`. Paths are relative to the project's folder, or `sources/NAME/…`; seconds are CPU seconds."""

    name: str
    cases: str = ""  # glob, "!command" that prints ids, or "" for a whole-suite command
    prepare: str = ""
    run: str = ""
    steps: tuple[str, ...] = ()
    room: str = "judge"  # or "build": the image and the tree
    results: str = "exit"  # or libtest
    variants: tuple[str, ...] = ()
    heldout: float = 0.0
    when: When = When.FAST
    time_s: float = 10.0


@dataclass(frozen=True)
class BuildPlan:
    """`[build]`: one command line run by `sh -c` inside the build room, and what leaves that room."""

    run: str
    artifacts: tuple[str, ...] = ()  # () = the whole tree
    time_s: float = 600.0


@dataclass(frozen=True)
class LockedCase:
    """One case as `project lock` fixed it. `file` is relative to the project or `sources/…`; "" if a command lists ids.

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
