"""`project.lock`: what the project was when it was locked, small enough to be read and committed.

It pins what is ours (the folder, the sources' content, the cases and how each may be rewritten) and records what is
Debian's (package versions, image digests), because mirrors move: a start with other packages goes on and says so.
"""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from orchestrator.project.freezing import overlaid, project_digests, text_digest
from orchestrator.project.furnishing import Furnished, Progress, furnish, furnish_reference, judge_plan, scratch_place
from orchestrator.project.layers import Layers
from orchestrator.project.problems import LockDiffers, Problem, ProjectError
from orchestrator.project.project import Project
from sandbox.image import packages
from sandbox.room import Engine, Labels, RootFs
from verifiers.cases import expand
from verifiers.judge import RoomJudge
from verifiers.locking import Dropped, settle
from verifiers.scorecard import Verdict
from verifiers.suites import LockedCase

FILE: Final = "project.lock"
TRIALS_A_LINE: Final = 250  # progress is told after so many
_HEAD: Final = "# Written by `python -m orchestrator project lock`. Commit it; do not edit it.\n"


@dataclass(frozen=True)
class SuiteLock:
    """`twists` has a bit for each kept case, in the order of ids: whether the reference passes it rewritten so."""

    shown: int
    heldout: int
    digest: str
    twists: Mapping[str, str]
    dropped: Mapping[str, str]


@dataclass(frozen=True)
class Lock:
    """`digests` are ours and pinned; `images` and `packages` are recorded."""

    digests: Mapping[str, str]
    sources: Mapping[str, str]
    suites: Mapping[str, SuiteLock]
    images: Mapping[str, str]
    packages: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Drift:
    """Packages that are not as the lock recorded them: a start goes on, its runs are not compared with others."""

    notices: tuple[str, ...]


async def lock(folder: Path, engine: Engine, home: Path, *, cores: int, progress: Progress) -> Lock:
    """Builds, fetches, lets the reference settle the cases, and writes `project.lock` into the folder.

    Raises `ProjectError` for a wrong folder, `ReferenceFailed` when its reference settles nothing, `RoomError` when
    this machine cannot do it.
    """
    with overlaid(folder) as project:
        furnished = await furnish(project, home, local=engine.name == "local", progress=progress)
        cases = await expand(project.name, project.folder, furnished.folders(), project.suites)
        dropped: tuple[Dropped, ...] = ()
        if project.reference is not None:
            cases, dropped = await _settle(project, engine, home, furnished, cases, cores, progress)
        made = Lock(
            digests=project_digests(project.folder),
            sources={name: source.pin for name, source in furnished.sources.items()},
            suites={suite.name: _suite_lock(suite.name, cases, dropped) for suite in project.suites if suite.cases},
            images={name: digest for name, digest in furnished.digests().items() if name in ("image", "judge")},
            packages=_packages(furnished),
        )
    (folder / FILE).write_text(_written(made), encoding="utf-8")
    return made


