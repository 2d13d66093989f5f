"""A tree's exact bytes as a tar stream, made from git objects: no work tree, no attribute, no filter.

`git archive` would drop `export-ignore` files and rewrite `export-subst` ones, and a checkout would run filters.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from orchestrator.git import CHUNK, Git

FOLDER, GITLINK, SYMLINK, PROGRAM = "040000", "160000", "120000", "100755"
FOLDERS: Final = (FOLDER, GITLINK)  # a submodule that was not fetched is an empty folder
EPOCH: Final = 946684800  # 2000-01-01: before any build, after every format's zero


@dataclass(frozen=True)
class Entry:
    """One line of a tree: git's mode, the object's id, and the path as git's bytes."""

    mode: str
    id: str
    path: bytes


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
        async with aclosing(blobs(self.git, [entry.id for entry in entries if entry.mode not in FOLDERS])) as contents:
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


async def blobs(git: Git, ids: Sequence[str]) -> AsyncGenerator[bytes, None]:
    """The blobs' contents in the order of `ids`, each whole, because quarantine bounds them; read by one process."""
    buffer = bytearray()  # `<id> blob <size>`, the bytes, a newline, again and again
    wanted = "".join(f"{oid}\n" for oid in ids).encode()
    async with aclosing(git.stream("cat-file", "--batch", "--buffer", stdin=wanted)) as pieces:
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


async def difference(git: Git, base: str, commit: str) -> tuple[list[Entry], tuple[str, ...], int, int]:
    """What the later of two commits adds or changes; all paths that differ, also of what it deletes; lines added and
    removed (none for binary files)."""
    entries, files, added, removed = [], [], 0, 0
    plain = ("--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
    async with aclosing(git.records("diff-tree", "-r", "-z", *plain, base, commit)) as records:
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
