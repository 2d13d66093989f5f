"""Git on the host: the one way it is run, on a bare repository of the run, and how objects are read.

It is plumbing, by argument vector. Nothing but what stands here and in `git.config` configures it: no system, user or
attribute file, no hook, no replace ref, no lazy fetch, no transport. Agents' bytes reach it only as objects, and every
process is bounded in memory, CPU, file size and time, because a pack of a kilobyte can ask for terabytes.

A tree leaves as a tar of its exact bytes, made from objects: no work tree, no attribute, no filter. `git archive` would
drop `export-ignore` files and rewrite `export-subst` ones, and a checkout would run filters.
"""

import os
import subprocess
import tarfile
from collections.abc import AsyncGenerator, Container, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import anyio

from sandbox.room import MIB

CHUNK: Final = 64 * 1024
EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
FOLDER, GITLINK, SYMLINK, PROGRAM = "040000", "160000", "120000", "100755"
FOLDERS: Final = (FOLDER, GITLINK)  # a submodule that was not fetched is an empty folder
EPOCH: Final = 946684800  # 2000-01-01: before any build, after every format's zero

ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": str(Path(__file__).with_name("git.config")),
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ATTR_SOURCE": EMPTY_TREE,  # git from 2.43 on would read attributes from a bare repository's HEAD
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


class GitError(Exception):
    """A git command failed. `code` is its exit code, negative for a signal; `stderr` is clipped."""

    def __init__(self, folder: Path, argv: tuple[str, ...], code: int, stderr: str) -> None:
        said = stderr.strip() or "nothing was said"
        super().__init__(f"git {' '.join(argv)[:300]} in {folder} ended with {code}: {said}")
        self.folder, self.code, self.stderr = folder, code, stderr

    @property
    def full(self) -> bool:
        """The machine's fault, not the bytes': the disk has no room left."""
        return "No space left on device" in self.stderr or "Disk quota exceeded" in self.stderr


@dataclass(frozen=True)
class Bounds:
    """What one git process may use: bytes of address space and of one file, seconds of CPU and of wall time."""

    memory: int
    file: int
    cpu_s: int
    time_s: float


OURS: Final = Bounds(memory=8192 * MIB, file=65536 * MIB, cpu_s=900, time_s=1800.0)
CONFINED: Final = Bounds(memory=1024 * MIB, file=4096 * MIB, cpu_s=60, time_s=120.0)


@dataclass(frozen=True)
class Entry:
    """One line of a tree: git's mode, the object's id, and the path as git's bytes."""

    mode: str
    id: str
    path: bytes


