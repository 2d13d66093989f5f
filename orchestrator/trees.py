"""A tree's exact bytes as a tar stream, made from git objects: no work tree, no attribute, no filter.

`git archive` would drop `export-ignore` files and rewrite `export-subst` ones, and a checkout would run filters.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from orchestrator.git import CHUNK, Git

FOLDER, GITLINK, SYMLINK, PROGRAM = "040000", "160000", "120000", "100755"
EPOCH: Final = 946684800  # 2000-01-01: before any build, after every format's zero


@dataclass(frozen=True)
class Entry:
    """One line of a tree: git's mode, the object's id, and the path as git's bytes."""

    mode: str
    id: str
    path: bytes

    @classmethod
    def parse(cls, record: bytes) -> Entry:
        """Reads `<mode> <type> <id>\\t<path>`, as `ls-tree -z` prints it."""
        head, _, path = record.partition(b"\t")
        mode, _, oid = head.decode().split(" ")
        return cls(mode, oid, path)


@dataclass(frozen=True)
class GitTree:
    """A `verifiers.judging.Tree` over a repository of the run."""

    git: Git
    id: str

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """Everything in the tree, folders before what is in them."""
        async with aclosing(self.git.records("ls-tree", "-r", "-t", "-z", "--full-tree", self.id)) as records:
            async for record in records:
                yield Entry.parse(record)

    async def tar(self) -> AsyncGenerator[bytes, None]:
        """The tree as one tar, in pieces of about 64 KiB. The same tree gives the same bytes. Raises `GitError`."""
        entries = [entry async for entry in self.entries()]
        wanted = "".join(f"{entry.id}\n" for entry in entries if entry.mode not in (FOLDER, GITLINK))
        buffer = bytearray()
        async with aclosing(self.git.stream("cat-file", "--batch", "--buffer", stdin=wanted.encode())) as pieces:
            source = _Blobs(pieces)
            for entry in entries:
                if entry.mode in (FOLDER, GITLINK):  # a submodule that was not fetched is an empty folder
                    buffer += _header(entry, 0)
                    continue
                size = await source.next(entry.id)
                if entry.mode == SYMLINK:
                    buffer += _header(entry, 0, b"".join([part async for part in source.content(size)]))
                    continue
                buffer += _header(entry, size)
                async for part in source.content(size):
                    buffer += part
                    if len(buffer) >= CHUNK:
                        yield bytes(buffer)
                        buffer.clear()
                buffer += bytes(-size % tarfile.BLOCKSIZE)
        yield bytes(buffer) + bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Difference:
    """What differs between two commits: what the later one adds or changes; all paths, also of what it deletes; lines
    added and removed (none for binary files)."""

    entries: tuple[Entry, ...]
    files: tuple[str, ...]
    added: int
    removed: int


async def difference(git: Git, base: str, commit: str) -> Difference:
    entries, files, lines = [], [], [0, 0]
    plain = ("--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
    async with aclosing(git.records("diff-tree", "-r", "-z", *plain, base, commit)) as records:
        async for record in records:
            if record.startswith(b":"):  # ":<old mode> <new mode> <old id> <new id> <status>", then the path
                _, mode, _, oid, status = record[1:].decode().split(" ")
                path = await anext(records)
                files.append(path.decode(errors="backslashreplace"))
                entries += [Entry(mode, oid, path)] if status != "D" else []
            else:  # "<added>\t<removed>\t<path>"; "-" for binary files
                counts = [int(count) for count in record.split(b"\t")[:2] if count != b"-"]
                lines = [had + count for had, count in zip(lines, counts or (0, 0), strict=True)]
    return Difference(tuple(entries), tuple(files), *lines)


async def contents(git: Git, ids: Iterable[str]) -> dict[str, bytes]:
    """Small blobs by id, read by one process."""
    wanted = list(dict.fromkeys(ids))
    async with aclosing(git.stream("cat-file", "--batch", "--buffer", stdin="\n".join(wanted).encode())) as pieces:
        source = _Blobs(pieces)
        return {oid: b"".join([part async for part in source.content(await source.next(oid))]) for oid in wanted}


def _header(entry: Entry, size: int, target: bytes = b"") -> bytes:
    info = tarfile.TarInfo(entry.path.decode(errors="surrogateescape"))
    info.size, info.mtime = size, EPOCH
    info.mode = 0o755 if entry.mode in (PROGRAM, FOLDER, GITLINK) else 0o644
    if entry.mode == SYMLINK:
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, target.decode(errors="surrogateescape")
    elif entry.mode in (FOLDER, GITLINK):
        info.type = tarfile.DIRTYPE
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


class _Blobs:
    """Reads what `cat-file --batch` prints: `<id> blob <size>`, the bytes, a newline, for each asked id in order."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    async def next(self, oid: str) -> int:
        """The size of the next blob, which must be `oid`."""
        while b"\n" not in self._rest:
            self._rest += await anext(self._pieces)
        line, _, self._rest = self._rest.partition(b"\n")
        found, kind, *size = line.decode().split(" ")
        if (found, kind) != (oid, "blob"):
            raise ValueError(f"git answered {line!r} where blob {oid} was asked for")
        return int(size[0])

    async def content(self, size: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes; the newline behind them is read as well."""
        left = size + 1
        while left:
            piece = self._rest or await anext(self._pieces)
            taken, self._rest = piece[:left], piece[left:]
            left -= len(taken)
            yield taken if left else taken[:-1]
