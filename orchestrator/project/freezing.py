"""The run's own copy of everything that decides what it is: made once at `start`, used by every `resume`.

RUN/frozen/
  project/          the folder, with the private overlay ($ORCHESTRATOR_PRIVATE/NAME) laid over it
  prompts/ROLE.md   what each role is told, whole: an upgrade of ours does not change a run that goes on
  cases.json        every case that the run judges, shown and held out
RUN/lock.json       digests of all of it, written last: without it nothing was frozen
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from orchestrator import VERSION
from orchestrator.project.loading import load
from orchestrator.project.problems import LockDiffers
from orchestrator.project.project import Project
from orchestrator.prompts import compose
from sandbox.keep import tree_digest
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
    """Copies the project into `run` and writes its lock. A run that is frozen already is left as it is.

    `others` are digests of what is kept elsewhere or shown elsewhere: image, judge image, sources, tool texts.
    `models` says which model each role was given, as it was asked for.
    """
    if (run / "lock.json").exists():
        return load_frozen(run)
    folder = run / "frozen"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "prompts").mkdir(parents=True)
    _lay(project, folder / "project")
    for role in project.roles:
        (folder / "prompts" / f"{role}.md").write_text(compose(role, project), encoding="utf-8")
    (folder / "cases.json").write_bytes(_CASES.dump_json(tuple(cases), exclude_defaults=True))
    digests = digests_of(project.name, folder) | dict(others)
    lock = RunLock(project=project.name, digests=digests, orchestrator=VERSION, models=models)
    half = run / "lock.json.new"
    half.write_text(json.dumps(lock.model_dump(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    half.replace(run / "lock.json")
    return load_frozen(run)


def load_frozen(run: Path) -> Frozen:
    """What `freeze` left in `run`. Raises `LockDiffers` when the copy is no longer what the lock says."""
    lock = RunLock.model_validate_json((run / "lock.json").read_text(encoding="utf-8"))
    folder = run / "frozen"
    now = digests_of(lock.project, folder)
    if differing := sorted(name for name, digest in now.items() if lock.digests.get(name) != digest):
        raise LockDiffers(f"{folder}: {', '.join(differing)} changed since the run was started; start a new run")
    prompts = {file.stem: file.read_text(encoding="utf-8") for file in sorted((folder / "prompts").glob("*.md"))}
    cases = _CASES.validate_json((folder / "cases.json").read_bytes())
    return Frozen(load(folder / "project", lock.project), MappingProxyType(prompts), cases, lock)


def digests_of(name: str, frozen: Path) -> dict[str, str]:
    """What a frozen copy holds, by digest: its parts as people ask for them, and the prompts as seats read them."""
    digests = project_digests(frozen / "project")
    for prompt in sorted((frozen / "prompts").glob("*.md")):
        digests[f"prompts.{prompt.stem}"] = text_digest(prompt.read_text(encoding="utf-8"))
    digests["cases"] = text_digest((frozen / "cases.json").read_text(encoding="utf-8"))
    return digests


def project_digests(folder: Path) -> dict[str, str]:
    """The folder without its lock, as parts whose change means different things: `project` is all but the prompts."""

    def unfrozen(path: Path) -> bool:
        return any(fnmatch(part, pattern) for part in path.parts for pattern in UNFROZEN)

    def no_project(path: Path) -> bool:
        return unfrozen(path) or path.parts[0] in ("project.lock", PARTS["prompts"])

    digests = {name: tree_digest(folder / part, unfrozen) for name, part in PARTS.items() if (folder / part).is_dir()}
    return {"project": tree_digest(folder, no_project), **digests}


def text_digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def overlaid(folder: Path) -> Iterator[Project]:
    """The project with its private overlay, valid while the context lasts. Raises `ProjectError`."""
    project = load(folder)
    if _overlay(project) is None:
        yield project
        return
    with TemporaryDirectory(prefix="orchestrator-project-") as scratch:
        copy = Path(scratch) / "project"
        _lay(project, copy)
        yield load(copy, project.name)


def _overlay(project: Project) -> Path | None:
    home = os.environ.get(PRIVATE)
    folder = Path(home) / project.name if home else None
    return folder if folder and folder.is_dir() else None


def _lay(project: Project, target: Path) -> None:
    """Copies the folder and then its overlay; what the overlay holds as well replaces the folder's."""
    for source in filter(None, (project.folder, _overlay(project))):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*UNFROZEN))