def read_lock(folder: Path) -> Lock:
    """Raises `LockDiffers` when there is none, `ProjectError` when it is not one."""
    file = folder / FILE
    if not file.exists():
        raise LockDiffers(f"{file} is missing; make it: python -m orchestrator project lock {folder}")
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        return Lock(
            digests=data["digests"],
            sources=data.get("sources", {}),
            suites={
                name: SuiteLock(**{"twists": {}, "dropped": {}, **one}) for name, one in data.get("suites", {}).items()
            },
            images=data.get("images", {}),
            packages=data.get("packages", {}),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        words = f"is not a lock ({error}); make it again: python -m orchestrator project lock {folder}"
        raise ProjectError([Problem(file, 0, words)]) from error


def check_lock(project: Project, lock: Lock, furnished: Furnished) -> Drift:
    """Compares folder, sources and packages with the lock. `project` is the overlaid one.

    Raises `LockDiffers`, naming the parts, when what is ours or was fetched is not what was locked.
    """
    now = project_digests(project.folder)
    differs = [name for name in sorted({*now, *lock.digests}) if now.get(name) != lock.digests.get(name)]
    pins = {name: source.digest for name, source in furnished.sources.items()}
    for name in sorted({*pins, *lock.sources}):
        if lock.sources.get(name, "").split(" ")[-1] != pins.get(name):
            differs.append(f"sources.{name}")
    if differs:
        remedy = "lock it again (project lock), or start it with --unlocked"
        raise LockDiffers(f"{project.name}: {', '.join(differs)} differ from project.lock; {remedy}")
    notices = []
    for name, versions in _packages(furnished).items():
        locked = lock.packages.get(name, {})
        for package in sorted({*versions, *locked}):
            if versions.get(package) != locked.get(package):
                was, is_ = locked.get(package, "absent"), versions.get(package, "absent")
                notices.append(f"{name}: package {package} was {was} when the project was locked and is {is_}")
    return Drift(tuple(notices))


async def locked_cases(project: Project, lock: Lock | None, furnished: Furnished) -> tuple[LockedCase, ...]:
    """The cases that the lock left, with the rewritings it found right. No lock (`--unlocked`): all of them.

    Raises `LockDiffers` when the suites no longer give the cases that were locked.
    """
    found = await expand(project.name, project.folder, furnished.folders(), project.suites)
    if lock is None:
        return found
    cases: list[LockedCase] = []
    for name, suite in lock.suites.items():
        kept = [case for case in found if case.suite == name and case.id not in suite.dropped]
        bits = {twist: _bits(mask, len(kept)) for twist, mask in suite.twists.items()}
        kept = [
            replace(case, twists=tuple(twist for twist in bits if bits[twist][index]))
            for index, case in enumerate(kept)
        ]
        if _digest(kept) != suite.digest:
            raise LockDiffers(
                f"suites.{name}: its cases are not those of the lock; run: python -m orchestrator project lock"
            )
        cases += kept
    return tuple(sorted(cases, key=lambda case: case.id))


async def _settle(
    project: Project,
    engine: Engine,
    home: Path,
    furnished: Furnished,
    cases: tuple[LockedCase, ...],
    cores: int,
    progress: Progress,
) -> tuple[tuple[LockedCase, ...], tuple[Dropped, ...]]:
    rich = await furnish_reference(project, home, furnished, progress)
    trials = 0

    async def told(_verdict: Verdict) -> None:
        nonlocal trials
        trials += 1
        if trials % TRIALS_A_LINE == 0:
            progress(f"reference: {trials} trials of {len(cases)} cases")

    with tempfile.TemporaryDirectory(prefix="lock-", dir=scratch_place(home)) as scratch:
        plan = judge_plan(project, rich, cases, scratch=Path(scratch), secret=secrets.token_bytes(32), cores=cores)
        judge = RoomJudge(engine, plan, Labels("project-lock", 0, "judge"))
        progress(f"reference: settling {len(cases)} cases")
        settled = await settle(judge, Layers((project.folder / "seed", project.folder / "reference")), told)
        await judge.close()
    return settled.cases, settled.dropped


def _suite_lock(name: str, cases: Sequence[LockedCase], dropped: Sequence[Dropped]) -> SuiteLock:
    kept = [case for case in cases if case.suite == name]
    twists = sorted({twist for case in kept for twist in case.twists})
    return SuiteLock(
        shown=sum(not case.heldout for case in kept),
        heldout=sum(case.heldout for case in kept),
        digest=_digest(kept),
        twists={twist: _mask([twist in case.twists for case in kept]) for twist in twists},
        dropped={one.case: one.reason for one in dropped if one.case.split("/", 1)[0] == name},
    )


def _digest(cases: Sequence[LockedCase]) -> str:
    lines = (f"{case.id} {case.file} {case.heldout} {' '.join(sorted(case.twists))}\n" for case in cases)
    return text_digest("".join(lines))


def _mask(bits: Sequence[bool]) -> str:
    """Hexadecimal, the first case in the lowest bit."""
    return f"{sum(1 << index for index, bit in enumerate(bits) if bit):x}"


def _bits(mask: str, count: int) -> list[bool]:
    number = int(mask, 16)
    return [bool(number >> index & 1) for index in range(count)]


def _packages(furnished: Furnished) -> dict[str, Mapping[str, str]]:
    roots: dict[str, RootFs | None] = {"image": furnished.image}
    if furnished.judge_root != furnished.image:
        roots["judge"] = furnished.judge_root
    return {name: MappingProxyType(packages(root)) for name, root in roots.items() if root}


def _written(lock: Lock) -> str:
    tables: dict[str, Mapping[str, Any]] = {"digests": lock.digests, "sources": lock.sources, "images": lock.images}
    for name, suite in lock.suites.items():
        tables[f"suites.{name}"] = {"shown": suite.shown, "heldout": suite.heldout, "digest": suite.digest}
        tables[f"suites.{name}.twists"] = suite.twists
        tables[f"suites.{name}.dropped"] = suite.dropped
    tables |= {f"packages.{name}": versions for name, versions in lock.packages.items()}
    lines = [_HEAD, "schema = 1\n"]
    for name, table in tables.items():
        if table:
            # A JSON string is a TOML basic string, but for DEL, which no line of ours holds.
            pairs = (f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
            lines.append(f"\n[{name}]\n" + "".join(pairs))
    return "".join(lines)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
