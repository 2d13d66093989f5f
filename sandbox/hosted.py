"""What all engines share: a room is a folder of records, and each of its commands is one process tree of this machine.

An engine adds how a command gets into a room (`HostedRoom.enter`) and what is made before that (`HostedEngine.make`).
"""

import hashlib
import json
import math
import os
import re
import secrets
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import anyio
from anyio import to_thread

from sandbox import annex, faults, jobs, limits, mounts
from sandbox.process import HOST_ENV, end_tagged, gone
from sandbox.room import MIB, Command, Ended, JobStatus, OnOutput, Result, RoomDied, RoomError, RoomFileError, RoomSpec
from sandbox.threads import done_by

T = TypeVar("T")
BARE_ENV: Final = {"PATH": HOST_ENV["PATH"], "HOME": "/tmp", "LANG": "C.UTF-8"}
JOB_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
FOREGROUND: Final = "-"  # begins the name of a command that is no job; no job's id begins so
FILE_S: Final = 60.0
KILLED, OUT_OF_CPU = 128 + signal.SIGKILL, 128 + signal.SIGXCPU  # exit codes, as a shell reports them

# Files are read and written from inside a room: a symbolic link leads only where a command could go.
_WRITE: Final = (
    'case $1 in */*) mkdir -p -- "${1%/*}/" || exit 1;; esac; '
    '[ ! -e "$1" ] || [ -f "$1" ] || { echo "not a regular file" >&2; exit 1; }; cat >"$1"'
)
_READ: Final = '[ -f "$1" ] || { echo "no such regular file" >&2; exit 1; }; head -c "$2" -- "$1"'


@dataclass(frozen=True)
class Place:
    """What a room holds on the host while it is open."""

    folder: Path  # room.json, whose absence means that the room is dead; jobs/; mount points
    tag: str  # marks the room's processes and groups on the host: "home.run.room."
    group: limits.Group
    apart: bool = False  # its mounts are those of `annex`

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises where the room's mounts are."""
        return await (done_by(annex.THREAD, work) if self.apart else to_thread.run_sync(work))

    @property
    def alive(self) -> bool:
        return (self.folder / "room.json").exists()

    def end(self, names: str = "") -> None:
        """Ends the room's commands whose names begin so."""
        end_tagged(self.tag + names)

    def condemn(self) -> None:
        """From here on the room is dead to everybody, and what ends in it has not failed but died with it."""
        (self.folder / "room.json").unlink(missing_ok=True)

    def remove(self, *, quiet: bool = False) -> None:
        """Ends and removes everything. `quiet` says that no command runs, which saves a look at every process."""
        self.condemn()
        if not quiet or any((self.folder / "jobs").glob("*")):
            self.end()
        self.group.end()
        mounts.discard(self.folder)


