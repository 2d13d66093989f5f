"""The run's own copy of everything that decides what it is: made once at `start`, used by every `resume`.

RUN/frozen/
  project/          the folder, with the private overlay ($ORCHESTRATOR_PRIVATE/NAME) laid over it
  prompts/ROLE.md   what each role is told, whole: an upgrade of ours does not change a run that goes on
  cases.json        every case that the run judges, shown and held out
RUN/lock.json       digests of all of it
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from orchestrator import VERSION
from orchestrator.project.loading import load
from orchestrator.project.problems import LockDiffers
from orchestrator.project.project import Project
from orchestrator.prompts import compose
from sandbox.keep import file_digest, tree_digest
from verifiers.suites import LockedCase

PRIVATE: Final = "ORCHESTRATOR_PRIVATE"  # names a folder of overlays, one a project
UNFROZEN: Final = ("__pycache__", ".git", "*.pyc", "*~")
PARTS: Final = {"verifiers": "suites", "seed": "seed", "prompts": "prompts"}
_CASES = TypeAdapter(tuple[LockedCase, ...])


class RunLock(BaseModel):
    """`RUN/lock.json`. `models` grows as vendors say which model answered; everything else never changes."""

    model_config = ConfigDict(frozen=True)

    schema_: int = 1
    project: str
    digests: Mapping[str, str]
    orchestrator: str
    models: Mapping[str, str] = {}


@dataclass(frozen=True)
class Frozen:
    """A frozen run: nothing of it is read from the live project folder or from our own current texts."""

    project: Project
    prompts: Mapping[str, str]  # by role, whole
    cases: tuple[LockedCase, ...]
    lock: RunLock


def freeze(
    project: Project, run: Path, cases: Sequence[LockedCase], others: Mapping[str, str], models: Mapping[str, str]
) -> Frozen:
    """Copies the project, which is the overlaid one, into `run`, a folder of its own, and writes its lock.

    `others` are digests of what is kept elsewhere or shown elsewhere: image, judge image, sources, tool texts.
    `models` says which model each role was given, as it was asked for.
    """
    folder = run / "frozen"
    (folder / "prompts").mkdir(parents=True)
    _copy(project.folder, folder / "project")
    for role in project.roles:
        (folder / "prompts" / f"{role}.md").write_text(compose(role, project), encoding="utf-8")
    (folder / "cases.json").write_bytes(_CASES.dump_json(tuple(cases), exclude_defaults=True))
    digests = _digests(folder) | dict(others)
    lock = RunLock(project=project.name, digests=digests, orchestrator=VERSION, models=models)
    (run / "lock.json").write_text(lock.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return load_frozen(run)


def load_frozen(run: Path) -> Frozen:
    """What `freeze` left in `run`. Raises `LockDiffers` when the copy is no longer what the lock says."""
    lock = RunLock.model_validate_json((run / "lock.json").read_text(encoding="utf-8"))
    folder = run / "frozen"
    if differing := sorted(name for name, digest in _digests(folder).items() if lock.digests.get(name) != digest):
        raise LockDiffers(f"{folder}: {', '.join(differing)} changed since the run was started; start a new run")
    prompts = {file.stem: file.read_text(encoding="utf-8") for file in sorted((folder / "prompts").glob("*.md"))}
    cases = _CASES.validate_json((folder / "cases.json").read_bytes())
    return Frozen(load(folder / "project", lock.project), prompts, cases, lock)


def _digests(frozen: Path) -> dict[str, str]:
    """What a frozen copy holds, by digest: its parts as people ask for them, and the prompts as seats read them."""
    prompts = {f"prompts.{prompt.stem}": file_digest(prompt) for prompt in (frozen / "prompts").glob("*.md")}
    return project_digests(frozen / "project") | prompts | {"cases": file_digest(frozen / "cases.json")}


def project_digests(folder: Path) -> dict[str, str]:
    """The folder without its lock, as parts whose change means different things: `project` is all but the prompts."""

    def unfrozen(path: Path, *others: str) -> bool:
        return path.parts[0] in others or any(fnmatch(part, pattern) for part in path.parts for pattern in UNFROZEN)

    def no_project(path: Path) -> bool:
        return unfrozen(path, "project.lock", PARTS["prompts"])

    digests = {name: tree_digest(folder / part, unfrozen) for name, part in PARTS.items() if (folder / part).is_dir()}
    return {"project": tree_digest(folder, no_project), **digests}


def text_digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def overlaid(folder: Path) -> Iterator[Project]:
    """The project with its private overlay, which replaces what both hold, valid while the context lasts.

    Raises `ProjectError`.
    """
    project = load(folder)
    private = Path(os.environ.get(PRIVATE, os.devnull)) / project.name
    if not private.is_dir():
        yield project
        return
    with TemporaryDirectory(prefix="orchestrator-project-") as scratch:
        copy = Path(scratch) / "project"
        _copy(folder, copy)
        _copy(private, copy)
        yield load(copy, project.name)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*UNFROZEN))
