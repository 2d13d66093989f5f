"""A tree made of folders laid over one another: seed, reference, cheat. What a judge takes, without a repository."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from sandbox.keep import tree_digest

CHUNK: Final = 1 << 16
NOT_PRODUCT: Final = "expect.toml"  # says what a layer must reach, and is no part of it


@dataclass(frozen=True)
class Layers:
    """Later folders replace files of earlier ones. `id` says what is in it, like a git tree's."""

    folders: tuple[Path, ...]

    @property
    def id(self) -> str:
        total = hashlib.sha256("".join(map(tree_digest, self.folders)).encode())
        return f"layers-{total.hexdigest()[:32]}"

    async def tar(self) -> AsyncIterator[bytes]:
        data = await anyio.to_thread.run_sync(self._packed)
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    def _packed(self) -> bytes:
        """A few hundred kilobytes: these folders are written by hand."""
        files: dict[str, Path] = {}
        for folder in self.folders:
            files |= {
                path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()
            }
        files.pop(NOT_PRODUCT, None)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, path in sorted(files.items()):
                tar.add(path, name, recursive=False, filter=_plain)
        return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """As a checkout would have it: nobody's file, of no time, executable or not."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member
