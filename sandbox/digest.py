"""One digest for a folder: what is in it, not when or by whom it was written."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path


def file_digest(path: Path) -> str:
    """`sha256:…` of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """`sha256:…` over every path below `folder`: its kind, whether it may be executed, and its content or target.

    Times, owners and the other mode bits are left out, because they differ between machines and users. Empty folders
    count. Raises `ValueError` for anything that is neither file, folder nor link.
    """
    total = hashlib.sha256()
    # os.fsencode keeps names that are no UTF-8 apart; sorting bytes is the same everywhere.
    for relative in sorted(bytes(path.relative_to(folder)) for path in folder.rglob("*")):
        path = folder / relative.decode("utf-8", "surrogateescape")
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
