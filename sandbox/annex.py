"""Where the rooms of cases are made: in a mount namespace of one thread of ours, in which little is mounted.

bwrap reads the list of all mounts for each mount that it makes, a dozen times for a room, and the machine's own list
grows with every seat and every container. What is mounted in here nobody else sees, and it is gone with this process.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final

from sandbox import mounts
from sandbox.room import RoomError, RoomSpec
from sandbox.threads import done_by

THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="annex")
# What stays, with nothing below it; all else comes in when a room needs it.
KEPT: Final = frozenset(map(Path, ("/", "/proc", "/dev", "/usr", "/bin", "/lib", "/lib64", "/etc")))
_spaces: list[int] = []  # the mount namespace that we came from, and our own
_workspaces: set[Path] = set()  # that are mounted in here
_shown: set[Path] = set()  # what rooms saw of the machine's folders, as it lies there


@cache
def works() -> bool:
    """Whether there is one: only root has it."""
    try:
        THREAD.submit(_enter).result()
    except (OSError, RoomError):
        return False
    return True


def _enter() -> None:
    if not mounts.can_mount():
        raise RoomError("not allowed to mount")
    root = Path("/").stat()
    _spaces.append(_here())
    mounts.unshare()
    _spaces.append(_here())
    with _outside():
        if not os.path.samestat(root, Path("/").stat()):
            raise RoomError("in a changed root there is no way back")
    for target in mounts.below(Path("/")):
        if target not in KEPT:
            mounts.detach(target)


def _here() -> int:
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)


@contextmanager
def _outside() -> Iterator[None]:
    mounts.enter(_spaces[0])
    try:
        yield
    finally:
        mounts.enter(_spaces[1])


def furnish(spec: RoomSpec, home: Path, *more: Path) -> None:
    """Has all that a room is made of lead where it leads outside, whatever was mounted there meanwhile; its workspace
    is ours from now on. Raises `OSError`."""
    assert spec.root
    workspace = [spec.workspace] if spec.workspace else []
    paths = [home, *more, spec.root.tree, *workspace, *(mount.source for mount in spec.mounts)]
    paths = [path for path in paths if path not in _workspaces]
    with _outside():
        for path in (home, *workspace):
            path.mkdir(parents=True, exist_ok=True)
        meant = [path.stat() for path in paths]
    for path, there in zip(paths, meant, strict=True):
        if _leads(path, there):
            _shown.add(path)
        else:
            _mount_as_outside(path)
    _workspaces.update(workspace)


async def discard(folder: Path) -> bool:
    """Takes away what is mounted in here at or below a folder. Whether that was all of it: then it is gone."""
    return len(_spaces) == 2 and await done_by(THREAD, partial(_discard, folder))


def _discard(folder: Path) -> bool:
    if whole := folder in _workspaces | _shown:
        mounts.discard(folder)
    else:
        mounts.release(folder)
    _workspaces.discard(folder)
    _shown.discard(folder)
    return whole


def _mount_as_outside(path: Path) -> None:
    with _outside():
        real = path.resolve()
        steps = [(step, step.stat()) for step in (*reversed(real.parents), real)]
    for step, there in steps:
        if not _leads(step, there):
            with _outside():
                tree = mounts.lift(step)
            mounts.put(tree, step)


def _leads(path: Path, there: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), there)
    except OSError:
        return False