@dataclass(eq=False)
class HostedRoom(ABC):
    """A room of which each command is a process tree of the host. Can be pickled, for the keepers of its jobs."""

    spec: RoomSpec
    place: Place
    _running: int = field(default=0, init=False)

    @abstractmethod
    async def enter(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        """Has `process.run` execute what leads into the room, under a name that no other command of the room has.
        Returns how it ended, with the command's own exit code. Raises `RoomError`, saying why, if it never began."""

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        self._check()
        return await self.perform(command, FOREGROUND + secrets.token_hex(8), on_output)

    async def perform(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        """Runs the command in this process, which is the orchestrator's or a job's keeper."""
        self._running += 1
        try:
            done = await self.enter(command, name, on_output)
        except RoomError:
            self._check()
            raise
        finally:
            self._running -= 1
        self._check()
        # A kill after enough time under a CPU limit means that limit.
        full = command.cpu_s is not None and done.seconds * (os.cpu_count() or 1) >= math.ceil(command.cpu_s)
        if full and done.exit_code in (KILLED, OUT_OF_CPU):
            return replace(done, ended=Ended.TIMEOUT)
        return replace(done, ended=Ended.KILLED) if done.exit_code == KILLED else done

    async def start(self, job: str, command: Command) -> None:
        self._check()
        name = key(job)  # of which none begins as another one does
        # Its keeper is where the room's mounts are, so it needs no way there.
        kept = replace(self, place=replace(self.place, apart=False))
        await self.place.do(partial(jobs.start, self._job(job), self.place.tag + name, (kept, command, name)))

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        if keeper := self._keeper(job):
            with anyio.move_on_after(wait_s):
                await gone(keeper)
        self._check()
        return await to_thread.run_sync(jobs.status, self._job(job))

    async def kill(self, job: str) -> None:
        if keeper := self._keeper(job):
            (self._job(job) / "killed").touch()
            await to_thread.run_sync(self.place.end, key(job))
            await gone(keeper)

    async def write(self, path: str, data: bytes) -> None:
        argv = ("sh", "-c", _WRITE, "sh", self.seen(path))
        await self._file("written", path, Command(argv, stdin=data, time_s=FILE_S))

    async def read(self, path: str, limit: int = MIB) -> bytes:
        argv = ("sh", "-c", _READ, "sh", self.seen(path), str(limit + 1))
        data = await self._file("read", path, Command(argv, time_s=FILE_S, output_limit=limit + 1))
        if len(data) > limit:
            raise RoomFileError(f"{path}: larger than the limit of {limit} bytes")
        return data

    def seen(self, path: str) -> str:
        return path

    async def _file(self, done_to: str, path: str, command: Command) -> bytes:
        done = await self.run(command)
        if not done.ok:
            why = done.stderr.decode("utf-8", "replace").strip() or f"the room's shell ended by {done.ended}"
            raise RoomFileError(f"{path}: cannot be {done_to}: {why}")
        return done.stdout

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.place.do(partial(self.place.remove, quiet=not self._running))

    def environment(self, command: Command, **own: str) -> Mapping[str, str]:
        return BARE_ENV | own | dict(self.spec.env) | dict(command.env)

    def _check(self) -> None:
        if not self.place.alive:
            raise RoomDied(f"room {self.spec.name} is gone")

    def _job(self, job: str) -> Path:
        if not JOB_ID.fullmatch(job):
            raise ValueError(f"a job's id is letters, digits, '.', '_', '-', at most 100 (got {job!r})")
        return self.place.folder / "jobs" / job

    def _keeper(self, job: str) -> int | None:
        self._check()
        if not self._job(job).exists():
            raise KeyError(job)
        return jobs.keeper(self._job(job))


class HostedEngine(ABC):
    """Makes rooms below `home`, which must be a place that other users can walk into when we are root."""

    folder: ClassVar[str]  # of its rooms, below `home`
    kind: type[Place] = Place

    def __init__(self, home: Path) -> None:
        self.home = home
        self._rooms = home / self.folder
        self._mounts = home / "mounts"

    @abstractmethod
    def make(self, spec: RoomSpec, place: Place) -> HostedRoom:
        """The room, all that it needs prepared. Raises `OSError`, `RoomError`."""

    def groups(self) -> tuple[Path, ...]:
        """Where the control groups are made that bound a room as a whole; empty where this engine or machine cannot."""
        return ()

    def apart(self) -> tuple[Path, ...]:
        """What leads into the rooms of cases, where those are made in `annex`; empty where they are not."""
        return ()

    async def open(self, spec: RoomSpec) -> HostedRoom:
        place = self._place(key(spec.labels.run), key(spec.name), brief=spec.brief)
        return await place.do(partial(self._open, spec, place))

    def _open(self, spec: RoomSpec, place: Place) -> HostedRoom:
        labels, path = spec.labels, str(spec.workspace)
        try:
            if place.apart:
                annex.furnish(spec, self.home, *self.apart())
            (place.folder / "jobs").mkdir(0o700, parents=True, exist_ok=True)
            (place.folder / "room.json").write_text(json.dumps(asdict(labels) | {"name": spec.name}))
            if spec.workspace is not None and not place.apart:  # which may stay mounted when the room is gone
                self._mounts.mkdir(parents=True, exist_ok=True)
                mine = {"run": labels.run, "epoch": labels.epoch, "room": spec.name, "path": path}
                (self._mounts / key(path)).write_text(json.dumps(mine))
            faults.at("room-recorded")
            place.group.make(spec.limits)
            return self.make(spec, place)
        except OSError as error:
            raise RoomError(f"room {spec.name} cannot be opened: {error}") from error

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        return await to_thread.run_sync(self._sweep, run, epoch, keep)

    def _sweep(self, run: str, epoch: int, keep: frozenset[str]) -> int:
        count = 0
        for folder in sorted((self._rooms / key(run)).glob("*")):
            mine = _record(folder / "room.json")
            place = self._place(key(run), folder.name)
            if mine and (mine["epoch"] >= epoch or mine["name"] in keep):
                if mine["epoch"] < epoch:
                    place.end(FOREGROUND)
            else:
                place.remove()
                count += 1
        for file in self._mounts.glob("*"):  # of the rooms in `keep` some may be another engine's
            mine = _record(file)
            if mine.get("run") == run and mine["epoch"] < epoch and mine["room"] not in keep:
                mounts.release(Path(mine["path"]))
                file.unlink(missing_ok=True)
        return count

    async def discard(self, workspace: Path) -> None:
        if await annex.discard(workspace):
            return
        await to_thread.run_sync(mounts.discard, workspace)
        (self._mounts / key(str(workspace))).unlink(missing_ok=True)

    def _place(self, run: str, room: str, *, brief: bool = False) -> Place:
        """The place of a room, by the keys of its run and its name."""
        tag = f"{key(str(self._rooms)).rsplit('.', 1)[1]}.{run}.{room}."
        group = limits.Group(() if brief else tuple(root / tag for root in self.groups()))
        return self.kind(self._rooms / run / room, tag, group, brief and bool(self.apart()))


def key(text: str) -> str:
    """A short file name for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:32]
    return f"{readable}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _record(path: Path) -> dict[str, Any]:
    """A file of ours; empty when it is missing or was cut short by a crash."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
