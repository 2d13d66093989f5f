"""From a tree to artifacts: a cold build in a fresh room, and what it leaves for the rooms where cases run.

The candidate's code runs in the first room only. A second room, in which nothing of the candidate is executed, copies
the declared artifacts into a folder that judges alone write and that every case room sees read-only.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Final, Protocol

import anyio

from sandbox.room import MIB, Command, Ended, Engine, Labels, Mount, Result, Room, RoomError, RoomSpec
from verifiers.judging import Tree
from verifiers.scorecard import Build
from verifiers.suites import JudgePlan

WORKSPACE: Final = "/workspace"
TREE: Final = "/sources"  # where the copying room sees the built tree; every image has this mount point
KEPT_BUILDS = 4  # artifacts of recent trees, so that verify, fast and full of one tree build once
LOG_TAIL = 4000  # characters
WALL_FACTOR = 5  # wall clock for a CPU second: the machine may be busy with other judgements
UNPACK_S = 300.0
BUILD_ENV: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "CARGO_TERM_COLOR": "never",
}

COPY = """
from=$1 to=$2
shift 2
for path; do
    [ -e "$from/$path" ] || { echo "the build left no $path"; exit 1; }
    cp -RP -- "$from/$path" "$to/" || exit 1
done
"""


@dataclass(frozen=True)
class Built:
    """A build's outcome and, when it went well, the host folder of its artifacts."""

    build: Build
    artifacts: Path


class Runs(Protocol):
    """As much of a `Room` as a judge needs."""

    async def run(self, command: Command) -> Result: ...

    async def stop(self) -> None: ...


class Rooms:
    """Opens a judge's rooms, each under a name of its own, and takes them and their folders away again."""

    def __init__(self, engine: Engine, plan: JudgePlan, labels: Labels, user: int) -> None:
        self._engine = engine
        self._scratch = plan.scratch
        self._spec = RoomSpec("", labels, plan.image, env=BUILD_ENV, limits=plan.limits, user=user, scratch_exec=False)

    @asynccontextmanager
    async def open(self, **changes: object) -> AsyncIterator[Runs]:
        """A room that differs from a build room in `changes`, stopped at the end even when cancelled."""
        spec = replace(self._spec, name=f"judge-{token_hex(6)}", **changes)  # type: ignore[arg-type]  # fields by name
        room: Runs = await self._engine.open(spec) if spec.root else await self._open_on_host(spec)
        try:
            yield room
        finally:
            with anyio.CancelScope(shield=True):
                await room.stop()

    async def _open_on_host(self, spec: RoomSpec) -> Runs:
        """A room of the `local` engine, which shows everything where it lies: our words for places are put right."""
        places = [(mount.target, str(mount.source)) for mount in spec.mounts]
        places += [(WORKSPACE, str(spec.workspace))] if spec.workspace else []

        def seen(word: str) -> str:
            for target, source in places:
                if word == target or word.startswith(target + "/"):
                    return source + word[len(target) :]
            return word

        env = {name: seen(value) for name, value in spec.env.items() if name not in ("PATH", "HOME")}
        return _OnHost(await self._engine.open(replace(spec, env=env)), seen)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A fresh workspace folder on the host, whose name tells nothing, discarded at the end."""
        path = self.new_folder()
        try:
            yield path
        finally:
            await self.discard(path)

    def new_folder(self) -> Path:
        path = self._scratch / token_hex(8)
        path.mkdir(parents=True)
        return path

    async def discard(self, path: Path) -> None:
        with anyio.CancelScope(shield=True):
            await self._engine.discard(path)
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(path, ignore_errors=True))

    @asynccontextmanager
    async def unpacked(self, tree: Tree, workspace: Path, **changes: object) -> AsyncIterator[Runs]:
        """A room of the image with the tree in its workspace. The tar is read inside the room alone."""
        async with self.open(workspace=workspace, scratch_exec=True, **changes) as room:
            argv = ("tar", "-x", "--no-same-owner", "-C", WORKSPACE)
            done = await room.run(Command(argv, stdin=tree.tar(), time_s=UNPACK_S))
            if not done.ok:
                raise RoomError(f"tree {tree.id} could not be unpacked: {last_line(done.stderr)}")
            yield room


class _OnHost:
    """A room without isolation, whose commands name places as every other room's do."""

    def __init__(self, room: Room, seen: Callable[[str], str]) -> None:
        self._room = room
        self._seen = seen
        self.stop = room.stop

    async def run(self, command: Command) -> Result:
        return await self._room.run(replace(command, argv=tuple(map(self._seen, command.argv))))


