"""`project.lock`: what the project was when it was locked, small enough to be read and committed.

It pins what is ours (the folder, the sources' content, the cases and how each may be rewritten) and records what is
Debian's (package versions, image digests), because mirrors move: a start with other packages goes on and says so.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.project.folder import overlaid, project_digests, text_digest
from orchestrator.project.furnishing import Furnished, Layers, Progress, furnish, judging
from orchestrator.project.reading import ConfigError, refuse
from orchestrator.project.rules import unmatched
from sandbox.image import packages
from sandbox.room import Engine
from verifiers.cases import expand
from verifiers.suites import LockedCase, SuiteError

FILE: Final = "project.lock"


class LockDiffers(Exception):
    """The folder is not what `project.lock` (or the run) was made from. The message names what differs."""

    kind = "lock_differs"


@dataclass(frozen=True)
class SuiteLock:
    """`twists` has a bit for each kept case, by ids, the first the lowest: whether the reference passes it so."""

    shown: int
    heldout: int
    digest: str
    twists: Mapping[str, Annotated[str, Field(pattern="^[0-9a-f]+$")]]
    dropped: Mapping[str, str]  # case → why


@dataclass(frozen=True)
class Lock:
    """`digests` are ours and pinned, `sources` pinned by content; `images` and `packages` are recorded."""

    digests: Mapping[str, str]
    sources: Mapping[str, str]
    suites: Mapping[str, SuiteLock]
    images: Mapping[str, str]
    packages: Mapping[str, Mapping[str, str]]
    schema: int = 1


_LOCK: Final = TypeAdapter(Lock)


async def lock(folder: Path, engine: Engine, home: Path, *, cores: int, progress: Progress) -> Lock:
    """Builds, fetches, lets the reference settle the cases, and writes `project.lock` into the folder.

    Raises `ConfigError` for a wrong folder, `ReferenceFailed` when its reference settles nothing, and `RoomError` when
    this machine cannot do it.
    """
    with overlaid(folder) as project:
        furnished = await furnish(project, engine, home, progress)
        cases = locked_cases(furnished, None)
        dropped: dict[str, str] = {}
        if project.reference is not None:
            progress(f"reference: settling {len(cases)} cases")
            rich = await furnish(project, engine, home, progress, for_reference=True)
            secret = secrets.token_bytes(32)
            async with judging(engine, rich, cases, home, secret=secret, cores=cores) as judge:
                reference = Layers((project.folder / "seed", project.folder / "reference"))
                cases, dropped = await judge.settle(reference, progress)
            refuse(unmatched(project, cases))
        made = Lock(
            digests=project_digests(project.folder),
            sources={name: source.pin for name, source in furnished.sources.items()},
            suites={suite.name: _suite_lock(suite.name, cases, dropped) for suite in project.suites if suite.cases},
            images={name: root.digest for name, root in furnished.images.items()},
            packages=_packages(furnished),
        )
    (folder / FILE).write_bytes(_LOCK.dump_json(made, indent=1) + b"\n")
    return made


def read_lock(folder: Path) -> Lock:
    """Raises `LockDiffers` when there is none, or none that this version reads."""
    file = folder / FILE
    try:
        return _LOCK.validate_json(file.read_bytes())
    except FileNotFoundError:
        reason = "is missing"
    except ValidationError as error:
        reason = f"is not a lock ({error.errors()[0]['msg']})"
    raise LockDiffers(f"{file} {reason}; make it: python -m orchestrator project lock {folder}")


def check_lock(furnished: Furnished, lock: Lock) -> tuple[str, ...]:
    """Compares folder (the overlaid one), sources and packages with the lock. Returns a line for each package that is
    not as it was recorded: a start goes on, its runs are not compared with others.

    Raises `LockDiffers`, naming the parts, when what is ours or was fetched is not what was locked.
    """
    now = project_digests(furnished.project.folder)
    now |= {f"sources.{name}": source.digest for name, source in furnished.sources.items()}
    locked = {**lock.digests, **{f"sources.{name}": pin.split(" ")[-1] for name, pin in lock.sources.items()}}
    if differs := [name for name in sorted({*now, *locked}) if now.get(name) != locked.get(name)]:
        remedy = "lock it again (project lock), or start it with --unlocked"
        raise LockDiffers(f"{furnished.project.name}: {', '.join(differs)} differ from project.lock; {remedy}")
    notices = []
    for name, versions in _packages(furnished).items():
        before = lock.packages.get(name, {})
        for package in sorted({package for package, _ in versions.items() ^ before.items()}):
            was = f"was {before.get(package, 'absent')} when the project was locked"
            notices.append(f"{name}: package {package} {was} and is {versions.get(package, 'absent')}")
    return tuple(notices)


def locked_cases(furnished: Furnished, lock: Lock | None) -> tuple[LockedCase, ...]:
    """The cases that the lock left, with the rewritings it found right. No lock (`--unlocked`): all of them.

    Raises `ConfigError` when a suite gives no shown case or something stands for no case, `LockDiffers` when there are
    other cases than were locked.
    """
    project = furnished.project
    try:
        found = expand(project.name, project.folder, furnished.folders(), project.suites)
    except SuiteError as error:
        index = [suite.name for suite in project.suites].index(error.suite)
        raise ConfigError([project.problem(("suite", index, error.key), str(error))]) from error
    cases = found if lock is None else _kept(project.name, found, lock)
    refuse(unmatched(project, cases))
    return cases


def _kept(project: str, found: Sequence[LockedCase], lock: Lock) -> tuple[LockedCase, ...]:
    """The cases of the lock among those that were found."""
    cases: list[LockedCase] = []
    for name in {case.suite for case in found}:
        suite = lock.suites.get(name, SuiteLock(0, 0, "", {}, {}))
        masks = {twist: int(mask, 16) for twist, mask in suite.twists.items()}
        kept = [case for case in found if case.suite == name and case.id not in suite.dropped]
        for index, case in enumerate(kept):
            kept[index] = replace(case, twists=tuple(twist for twist, mask in masks.items() if mask >> index & 1))
        if not suite.shown or _digest(kept) != suite.digest:
            words = "gives other cases than project.lock holds, or it holds none that are shown; lock it again"
            raise LockDiffers(f"{project}: suites.{name} {words}")
        cases += kept
    return tuple(sorted(cases, key=lambda case: case.id))


def _suite_lock(name: str, cases: Sequence[LockedCase], dropped: Mapping[str, str]) -> SuiteLock:
    kept = [case for case in cases if case.suite == name]
    hidden = sum(case.heldout for case in kept)
    twists = {
        twist: f"{sum(1 << index for index, case in enumerate(kept) if twist in case.twists):x}"
        for twist in sorted({twist for case in kept for twist in case.twists})
    }
    lost = {case: reason for case, reason in dropped.items() if case.split("/", 1)[0] == name}
    return SuiteLock(len(kept) - hidden, hidden, _digest(kept), twists, lost)


def _digest(cases: Sequence[LockedCase]) -> str:
    lines = (f"{case.id} {case.file} {case.heldout} {' '.join(sorted(case.twists))}\n" for case in cases)
    return text_digest("".join(lines))


def _packages(furnished: Furnished) -> dict[str, dict[str, str]]:
    """By image; that of case rooms is not told twice where it is the seats'."""
    seats, images = furnished.images.get("image"), furnished.images.items()
    return {name: packages(root) for name, root in images if name == "image" or root != seats}
