"""A judge's rooms, and from a tree to artifacts: a cold build in a fresh room, and what it leaves for the case rooms.

The candidate's code runs in the first room only. A second room, in which nothing of the candidate is executed, copies
the declared artifacts into a folder that judges alone write and that every case room sees read-only.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Final

import anyio
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from sandbox.keep import request_of
from sandbox.room import KIB, MIB, Command, Engine, Labels, Mount, Result, RoomError, RoomSpec
from verifiers.cache import Builds, Built
from verifiers.results import build_of, last_line
from verifiers.scorecard import Tree
from verifiers.suites import JudgePlan

WORKSPACE: Final = "/workspace"
TREE: Final = "/sources"  # where the copying room sees the built tree; every image has this mount point
WALL_FACTOR = 5  # wall clock for a CPU second: the machine may be busy with other judgements
UNPACK_S = 300.0
OUTPUT = 8 * MIB
BUILD_ENV: Final = {"CARGO_TERM_COLOR": "never"}  # and what every room has

# $0 is the built tree; the artifacts come into the working folder, for each judge of the run to read, and are measured.
UNPACK = 'tar -x --no-same-owner 2>&1 || { echo "error: the tree cannot be unpacked"; exit 1; }'
COPY = """
for path; do
    [ -e "$0/$path" ] || { echo "the build left no $path"; exit 1; }
    cp -RP -- "$0/$path" ./ || exit 1
done
chmod -R a+rX . && du -sk .
"""


class Workshop:
    """Opens a judge's rooms, each under a name of its own, takes them and their folders away again, and builds trees,
    keeping the artifacts of recent ones in `builds`."""

    def __init__(self, engine: Engine, plan: JudgePlan, labels: Labels, user: int, builds: Builds) -> None:
        self._engine = engine
        self._plan = plan
        self._spec = RoomSpec("", labels, plan.image, env=BUILD_ENV, limits=plan.limits, user=user, scratch_exec=False)
        self._one_build = anyio.Lock()
        self._builds = builds

    async def run(self, command: Command, tree: Tree | None = None, **changes: object) -> Result:
        """Runs a command in a fresh room that differs from a build room in `changes`; with `tree`, after unpacking it
        in the workspace, inside the room alone. A tree that no room can hold fails as its command would: it is the
        candidate's. Raises `RoomError`."""
        spec = replace(self._spec, name=f"judge-{token_hex(6)}", **changes)  # type: ignore[arg-type]  # fields by name
        room = await self._engine.open(spec)
        try:
            if tree:
                done = await room.run(Command(("sh", "-c", UNPACK), stdin=tree.tar(), time_s=UNPACK_S))
                if not done.ok:
                    return done
            return await room.run(replace(command, argv=tuple(map(room.seen, command.argv))))
        finally:
            with anyio.CancelScope(shield=True):
                await room.stop()

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A fresh folder on the host, whose name tells nothing, gone at the end."""
        path = self._new_folder()
        try:
            yield path
        finally:
            await self._discard(path)

    @asynccontextmanager
    async def built(self, tree: Tree, *, cold: bool = False) -> AsyncIterator[Built]:
        """The tree's build, its artifacts in place while the context lasts. A cold one is fresh.

        Raises `RoomError` when the machine failed twice.
        """
        builds, plan = self._builds, self._plan
        key = request_of([tree.id, plan.image and plan.image.digest, plan.build.model_dump(mode="json")])
        async with self._one_build:
            built = None if cold else builds.kept.get(key)
            built = built or await self._make(tree)
            builds.used.append(built)
            over = builds.keep(key, built) if built.build.ok else []
        try:
            yield built
        finally:
            builds.used.remove(built)
            await self._drop(built, *over)

    async def close(self) -> None:
        """Removes the artifacts of recent builds. The judge may be used again."""
        kept = list(self._builds.kept.values())
        self._builds.kept.clear()
        await self._drop(*kept)

    async def _drop(self, *builds: Built) -> None:
        """Removes the artifacts of those that are neither kept nor in use."""
        for built in builds:
            if self._builds.idle(built):
                await self._discard(built.artifacts)

    @retry(retry=retry_if_exception_type(RoomError), stop=stop_after_attempt(2), reraise=True)
    async def _make(self, tree: Tree) -> Built:
        plan, artifacts, size = self._plan.build, self._new_folder(), 0
        command = Command(("sh", "-c", f"exec 2>&1\n{plan.run}"), time_s=plan.time_s, output_limit=OUTPUT)
        copy = ("sh", "-c", COPY, TREE, *(plan.artifacts or (".",)))
        try:
            async with self.folder() as workspace:
                build = build_of(await self.run(command, tree, workspace=workspace, scratch_exec=True), plan.time_s)
                if build.ok:
                    mounts = (Mount(workspace, TREE),)
                    done = await self.run(Command(copy, time_s=UNPACK_S), workspace=artifacts, mounts=mounts)
                    if not done.ok:
                        build = replace(build, ok=False, reason=last_line(done.stdout or done.stderr))
                    else:
                        size = int(done.stdout.split()[0]) * KIB
            return Built(tree, build, artifacts, size)
        except BaseException:
            await self._discard(artifacts)
            raise

    def _new_folder(self) -> Path:
        path = self._plan.scratch / token_hex(8)
        path.mkdir(parents=True)
        return path

    async def _discard(self, path: Path) -> None:
        with anyio.CancelScope(shield=True):
            await self._engine.discard(path)
