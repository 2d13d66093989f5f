"""Rooms whose commands are processes of the host: what `bubblewrap` and `local` share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

from sandbox import files, limits
from sandbox.home import key
from sandbox.jobs import STATUS_FD, Job, check_id, exit_code
from sandbox.process import HOST_ENV, Process, Spawner, end_tagged, gone
from sandbox.results import KILLED, result
from sandbox.room import MIB, Command, JobStatus, OnOutput, Result, RoomDied, RoomError, RoomSpec

WORKSPACE: Final = "/workspace"
BARE_ENV: Final = {"PATH": HOST_ENV["PATH"], "HOME": "/tmp", "LANG": "C.UTF-8"}
FOREGROUND: Final = "!"  # where a job has its id, which cannot be this


@dataclass(frozen=True)
class Place:
    """What a room holds on the host while it is open."""

    folder: Path  # room.json, whose absence means that the room is dead; jobs/; mount points
    tag: str  # marks the room's processes on the host: "home/run/room/"
    group: limits.Group | None = None

    @classmethod
    def of(cls, rooms: Path, run: str, room: str, *, grouped: bool) -> Place:
        """The place of a room, by the keys of its run and its name."""
        home = key(str(rooms)).rsplit(".", 1)[1]
        group = limits.group(home, run, room) if grouped else None
        return cls(rooms / run / room, f"{home}/{run}/{room}/", group)

    def claim(self, spec: RoomSpec) -> None:
        """Makes the folder, or takes over a living room's, and writes down whose it is. Raises `OSError`."""
        found = (self.folder / "room.json").exists()
        (self.folder / "jobs").mkdir(parents=True, exist_ok=True)
        (self.folder / "jobs").chmod(0o700)
        mine = asdict(spec.labels) | {"name": spec.name, "workspace": str(spec.workspace or "")}
        (self.folder / "room.json").write_text(json.dumps(mine))
        if self.group and not found:
            self.group.make(spec.limits)

    def condemn(self) -> None:
        """From here on the room is dead to everybody, and what ends in it has not failed but died with it."""
        (self.folder / "room.json").unlink(missing_ok=True)

    def remove(self, *, quiet: bool = False) -> None:
        """Ends and removes everything. `quiet` says that nothing runs, which saves a look at every process."""
        self.condemn()
        if not quiet or any((self.folder / "jobs").glob("*")):
            end_tagged(self.tag)
        if self.group:
            self.group.end()
        for target in limits.mounts_below(self.folder):
            limits.unmount(target)
        shutil.rmtree(self.folder, ignore_errors=True)


class HostedRoom:
    """A room of which each command is a process tree of the host. Engines say how a command becomes a host command."""

    boxed = False  # whether bwrap reports the command's own end on the status descriptor

    def __init__(self, spec: RoomSpec, place: Place, spawner: Spawner) -> None:
        self._spec = spec
        self._place = place
        self._spawner = spawner
        self._running = 0
        self._keepers: dict[str, Process] = {}

    @property
    def spec(self) -> RoomSpec:
        return self._spec

    def _argv(self, command: Command, name: str, status_fd: int, fds: list[int]) -> Sequence[str]:
        """The host command. `name` is a job's id or `FOREGROUND`; descriptors it needs are appended to `fds`."""
        raise NotImplementedError

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        self._alive()
        self._running += 1
        try:
            with _pipe() as (read, write), _closing() as fds:
                done = await self._spawner.run(
                    self._argv(command, FOREGROUND, write, fds),
                    stdin=command.stdin,
                    limit=command.output_limit,
                    time_s=command.time_s,
                    on_output=on_output,
                    pass_fds=[write, *fds],
                )
                code = exit_code(_what_is_in(read)) if self.boxed else None
        finally:
            self._running -= 1
        self._alive()
        if not self.boxed:
            code = done.code if done.code >= 0 else 128 - done.code
        elif code is None and not done.timed_out and done.code > 0:
            raise RoomError(f"room {self._spec.name}: {done.stderr.decode(errors='replace').strip()}")
        return result(
            command,
            KILLED if code is None else code,
            done.stdout,
            done.stderr,
            done.seconds,
            timed_out=done.timed_out,
            over=done.overflowed,
        )

    async def start(self, job: str, command: Command) -> None:
        self._alive()
        record = self._job(job)
        if not record.claim():
            return
        with _closing() as fds:
            argv = self._argv(command, job, STATUS_FD, fds)
            self._keepers[job] = await record.start(self._spawner, argv, command, fds)

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        self._alive()
        record = self._known(job)
        if wait_s > 0 and (keeper := await to_thread.run_sync(record.keeper)) is not None:
            with anyio.move_on_after(wait_s):
                await gone(keeper)
        self._alive()
        self._reap()
        age = await to_thread.run_sync(record.age)
        return await to_thread.run_sync(partial(record.status, age, boxed=self.boxed))

    async def kill(self, job: str) -> None:
        self._alive()
        await self._known(job).kill(self._keepers.get(job))

    async def write(self, path: str, data: bytes) -> None:
        await files.write(self, path, data)

    async def read(self, path: str, limit: int = MIB) -> bytes:
        return await files.read(self, path, limit)

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(partial(self._place.remove, quiet=not (self._running or self._keepers)))
            self._reap()

    def _alive(self) -> None:
        if not (self._place.folder / "room.json").exists():
            raise RoomDied(f"room {self._spec.name} is gone")

    def _known(self, job: str) -> Job:
        record = self._job(job)
        if not record.folder.exists():
            raise KeyError(job)
        return record

    def _job(self, job: str) -> Job:
        return Job(self._place.folder / "jobs" / check_id(job))

    def _reap(self) -> None:
        for process in self._keepers.values():
            process.poll()


def sweep(rooms: Path, run: str, epoch: int, keep: frozenset[str]) -> tuple[int, set[str]]:
    """Removes a run's rooms of earlier epochs. Returns how many went, and the workspaces of those that stay."""
    count, in_use = 0, set()
    for folder in sorted((rooms / key(run)).glob("*")):
        mine = record(folder / "room.json")
        place = Place.of(rooms, key(run), folder.name, grouped=True)
        if mine and (mine["epoch"] >= epoch or mine["name"] in keep):
            in_use.add(str(mine["workspace"]))
            if mine["epoch"] < epoch:
                end_tagged(place.tag + FOREGROUND)
        else:
            place.remove()
            count += 1
    return count, in_use


def record(path: Path) -> dict[str, Any]:
    """A file of ours; empty when it is missing or was cut short by a crash."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def _what_is_in(fd: int) -> bytes:
    try:
        return os.read(fd, 64 << 10)
    except BlockingIOError:
        return b""


@contextmanager
def _closing() -> Iterator[list[int]]:
    """Descriptors that are handed to a process and closed here once it has them."""
    fds: list[int] = []
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
