"""What a room sees of this machine's files, who owns it, and how much it holds.

As root a room's /tmp and a case's workspace are memory with a size, a seat's workspace is an ext4 image with a size.
What an ordinary user's rooms can bound, the engines do by themselves.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from sandbox.limits import room_uid
from sandbox.process import HOST_ENV
from sandbox.room import GIB, MIB, Limits, Mount, RoomError, RoomSpec

WORKSPACE: Final = "/workspace"
BRIEF_INODES: Final = 20_000
NO_DISKS: Final = "disk space and inodes are not bounded, only the size of each file"
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MNT_DETACH = 2, 4, 8, 32, 4096, 2
MS_REC, MS_PRIVATE, CLONE_NEWNS, AT_FDCWD = 1 << 14, 1 << 18, 1 << 17, -100
OPEN_TREE, OPEN_TREE_CLONE, MOVE_MOUNT, MOVE_MOUNT_EMPTY_PATH = 428, 1, 429, 4  # on every architecture
_libc = ctypes.CDLL(None, use_errno=True)


def prepared(spec: RoomSpec, folder: Path, *more: Mount) -> list[Mount]:
    """All mounts of a room, outer ones first, with its /tmp in the room's own `folder` and its workspace, both bounded
    where this machine can. Raises `OSError`, `RoomError`.

    /tmp goes with the room. A workspace stays mounted when the room stops, because other rooms may look at it.
    """
    own = [Mount(folder / "tmp", "/tmp", writable=True)]
    if spec.workspace is not None:
        own.append(Mount(spec.workspace, WORKSPACE, writable=True))
    for mount in own:
        mount.source.mkdir(parents=True, exist_ok=True)
        if not can_mount() or os.path.ismount(mount.source):
            continue
        if mount.target == "/tmp" or (spec.brief and not image_of(mount.source).exists()):
            bare = mount.target != "/tmp" or spec.scratch_exec  # what a workspace holds may be run in a later room
            flags = MS_NOSUID | MS_NODEV | (0 if bare else MS_NOEXEC)
            _mount("rooms", mount.source, "tmpfs", flags, f"{memory(spec)},mode=0755")
        elif has_disks():
            _disk(mount.source, spec.limits)
    return sorted((*own, *more, *spec.mounts), key=lambda mount: mount.target)


def give(spec: RoomSpec, mounts: Sequence[Mount]) -> None:
    """Gives what is writable in a room to the room's own user. Raises `OSError`."""
    for mount in mounts:
        if mount.writable and mount.source.is_dir():
            os.chown(mount.source, room_uid(spec), room_uid(spec))


def shown(spec: RoomSpec, folder: Path, *more: Mount) -> list[Mount]:
    """The mounts of `prepared` with sources that the room can use as they are. Root binds to the room's own folder what
    the room's user cannot walk to, and what nothing may be executed from. Raises `OSError`, `RoomError`."""
    mounts = prepared(spec, folder, *more)
    if os.geteuid() == 0:
        give(spec, mounts)
    for number, mount in enumerate(mounts if can_mount() else ()):
        target = folder / f"m{number}"
        noexec = mount.writable and not spec.scratch_exec and mount.target != "/tmp"
        if noexec or not reachable(mount.source):
            if not os.path.ismount(target):
                _bind(mount.source, target, noexec=noexec)
            mounts[number] = replace(mount, source=target)
    return mounts


