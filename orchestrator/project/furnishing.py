"""What a project needs on this machine before anything is judged: its root file systems and its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.project.project import Project
from sandbox import image, sources
from sandbox.image import ImageSpec
from sandbox.room import RootFs
from sandbox.sources import Fetched
from verifiers.suites import Control, JudgePlan, LockedCase

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Furnished:
    """Images are None for the `local` engine, which has no root file system of its own."""

    image: RootFs | None
    judge_root: RootFs | None
    sources: Mapping[str, Fetched]

    def folders(self) -> dict[str, Path]:
        return {name: source.folder for name, source in self.sources.items()}

    def digests(self) -> dict[str, str]:
        """As `RUN/lock.json` records them."""
        digests = {f"sources.{name}": source.digest for name, source in self.sources.items()}
        if self.image and self.judge_root:
            digests |= {"image": self.image.digest, "judge": self.judge_root.digest}
        return digests


async def furnish(project: Project, home: Path, *, local: bool, progress: Progress) -> Furnished:
    """Builds what is not built and fetches what is not fetched; quick when everything is there.

    Raises `RoomError` of sandbox/ when this machine cannot, in words that say what to install.
    """
    fetched = {}
    for name, source in project.sources.items():
        fetched[name] = await sources.fetch(source, home, progress=progress)
    if local:
        return Furnished(None, None, fetched)
    seats = await image.build(project.image, home, progress=progress)
    judge = await image.build(project.judge_image, home, progress=progress) if project.judge_image else seats
    return Furnished(seats, judge, fetched)


async def furnish_reference(project: Project, home: Path, furnished: Furnished, progress: Progress) -> Furnished:
    """The same rooms with what `reference/expect.toml` adds, for the reference alone.

    Where case rooms have an image of their own it is that one: what the reference calls is called there.
    """
    extra = project.reference.packages if project.reference else ()
    if not extra or furnished.image is None:
        return furnished
    if project.judge_image is not None:
        return replace(
            furnished, judge_root=await image.build(_with(project.judge_image, extra), home, progress=progress)
        )
    both = await image.build(_with(project.image, extra), home, progress=progress)
    return replace(furnished, image=both, judge_root=both)


def judge_plan(
    project: Project,
    furnished: Furnished,
    cases: tuple[LockedCase, ...],
    *,
    scratch: Path,
    secret: bytes,
    cores: int,
    control: Control | None = None,
) -> JudgePlan:
    """All that a judge of this project needs. `secret` is the run's: with it every draw could be foreseen."""
    return JudgePlan(
        project=project.name,
        folder=project.folder,
        sources=furnished.folders(),
        build=project.build,
        suites=project.suites,
        cases=cases,
        image=furnished.image,
        judge_root=furnished.judge_root,
        scratch=scratch,
        secret=secret,
        limits=project.limits,
        cores=cores,
        forbid=project.forbid,
        control=control,
    )


def scratch_place(home: Path) -> Path:
    """Where a judge may work that the users its rooms run as can reach."""
    place = home / "scratch"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _with(spec: ImageSpec, packages: tuple[str, ...]) -> ImageSpec:
    return replace(spec, packages=(*spec.packages, *packages))
