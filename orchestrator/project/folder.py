"""A project's folder: read and checked, with its private overlay, and its parts by digest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from orchestrator.project.reading import ConfigError, Problem, read_toml
from orchestrator.project.rules import plan_problems, project_problems, unknown_suites
from orchestrator.project.schema import Cheat, Expectation, PlanFile, PlannedTask, ProjectFile
from sandbox.keep import tree_digest

PRIVATE: Final = "ORCHESTRATOR_PRIVATE"  # names a folder of overlays, one a project
UNFROZEN: Final = ("__pycache__", ".git", "*.pyc", "*~")
PARTS: Final = {"verifiers": "suites", "seed": "seed", "prompts": "prompts"}


class Project(ProjectFile):
    """A valid project folder: what its file says, and what lies beside it."""

    name: str
    folder: Path
    plan: tuple[PlannedTask, ...]
    reference: Expectation | None
    cheats: Mapping[str, Cheat]

    @property
    def planned(self) -> bool:
        """Whether a planner hands tasks out; without one in the team, seats choose for themselves."""
        return "planner" in self.roles


def load(folder: Path, name: str = "") -> Project:
    """Reads and checks the project in `folder`. `name` is its name where the folder is a copy of it.

    Raises `ConfigError` with every mistake found; nothing outside the folder is read and nothing is run.
    """
    found: list[Problem] = []
    doc = read_toml(folder / "project.toml", ProjectFile, found)
    plan_file, expect_file = folder / "plan.toml", folder / "reference/expect.toml"
    plan = read_toml(plan_file, PlanFile, found) if plan_file.exists() else None
    expected = read_toml(expect_file, Expectation, found) if expect_file.exists() else None
    cheats = {}
    for cheat in sorted(path for path in (folder / "cheats").glob("*") if path.is_dir()):
        if cheat_doc := read_toml(cheat / "expect.toml", Cheat, found):
            cheats[cheat.name] = cheat_doc.model
    if doc:
        found += project_problems(doc)
        found += plan_problems(plan, doc.model) if plan else ()
        found += unknown_suites(expected, ("suites",), expected.model.suites, doc.model) if expected else ()
    if found or not doc:
        raise ConfigError(found)
    reference = expected.model if expected else Expectation()
    return Project.model_construct(
        **dict(doc.model),
        name=name or folder.resolve().name,
        folder=folder,
        plan=plan.model.task if plan else (),
        reference=reference if (folder / "reference").is_dir() else None,
        cheats=cheats,
    )


@contextmanager
def overlaid(folder: Path) -> Iterator[Project]:
    """The project with its private overlay, which replaces what both hold, valid while the context lasts.

    Raises `ConfigError`.
    """
    project = load(folder)
    private = Path(os.environ.get(PRIVATE, os.devnull)) / project.name
    if not private.is_dir():
        yield project
        return
    with TemporaryDirectory(prefix="orchestrator-project-") as scratch:
        copy = Path(scratch) / "project"
        copy_project(folder, copy)
        copy_project(private, copy)
        yield load(copy, project.name)


def copy_project(source: Path, target: Path) -> None:
    """Lays `source` over `target`, without what is no part of a project."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*UNFROZEN))


def project_digests(folder: Path) -> dict[str, str]:
    """The folder without its lock, as parts whose change means different things: `project` is all but the prompts."""

    def unfrozen(path: Path, *others: str) -> bool:
        return path.parts[0] in others or any(fnmatch(part, pattern) for part in path.parts for pattern in UNFROZEN)

    digests = {name: tree_digest(folder / part, unfrozen) for name, part in PARTS.items() if (folder / part).is_dir()}
    return {"project": tree_digest(folder, lambda path: unfrozen(path, "project.lock", "prompts")), **digests}


def text_digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