def memory(spec: RoomSpec) -> str:
    """How much a folder in memory holds, as options of its mount."""
    size = min(spec.limits.disk, spec.limits.memory // 2, 2 * GIB)
    return f"size={size},nr_inodes={BRIEF_INODES if spec.brief else spec.limits.inodes}"


def reachable(path: Path) -> bool:
    """Whether a stranger can walk to `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in path.absolute().parents)


def _mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises `RoomError`."""
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()) != 0:
        raise RoomError(f"cannot mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def _done(result: int, what: str) -> int:
    """What a system call gave. Raises `OSError`."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare() -> None:
    """Gives the calling thread a mount namespace of its own, of which nothing comes out. Raises `OSError`."""
    _done(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)


def enter(space: int) -> None:
    """Puts the calling thread into a mount namespace. Raises `OSError`."""
    _done(_libc.setns(space, CLONE_NEWNS), "setns")


def lift(path: Path) -> int:
    """What is mounted at or around a path, as a descriptor to `put` somewhere else. Raises `OSError`."""
    how = OPEN_TREE_CLONE | os.O_CLOEXEC
    return _done(_libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(path), how), f"open_tree {path}")


def put(lifted: int, path: Path) -> None:
    """Mounts what was lifted, and closes its descriptor. Raises `OSError`."""
    try:
        done = _libc.syscall(MOVE_MOUNT, lifted, b"", AT_FDCWD, os.fsencode(path), MOVE_MOUNT_EMPTY_PATH)
        _done(done, f"move_mount {path}")
    finally:
        os.close(lifted)


def detach(target: Path) -> None:
    """Takes the mount at a place away, at once or later when it is still in use."""
    _libc.umount2(os.fsencode(target), MNT_DETACH)


def _bind(source: Path, target: Path, *, noexec: bool = False) -> None:
    """Shows a file or folder at a second place. Raises `OSError`, `RoomError`."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount(str(source), target, flags=MS_BIND)
    if noexec:
        _mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_NOEXEC | MS_NOSUID | MS_NODEV)


def image_of(workspace: Path) -> Path:
    return workspace.with_name(workspace.name + ".disk")


def _disk(workspace: Path, limits: Limits) -> None:
    """Mounts the workspace's own bounded disk: an ext4 image beside the folder, sparse. Raises `RoomError`."""
    image = image_of(workspace)
    fresh = not image.exists()
    if fresh:
        making = image.with_name(image.name + ".new")
        with making.open("wb") as file:
            file.truncate(max(limits.disk, 8 * MIB))
        inodes = min(limits.inodes, max(limits.disk, 8 * MIB) // 8192)
        options = ("-m", "0", "-O", "^has_journal", "-N", str(inodes), "-E", "lazy_itable_init=1")
        _tool("mkfs.ext4", "-q", "-F", *options, str(making))
        making.rename(image)
    _tool("mount", "-o", "loop,nosuid,nodev,noatime", str(image), str(workspace))
    if fresh:
        (workspace / "lost+found").rmdir()


def below(folder: Path) -> list[Path]:
    """What is mounted at or below `folder` for the calling thread, innermost first."""
    inside = f"{str(folder).rstrip('/')}/".replace(" ", "\\040").replace("\t", "\\011")
    # As text: a machine has hundreds of mounts, and this is asked several times for each case of a judgement.
    lines = [line for line in Path("/proc/thread-self/mountinfo").read_text().splitlines() if inside[:-1] in line]
    targets = [target for target in (line.split(" ", 5)[4] for line in lines) if f"{target}/".startswith(inside)]
    return [Path(target.replace("\\040", " ").replace("\\011", "\t")) for target in reversed(targets)]


def release(folder: Path) -> None:
    """Takes away what is mounted at or below `folder`, at once or later when it is still in use."""
    for target in below(folder):
        detach(target)


def discard(folder: Path) -> None:
    """Removes a folder, closed parts of it too, its disk and whatever is mounted in it. Symbolic links in it are not
    followed. To an ordinary user, what another user left in it stays."""
    release(folder.resolve())
    image = image_of(folder)
    for file in (image, image.with_name(f"{image.name}.new")):  # the latter of a process that was killed over it
        file.unlink(missing_ok=True)
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(folder)], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@cache
def can_mount() -> bool:
    """Whether we may mount at all: root outside of a container that forbids it."""
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and tried.returncode == 0


@cache
def has_disks() -> bool:
    maker = shutil.which("mkfs.ext4", path=HOST_ENV["PATH"])
    return can_mount() and Path("/dev/loop-control").exists() and maker is not None


def _tool(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, env=dict(HOST_ENV), check=False)
    if done.returncode != 0:
        raise RoomError(f"{' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")
