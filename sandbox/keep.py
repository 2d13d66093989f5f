"""How something is made once and kept by content: one maker at a time, whole or not there.

A maker holds a lock, works in a scratch folder, moves the result to its final name, and writes the note that leads to
it last. Killed at any moment it leaves a scratch folder, which the next maker of the same thing sweeps.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import filelock

POLL_S: Final = 0.2


@asynccontextmanager
async def held(path: Path, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Holds a lock file against other processes and tasks; the lock ends with its process."""
    lock = filelock.FileLock(path)
    told = False
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except filelock.Timeout:
            if not told:
                on_wait()
            told = True
            await anyio.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A folder to make something in, on its final file system. The caller holds the lock of `beside`."""
    for left in beside.parent.glob(f"{beside.name}.half-*"):
        remove(left)
    folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f"{beside.name}.half-"))
    try:
        yield folder
    finally:
        remove(folder)


def settle(made: Path, final: Path) -> None:
    """Moves a finished folder to its name. If another maker got the same content there first, theirs stays."""
    try:
        made.rename(final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that readers see all of it or none."""
    half = path.with_name(path.name + ".new")
    half.write_text(text)
    half.replace(path)


def remove(folder: Path) -> None:
    """Removes a folder with read-only parts. What another user left in it stays, and is in nobody's way.

    So does everything when something is mounted below: a builder that was killed may have left the machine's own
    devices there.
    """
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    if any(Path(mount).is_relative_to(folder) for mount in mounts):
        return
    for inner, _folders, _files in os.walk(folder):  # top down, so that a folder is opened before it is entered
        with suppress(PermissionError):
            Path(inner).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