@dataclass(frozen=True)
class Git:
    """Git on one bare repository. Cancelling a call kills its process."""

    folder: Path
    bounds: Bounds = OURS
    durable: bool = True  # False only for what is thrown away
    env: Mapping[str, str] = field(default_factory=dict)

    async def stream(self, *argv: str, stdin: bytes | IO[bytes] = b"") -> AsyncGenerator[bytes, None]:
        """Standard output in pieces, as git makes them; close the iterator early to kill the process.

        Input comes from a file or from memory, never through a pipe: git may stop reading. The time bound is for each
        piece, because a slow reader is not git's fault. Raises `GitError`.
        """
        b, sync = self.bounds, () if self.durable else ("-c", "core.fsync=none")
        limits = (f"--as={b.memory}", f"--fsize={b.file}", f"--cpu={b.cpu_s}", "--core=0")
        with _as_file(stdin) as source, _as_file(b"") as errors:
            process = await anyio.open_process(
                ["prlimit", *limits, "git", *sync, *argv],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.folder,
                env={**ENVIRONMENT, "GIT_DIR": ".", **self.env},
            )
            assert process.stdout is not None
            try:
                while True:
                    with anyio.fail_after(b.time_s):
                        piece = await process.stdout.receive(CHUNK)
                    yield piece
            except anyio.EndOfStream:
                if code := await process.wait():
                    errors.seek(0)
                    raise GitError(self.folder, argv, code, errors.read(2000).decode(errors="replace")) from None
            except TimeoutError as late:
                raise GitError(self.folder, argv, -9, f"not done after {b.time_s:g} s, killed") from late
            finally:
                with anyio.CancelScope(shield=True):
                    if process.returncode is None:
                        process.kill()
                    await process.aclose()

    async def run(self, *argv: str, stdin: bytes | IO[bytes] = b"", accept: Container[int] = (0,)) -> tuple[int, bytes]:
        """Exit code and standard output. Raises `GitError` for a code outside `accept`."""
        made, code = bytearray(), 0
        try:
            async for piece in self.stream(*argv, stdin=stdin):
                made += piece
        except GitError as error:
            code = error.code
            if code not in accept:
                raise
        return code, bytes(made)

    async def text(self, *argv: str, stdin: bytes = b"", accept: Container[int] = (0,)) -> str:
        """Standard output without the spaces around it."""
        _, made = await self.run(*argv, stdin=stdin, accept=accept)
        return made.decode(errors="surrogateescape").strip()

    async def records(self, *argv: str) -> AsyncGenerator[bytes, None]:
        """The NUL-ended records of a command's output, one by one."""
        rest = b""
        async with aclosing(self.stream(*argv)) as pieces:
            async for piece in pieces:
                *whole, rest = (rest + piece).split(b"\0")
                for record in whole:
                    yield record

    async def blobs(self, ids: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """The blobs' contents in the order of `ids`, each whole, as quarantine bounds them; read by one process."""
        buffer = bytearray()  # `<id> blob <size>`, the bytes, a newline, again and again
        wanted = "".join(f"{oid}\n" for oid in ids).encode()
        async with aclosing(self.stream("cat-file", "--batch", "--buffer", stdin=wanted)) as pieces:
            for oid in ids:
                while (start := buffer.find(b"\n") + 1) == 0:
                    buffer += await anext(pieces)
                found, kind, *size = buffer[: start - 1].decode().split(" ")
                if (found, kind) != (oid, "blob"):
                    raise ValueError(f"git answered {found} {kind} where blob {oid} was asked for")
                end = start + int(size[0])
                while len(buffer) <= end:
                    buffer += await anext(pieces)
                yield bytes(buffer[start:end])
                del buffer[: end + 1]

    async def difference(self, base: str, commit: str) -> tuple[list[Entry], tuple[str, ...], int, int]:
        """What the later of two commits adds or changes; all paths that differ, also of what it deletes; lines added
        and removed (none for binary files)."""
        entries, files, added, removed = [], [], 0, 0
        plain = ("--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
        async with aclosing(self.records("diff-tree", "-r", "-z", *plain, base, commit)) as records:
            async for record in records:
                if record.startswith(b":"):  # ":<old mode> <new mode> <old id> <new id> <status>", then the path
                    _, mode, _, oid, status = record[1:].decode().split(" ")
                    path = await anext(records)
                    files.append(path.decode(errors="backslashreplace"))
                    entries += [Entry(mode, oid, path)] if status != "D" else []
                else:  # "<added>\t<removed>\t<path>"; "-" for binary files
                    more, less, _ = record.split(b"\t", 2)
                    if more != b"-":
                        added, removed = added + int(more), removed + int(less)
        return entries, tuple(files), added, removed


def _as_file(data: bytes | IO[bytes]) -> IO[bytes]:
    """The bytes as an anonymous file in memory, or the caller's file, from where it stands. The callers close it."""
    if not isinstance(data, bytes):
        return data
    file = os.fdopen(os.memfd_create("git"), "w+b", buffering=0)
    file.write(data)
    file.seek(0)
    return file


async def create_bare(git: Git, *, readable: bool = False) -> Git:
    """Makes an empty bare repository. `readable`: every user of the machine may read it, whatever our umask is."""
    await anyio.Path(git.folder).mkdir(parents=True)
    await anyio.Path(git.folder).chmod(0o755 if readable else 0o700)
    shared = ["--shared=0644"] if readable else []
    await git.run("init", "--quiet", "--bare", "--template=", "--object-format=sha1", "-b", "main", *shared)
    return git


@dataclass(frozen=True)
class GitTree:
    """A `verifiers.scorecard.Tree` over a repository of the run."""

    git: Git
    id: str

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """Everything in the tree, folders before what is in them."""
        async with aclosing(self.git.records("ls-tree", "-r", "-t", "-z", "--full-tree", self.id)) as records:
            async for record in records:  # "<mode> <type> <id>\t<path>"
                head, _, path = record.partition(b"\t")
                mode, _, oid = head.decode().split(" ")
                yield Entry(mode, oid, path)

    async def tar(self) -> AsyncGenerator[bytes, None]:
        """The tree as one tar, in pieces of 64 KiB and more. The same tree gives the same bytes. Raises `GitError`."""
        entries = [entry async for entry in self.entries()]
        buffer = bytearray()
        async with aclosing(self.git.blobs([entry.id for entry in entries if entry.mode not in FOLDERS])) as contents:
            for entry in entries:
                buffer += _member(entry, b"" if entry.mode in FOLDERS else await anext(contents))
                if len(buffer) >= CHUNK:
                    yield bytes(buffer)
                    buffer.clear()
        yield bytes(buffer) + bytes(2 * tarfile.BLOCKSIZE)


def _member(entry: Entry, data: bytes) -> bytes:
    info = tarfile.TarInfo(entry.path.decode(errors="surrogateescape"))
    info.mtime, info.mode = EPOCH, 0o755 if entry.mode in (PROGRAM, *FOLDERS) else 0o644
    if entry.mode in FOLDERS:
        info.type = tarfile.DIRTYPE
    elif entry.mode == SYMLINK:
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, data.decode(errors="surrogateescape")
        data = b""
    info.size = len(data)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % tarfile.BLOCKSIZE)
