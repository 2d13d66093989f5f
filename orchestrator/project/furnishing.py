"""What judging a project needs on this machine: its root file systems and sources, a judge, and trees to judge."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from orchestrator.project.project import Project
from sandbox import debian, image
from sandbox.keep import Kept, plain, request_of, tree_digest
from sandbox.room import Engine, Labels, RootFs
from verifiers.judge import RoomJudge
from verifiers.suites import JudgePlan, LockedCase

NOT_PRODUCT: Final = "expect.toml"  # says what a layer must reach, and is no part of it
JUDGE_WEIGHT: Final = 10  # a verdict is what others wait for: a judge's build goes before what seats run
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Furnished:
    """Images are None for the `local` engine, which has no root file system of its own."""

    image: RootFs | None
    judge_root: RootFs | None
    sources: Mapping[str, Kept]

    def folders(self) -> dict[str, Path]:
        return {name: source.folder for name, source in self.sources.items()}

    def images(self) -> dict[str, RootFs]:
        return {"image": self.image, "judge": self.judge_root} if self.image and self.judge_root else {}

    def digests(self) -> dict[str, str]:
        """As `RUN/lock.json` records them."""
        digests = {f"sources.{name}": source.digest for name, source in self.sources.items()}
        return digests | {name: root.digest for name, root in self.images().items()}


async def furnish(project: Project, home: Path, *, local: bool, progress: Progress) -> Furnished:
    """Builds what is not built and fetches what is not fetched; quick when everything is there.

    Raises `RoomError` of sandbox/ when this machine cannot, in words that say what to install.
    """
    fetched = {}
    for name, source in project.sources.items():
        fetched[name] = await debian.fetch(source, home, progress=progress)
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
    spec = project.judge_image or project.image
    root = await image.build(replace(spec, packages=(*spec.packages, *extra)), home, progress=progress)
    return replace(furnished, judge_root=root, image=furnished.image if project.judge_image else root)


def judge_plan(
    project: Project, furnished: Furnished, cases: Sequence[LockedCase], *, scratch: Path, secret: bytes, cores: int
) -> JudgePlan:
    """All that a judge of this project needs. `secret` is the run's: with it every draw could be foreseen."""
    return JudgePlan(
        folder=project.folder,
        sources=furnished.folders(),
        build=project.build,
        suites=project.suites,
        cases=tuple(cases),
        image=furnished.image,
        judge_root=furnished.judge_root,
        scratch=scratch,
        secret=secret,
        limits=replace(project.limits, weight=JUDGE_WEIGHT),
        cores=cores,
    )


@asynccontextmanager
async def judging(engine: Engine, plan: JudgePlan) -> AsyncIterator[RoomJudge]:
    """A judge outside of any run, which works in a folder below the plan's `scratch` and leaves nothing there."""
    plan.scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="judge-", dir=plan.scratch) as scratch:
        judge = RoomJudge(engine, replace(plan, scratch=Path(scratch)), Labels("project", 0, "judge"))
        try:
            yield judge
        finally:
            await judge.close()


@dataclass(frozen=True)
class Layers:
    """A tree made of folders laid over one another (seed, reference, cheat): later ones replace files of earlier ones.

    `id` says what is in it, like a git tree's.
    """

    folders: tuple[Path, ...]

    @property
    def id(self) -> str:
        return f"layers-{request_of([tree_digest(folder) for folder in self.folders])[:32]}"

    async def tar(self) -> AsyncIterator[bytes]:
        yield await anyio.to_thread.run_sync(self._packed)

    def _packed(self) -> bytes:
        """A few hundred kilobytes: these folders are written by hand."""
        paths = ((folder, path) for folder in self.folders for path in folder.rglob("*") if not path.is_dir())
        files = {str(path.relative_to(folder)): path for folder, path in paths}
        files.pop(NOT_PRODUCT, None)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, path in sorted(files.items()):
                tar.add(path, name, recursive=False, filter=plain)
        return buffer.getvalue()