class Builds:
    """Builds trees, keeping the artifacts of a few recent ones. A cold build is fresh, and leaves nothing behind."""

    def __init__(self, rooms: Rooms, plan: JudgePlan) -> None:
        self._rooms = rooms
        self._plan = plan
        self._kept: OrderedDict[str, Built] = OrderedDict()
        self._users: dict[Path, int] = {}
        self._locks: dict[str, anyio.Lock] = {}

    @asynccontextmanager
    async def of(self, tree: Tree, *, cold: bool) -> AsyncIterator[Built]:
        """The tree's build, its artifacts kept in place while the context lasts. Raises `RoomError` when the machine
        failed twice."""
        built = await self._twice(tree) if cold else await self._recall(tree)
        self._users[built.artifacts] = self._users.get(built.artifacts, 0) + 1
        try:
            yield built
        finally:
            self._users[built.artifacts] -= 1
            await self._drop_unused()

    async def close(self) -> None:
        """Forgets all kept builds."""
        self._kept.clear()
        await self._drop_unused()

    async def _recall(self, tree: Tree) -> Built:
        lock = self._locks.setdefault(tree.id, anyio.Lock())
        async with lock:
            if tree.id not in self._kept:
                built = await self._twice(tree)
                if not built.build.ok:
                    return built
                self._kept[tree.id] = built
            self._kept.move_to_end(tree.id)
            while len(self._kept) > KEPT_BUILDS:
                self._kept.popitem(last=False)
            return self._kept[tree.id]

    async def _drop_unused(self) -> None:
        kept = {built.artifacts for built in self._kept.values()}
        for path in [path for path, users in self._users.items() if not users and path not in kept]:
            del self._users[path]
            await self._rooms.discard(path)

    async def _twice(self, tree: Tree) -> Built:
        try:
            return await self._make(tree)
        except RoomError:
            return await self._make(tree)

    async def _make(self, tree: Tree) -> Built:
        plan = self._plan.build
        artifacts = self._rooms.new_folder()
        try:
            async with self._rooms.folder() as workspace:
                async with self._rooms.unpacked(tree, workspace) as room:
                    argv = ("sh", "-c", f"exec 2>&1\n{plan.run}")
                    done = await room.run(Command(argv, time_s=plan.time_s, output_limit=8 * MIB))
                build = _build(done, plan.time_s)
                if build.ok:
                    build = await self._copy(workspace, artifacts, build)
            return Built(build, artifacts)
        except BaseException:
            await self._rooms.discard(artifacts)
            raise

    async def _copy(self, workspace: Path, artifacts: Path, build: Build) -> Build:
        for path in self._plan.build.artifacts:
            if ".." in PurePosixPath(path).parts or path.startswith("/"):
                raise ValueError(f"build.artifacts: {path!r} must be inside the tree")
        async with self._rooms.open(workspace=artifacts, mounts=(Mount(workspace, TREE),)) as room:
            argv = ("sh", "-c", COPY, "copy", TREE, WORKSPACE, *(self._plan.build.artifacts or (".",)))
            done = await room.run(Command(argv, time_s=UNPACK_S))
        return build if done.ok else replace(build, ok=False, reason=last_line(done.stdout or done.stderr))


def one_line(text: bytes | str, limit: int = 300) -> str:
    """Untrusted text as one short line without control characters."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    line = "".join(char if char.isprintable() else " " for char in text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def last_line(text: bytes) -> str:
    lines = text.split(b"\n")
    return one_line(next((line for line in reversed(lines) if line.strip()), b"no output"))


def _build(done: Result, time_s: float) -> Build:
    log = done.stdout.decode("utf-8", "replace")
    if done.ended in (Ended.KILLED, Ended.TIMEOUT):
        why = f"not done after {time_s:g} s" if done.ended is Ended.TIMEOUT else "killed: out of memory or processes"
        return Build(False, done.seconds, why, log[-LOG_TAIL:])
    if done.ended is Ended.INTERRUPTED:
        raise RoomError("the build was interrupted by the machine")
    if done.exit_code == 0:
        return Build(True, done.seconds, log_tail=log[-LOG_TAIL:])
    errors = [line for line in log.splitlines() if line.startswith("error")]
    reason = one_line(errors[0]) if errors else last_line(done.stdout)
    return Build(False, done.seconds, reason, log[-LOG_TAIL:])
