"""What judging a project needs on this machine: its root file systems and sources, a judge, and trees to judge."""

import io
import re
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from orchestrator.project.reading import ConfigError, KeyPath
from orchestrator.project.schema import Project
from sandbox import debian, image
from sandbox.debian import SourceError
from sandbox.image import ImageSpec
from sandbox.keep import Kept, plain, request_of, tree_digest
from sandbox.room import Engine, Labels, RoomError, RootFs
from verifiers.judge import RoomJudge
from verifiers.suites import JudgePlan, LockedCase

NOT_PRODUCT: Final = "expect.toml"  # says what a layer must reach, and is no part of it
JUDGE_WEIGHT: Final = 10  # a verdict is what others wait for: a judge's build goes before what seats run
UNKNOWN: Final = r"^E: (Unable to (?:locate|find) .*|.* was not found|.* no (?:installation )?candidate)$"
"""What apt says of a package or version that does not exist."""
Progress = Callable[[str], None]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Furnished:
    """A project with what it needs here. `image` is for seats and builds, `judge` for case rooms: the same root where
    the project declares one. No images for the `local` engine, which has no root file system of its own.
    """

    project: Project
    images: Mapping[str, RootFs]
    sources: Mapping[str, Kept]

    def folders(self) -> dict[str, Path]:
        return {name: source.folder for name, source in self.sources.items()}

    def digests(self) -> dict[str, str]:
        """As `RUN/lock.json` records them."""
        digests = {f"sources.{name}": source.digest for name, source in self.sources.items()}
        return digests | {name: root.digest for name, root in self.images.items()}


async def furnish(
    project: Project, engine: Engine, home: Path, progress: Progress, *, for_reference: bool = False
) -> Furnished:
    """Builds what is not built and fetches what is not fetched; quick when everything is there.

    `for_reference` adds what `reference/expect.toml` names to the image of the case rooms: what the reference calls is
    called there. Raises `RoomError` of sandbox/ when this machine cannot, in words that say what to install.
    """
    fetched = {}
    for name, declared in project.sources.items():
        package = declared.deb or declared.src
        fetching = debian.fetch("deb" if declared.deb else "src", package, declared.path, home, progress)
        fetched[name] = await _made(fetching, project, ("sources", name))
    extra = project.reference.packages if for_reference and project.reference else ()
    specs = {} if engine.name == "local" else _specs(project, extra)
    images = {}
    for name, spec in specs.items():
        # For the reference: it is its own packages that no image was built of before.
        at = ("packages",) if for_reference else ("image", "judge" if spec.judge else "packages")
        file = "reference/expect.toml" if for_reference else "project.toml"
        images[name] = await _made(image.build(spec, home, progress=progress), project, at, file)
    return Furnished(project, images, fetched)


async def _made(work: Awaitable[Made], project: Project, at: KeyPath, file: str = "project.toml") -> Made:
    """What is declared there. A name of nothing is a mistake; trouble of the machine or the network is none."""
    try:
        return await work
    except RoomError as error:
        unknown = re.search(UNKNOWN, str(error), re.MULTILINE)
        if unknown or isinstance(error, SourceError):
            raise ConfigError([project.problem(at, unknown[1] if unknown else str(error), file)]) from error
        raise


def _specs(project: Project, extra: tuple[str, ...]) -> dict[str, ImageSpec]:
    declared, beside = project.image, project.folder / "image"
    setup, files = (path if path.exists() else None for path in (beside / "setup.sh", beside / "files"))
    if declared.judge is None:
        one = ImageSpec((*declared.packages, *extra), declared.base, setup, files)
        return {"image": one, "judge": one}
    seats = ImageSpec(declared.packages, declared.base, setup, files)
    return {"image": seats, "judge": ImageSpec((*declared.judge, *extra), declared.base, judge=True)}


def judge_plan(
    furnished: Furnished,
    cases: Sequence[LockedCase],
    *,
    scratch: Path,
    secret: bytes,
    cores: int,
    weight: int = JUDGE_WEIGHT,
) -> JudgePlan:
    """All that a judge of this project needs. `secret` is the run's: with it every draw could be foreseen."""
    project = furnished.project
    return JudgePlan(
        folder=project.folder,
        sources=furnished.folders(),
        build=project.build,
        suites=project.suites,
        cases=tuple(cases),
        image=furnished.images.get("image"),
        judge_root=furnished.images.get("judge"),
        scratch=scratch,
        secret=secret,
        limits=project.limits.of_room(weight),
        cores=cores,
    )


@asynccontextmanager
async def judging(
    engine: Engine, furnished: Furnished, cases: Sequence[LockedCase], home: Path, *, secret: bytes, cores: int
) -> AsyncIterator[RoomJudge]:
    """A judge outside of any run, which works in a folder of its own below `home` and leaves nothing there."""
    place = home / "scratch"
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="judge-", dir=place) as scratch:
        plan = judge_plan(furnished, cases, scratch=Path(scratch), secret=secret, cores=cores)
        judge = RoomJudge(engine, plan, Labels("project", 0, "judge"))
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
        """A few hundred kilobytes: these folders are written by hand."""
        paths = ((folder, path) for folder in self.folders for path in folder.rglob("*") if not path.is_dir())
        files = {str(path.relative_to(folder)): path for folder, path in paths}
        files.pop(NOT_PRODUCT, None)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, path in sorted(files.items()):
                tar.add(path, name, recursive=False, filter=plain)
        yield buffer.getvalue()
