"""What is kept on this machine, and where: made once, by content; one maker at a time, whole or not there.

    HOME/PLACE/
      requests/<request>        a line that ends with the digest this request became; written last
      requests/<request>.lock   held while it is made, in <request>.half
      <digest>/                 what was made

Killed at any moment a maker leaves a half-made folder, which the next maker of the same thing removes.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import filelock

from sandbox import mounts

POLL_S: Final = 0.2


def state_home() -> Path:
    """`$ORCHESTRATOR_HOME`, else `/var/lib/orchestrator` for root, else `~/.local/share/orchestrator`.

    Root's rooms run as other host users, who must be able to walk to their mounts: so the place is an open one, never
    below a closed home folder.
    """
    if named := os.environ.get("ORCHESTRATOR_HOME"):
        return Path(named).absolute()
    return Path("/var/lib/orchestrator") if os.geteuid() == 0 else Path.home() / ".local/share/orchestrator"


@dataclass(frozen=True)
class Kept:
    """Something that was made. `pin` is the line that its maker noted and that a lock writes down."""

    place: Path
    pin: str

    @property
    def digest(self) -> str:
        """`sha256:…` of its content."""
        return self.pin.split()[-1]

    @property
    def folder(self) -> Path:
        return self.place / self.digest.removeprefix("sha256:")


def request_of(asked: object) -> str:
    """The name of a request: the same for the same JSON."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


async def once(
    place: Path, request: str, make: Callable[[Path], Awaitable[tuple[Path, str]]], on_wait: Callable[[], None]
) -> Kept:
    """What the request is, made if it is not there. `make` works in the folder it is given, which is removed, and
    returns the finished folder and the note; what it raises is raised here."""
    note = place / "requests" / request
    async with held(note.with_suffix(".lock"), on_wait):
        if note.exists() and (earlier := Kept(place, note.read_text().strip())).folder.is_dir():
            return earlier
        half = note.with_suffix(".half")
        try:
            mounts.discard(half)  # and its mounts: a builder that was killed may have left the machine's own devices
            half.mkdir(0o700)
            folder, line = await make(half)
            made = Kept(place, line)
            if not made.folder.exists():  # else another request became the same
                folder.rename(made.folder)
        finally:
            mounts.discard(half)
        new = note.with_suffix(".new")
        new.write_text(line + "\n")
        new.replace(note)
        return made


@asynccontextmanager
async def held(path: Path, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Holds a lock file against other processes and tasks; the lock ends with its process."""
    lock = filelock.FileLock(path, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        on_wait()
    while not lock.is_locked:
        await anyio.sleep(POLL_S)
        with suppress(filelock.Timeout):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def file_digest(path: Path) -> str:
    """`sha256:…` of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path, skip: Callable[[Path], bool] = lambda _relative: False) -> str:
    """`sha256:…` over every path below `folder` but those to `skip`: its kind, whether it may be executed, and its
    content or target.

    Times, owners and the other mode bits are left out, because they differ between machines and users. Empty folders
    count. Raises `ValueError` for anything that is neither file, folder nor link.
    """
    total = hashlib.sha256()
    # os.fsencode keeps names that are no UTF-8 apart; sorting bytes is the same everywhere.
    inside = (path.relative_to(folder) for path in folder.rglob("*"))
    for relative in sorted(bytes(path) for path in inside if not skip(path)):
        path = folder / os.fsdecode(relative)
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            line = b"link " + bytes(path.readlink())
        elif stat.S_ISDIR(mode):
            line = b"folder"
        elif stat.S_ISREG(mode):
            line = (b"program " if mode & stat.S_IXUSR else b"file ") + file_digest(path).encode()
        else:
            raise ValueError(f"{path}: neither file, folder nor link")
        total.update(b"%d %b %d %b " % (len(relative), relative, len(line), line))
    return "sha256:" + total.hexdigest()


def plain(member: tarfile.TarInfo, time_s: int = 0) -> tarfile.TarInfo:
    """A tar's member as nobody's file, of one time, executable or not: the same on every machine."""
    member.uid, member.gid, member.uname, member.gname, member.mtime = 0, 0, "", "", time_s
    if not member.issym():
        member.mode = 0o755 if member.isdir() or member.mode & stat.S_IXUSR else 0o644
    return member
