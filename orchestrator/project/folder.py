"""A project's folder: read and checked, with its private overlay, and its parts by digest."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from orchestrator.project.reading import ConfigError, Problem, read_text, read_toml, refuse
from orchestrator.project.rules import problems
from orchestrator.project.schema import Cheat, Expectation, PlanFile, Project, ProjectFile
from sandbox.keep import tree_digest

PRIVATE: Final = "ORCHESTRATOR_PRIVATE"  # names a folder of overlays, one a project
UNFROZEN: Final = ("__pycache__", ".git", "*.pyc", "*~")
FOLDERS: Final = ("seed", "prompts", "image", "image/files", "suites", "reference", "cheats", "honest")
FILES: Final = ("project.lock", "image/setup.sh")  # those that are no text to be read here
NO_PART: Final = ("project.lock", "prompts", "recording")  # of `project`, by which results are compared
PROOF: Final = ("reference", "cheats", "honest")  # show that the judge judges, and decide no verdict: neither of it
PARTS: Final = {"verifiers": "suites", "seed": "seed", "prompts": "prompts"}


def load(folder: Path, name: str = "") -> Project:
    """Reads and checks the project in `folder`. `name` is its name where the folder is a copy of it.

    Raises `ConfigError` with every mistake found; nothing outside the folder is read and nothing is run.
    """
    found: list[Problem] = []
    refuse(_unusable(folder))  # told alone: what cannot be read is not asked for more
    declared = read_toml(folder / "project.toml", ProjectFile, found)
    plan_file, expect_file = folder / "plan.toml", folder / "reference/expect.toml"
    plan = read_toml(plan_file, PlanFile, found) if os.path.lexists(plan_file) else None
    expected = read_toml(expect_file, Expectation, found) if os.path.lexists(expect_file) else None
    places = {kind: sorted(p for p in (folder / kind).glob("*") if p.is_dir()) for kind in ("cheats", "honest")}
    cheats = {place.name: read_toml(place / "expect.toml", Cheat, found) for place in places["cheats"]}
    if declared is None:
        raise ConfigError(found)
    read_text(folder / "goal.md", found, "say there what is to be built, seats see it as /team/GOAL.md")
    for prompt in (folder / "prompts").glob("*.md"):
        read_text(prompt, found)
    project = Project.model_construct(
        **dict(declared),
        name=name or folder.resolve().name,
        folder=folder,
        plan=plan.task if plan else (),
        reference=(expected or Expectation()) if (folder / "reference").is_dir() else None,
        cheats={name: cheat for name, cheat in cheats.items() if cheat},
        honest=tuple(place.name for place in places["honest"]),
    )
    refuse([*found, *problems(project)])
    return project


def _unusable(folder: Path) -> Iterator[Problem]:
    """What can be neither read nor copied, and what is of another kind than its place. Nothing is opened here."""
    there = {name: folder / name for name in (*FOLDERS, *FILES) if os.path.lexists(folder / name)}
    for name, place in there.items():
        if not (place.is_dir() if name in FOLDERS else place.is_file()):
            yield Problem(place, 0, f"must be a {'folder' if name in FOLDERS else 'file'}")
    inside = (path for path in folder.rglob("*") if not _unfrozen(path.relative_to(folder)))
    for path in (folder, *inside) if folder.exists() else ():
        if not os.access(path, os.R_OK, follow_symlinks=False):
            yield Problem(path, 0, "cannot be read; run: chmod u+rX")
        elif not (path.is_file() or path.is_dir() or path.is_symlink()):
            yield Problem(path, 0, "is neither file, folder nor link; remove it")


@contextmanager
def overlaid(folder: Path) -> Iterator[Project]:
    """The project with its private overlay, which replaces what both hold, valid while the context lasts.

    Raises `ConfigError`, which names each file where its author finds it, also for what is found in the context.
    """
    name = folder.resolve().name
    private = Path(os.environ.get(PRIVATE, os.devnull)) / name
    if not private.exists():
        yield load(folder)
        return
    refuse([*_unusable(folder), *_unusable(private)])
    with TemporaryDirectory(prefix="orchestrator-project-") as scratch:
        copy = Path(scratch) / "project"
        try:
            copy_project(folder, copy)
            copy_project(private, copy)
        except OSError as error:
            raise ConfigError([Problem(private, 0, f"cannot be laid over {folder}: {error}")]) from error
        try:
            yield load(copy, name)
        except ConfigError as error:
            at_home = []
            for problem in error.problems:
                inside = os.path.relpath(problem.file, copy)
                home = private if os.path.lexists(private / inside) else folder
                at_home.append(replace(problem, file=home / inside))
            raise ConfigError(at_home) from error


def copy_project(source: Path, target: Path) -> None:
    """Lays `source` over `target`, without what is no part of a project."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*UNFROZEN))


def project_digests(folder: Path, *, proof: bool = True) -> dict[str, str]:
    """The folder without its lock and its recording, which names these, as parts whose change means different things:
    `project` is all but the prompts and the `proof`. Without that part, as runs were frozen before there was one."""
    digests = {name: tree_digest(folder / part, _unfrozen) for name, part in PARTS.items() if (folder / part).is_dir()}
    if proof:
        digests["proof"] = tree_digest(folder, lambda path: _unfrozen(path) or path.parts[0] not in PROOF)
    others = (*NO_PART, *PROOF) if proof else NO_PART
    return {"project": tree_digest(folder, lambda path: _unfrozen(path, *others)), **digests}


def _unfrozen(path: Path, *others: str) -> bool:
    """Whether what lies there in a folder is no part of the project, or one of `others`."""
    return path.parts[0] in others or any(fnmatch(part, pattern) for part in path.parts for pattern in UNFROZEN)


def text_digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
