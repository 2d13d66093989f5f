"""What a project's suites and build declare, as the judge takes them. `orchestrator/project.py` makes these from `project.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    generate: str = ""
    count: int = 0
    prepare: str = ""
    run: str = ""
    steps: tuple[str, ...] = ()
    verifier: str = ""
    room: str = "judge"  # or "build": the image and the tree
    results: str = "exit"  # or libtest, tap, junit:PATH, ctrf:PATH
    variants: tuple[str, ...] = ()
    heldout: float = 0.0
    when: When = When.FAST
    time_s: float = 10.0
    better: str = ""  # "lower" or "higher": a measured suite
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildPlan:
    """`[build]`: one command line run by `sh -c` inside the build room, and what leaves that room."""

    run: str
    artifacts: tuple[str, ...] = ()  # () = the whole tree
    time_s: float = 600.0
    warm: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockedCase:
    """One case as `project lock` fixed it. `file` is relative to the project or `sources/…`; "" where ids come from results.

    `twist` is what `prepare` found possible for it with the reference (for example "inverse"); `with_files` travel with it.
    """

    id: str
    suite: str
    file: str
    heldout: bool
    twists: tuple[str, ...] = ()
    with_files: tuple[str, ...] = ()
