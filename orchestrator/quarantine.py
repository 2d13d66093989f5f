"""Where a stream out of a room is judged before any of it comes near main.

A quarantine is an empty bare repository that borrows the objects of `public.git` (main and nothing else) and is thrown
away whatever happens. The order of checks is part of the design: each makes the next one safe to run. Size of the
stream, then its header, then strict indexing, then the number of entries in the tree (a kilobyte can hold 10^10), then
connection to main and sizes unpacked, then, for what may come to main, policy on what changed.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from orchestrator.git import CONFINED, EMPTY_TREE, FOLDER, GITLINK, SYMLINK, Entry, Git, GitError, GitTree, create_bare
from orchestrator.workspace import Stream
from sandbox.room import MIB

_HEADER: Final = re.compile(rb"(submission|checkpoint) ([0-9a-f]{40})\nPACK.{4}(.{4})", re.DOTALL)

NAME_BYTES: Final = 255  # of one file or folder: what file systems take


class Refused(Exception):
    """The stream does not come in. The message is for the agent: what was found, where, and what to do."""


@asynccontextmanager
async def quarantined(stream: bytes, limits: Stream, public: Git, within: Path) -> AsyncIterator[tuple[Git, str, str]]:
    """Takes a stream in and yields where it is, its commit, and the newest commit of main that this stands on; on
    leaving, the quarantine is gone.

    Raises `Refused`, or `GitError` for trouble of this machine (its disk is full).
    """
    await anyio.Path(within).mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="q-", dir=within, ignore_cleanup_errors=True) as folder:
        try:
            yield await _take(stream, limits, public, Path(folder))
        except GitError as error:  # that git fails in here is in the agent's bytes, unless the disk is full
            if not error.folder.is_relative_to(folder) or error.full:
                raise
            said = error.stderr.strip().splitlines() or [f"it ended with {error.code}"]
            raise Refused(f"git does not accept what your workspace packed: {said[0][:300]}") from error


async def _take(stream: bytes, limits: Stream, public: Git, folder: Path) -> tuple[Git, str, str]:
    if len(stream) > limits.packed:
        packed = f"packs to more than {limits.packed // MIB} MiB"
        raise Refused(f"your workspace {packed}: keep built and downloaded files out of it (.gitignore)")
    header = _HEADER.match(stream)
    if header is None or header[1].decode() != limits.kind:
        raise Refused(
            f"what came out of the room is not a {limits.kind} header and a pack: git did not pack your workspace"
        )
    if (objects := int.from_bytes(header[3], "big")) > limits.objects:
        raise Refused(f"the pack holds {objects} objects, at most {limits.objects} are taken")
    commit = header[2].decode()
    git = await create_bare(Git(folder / "q.git", CONFINED, durable=False))
    await anyio.Path(git.folder / "objects/info/alternates").write_text(f"{public.folder / 'objects'}\n")
    await anyio.Path(folder / "stream").write_bytes(stream)
    async with await anyio.open_file(folder / "stream", "rb", buffering=0) as spool:
        await spool.seek(header.end(2) + 1)
        await git.run("index-pack", "--stdin", "--fix-thin", "--strict", stdin=spool.wrapped)
    if await git.text("cat-file", "-t", commit) != "commit":
        raise Refused(f"{commit} is not a commit")
    await _count(GitTree(git, commit), limits)
    return git, commit, await connect(git, commit, await public.text("rev-parse", "refs/heads/main"), limits)


async def _count(tree: GitTree, limits: Stream) -> None:
    """Stops at the first entry too many: the tree may claim any number of them."""
    count = 0
    async with aclosing(tree.entries()) as entries:
        async for entry in entries:
            count += 1
            if count > limits.entries:
                raise Refused(f"your tree holds more than {limits.entries} files and folders")
            if any(len(part) > NAME_BYTES for part in entry.path.split(b"/")):
                raise Refused(f"a name is longer than {NAME_BYTES} bytes: {_shown(entry.path[:80])}…")
            if len(entry.path) > limits.path:
                raise Refused(f"a path is longer than {limits.path} bytes: {_shown(entry.path[:80])}…")
            if entry.mode == FOLDER and entry.id == EMPTY_TREE:
                raise Refused(f"{_shown(entry.path)} is an empty folder, which git cannot check out")


async def connect(git: Git, commit: str, main: str, limits: Stream) -> str:
    """The newest commit of main that `commit` stands on, once everything between the two is known to be here."""
    _, listed = await git.run("rev-list", "--objects", "--no-object-names", commit, f"^{main}")
    checked = await git.text("cat-file", "--batch-check=%(objectsize) %(objecttype)", stdin=listed)
    sizes = [int(line.split(" ")[0]) for line in checked.splitlines()]
    if checked.count("commit") > limits.commits:
        raise Refused(f"you made more than {limits.commits} commits since main: squash them")
    if max(sizes, default=0) > limits.blob:
        raise Refused(f"a file of {max(sizes) // MIB} MiB is too large, at most {limits.blob // MIB} MiB are taken")
    if sum(sizes) > limits.unpacked:
        raise Refused(f"your change unpacks to {sum(sizes) // MIB} MiB, more than {limits.unpacked // MIB} MiB")
    base = await git.text("merge-base", commit, main, accept=(0, 1))
    if not base:
        raise Refused("your commits do not stand on main: start from origin/main (git fetch, git rebase origin/main)")
    return base


async def check_policy(git: Git, entries: Sequence[Entry]) -> None:
    """Refuses what may not be on main, in what a submission adds or changes."""
    links = [entry.id for entry in entries if entry.mode == SYMLINK]
    targets = dict(zip(links, [target async for target in git.blobs(links)], strict=True))
    for entry in entries:
        trouble = _path_trouble(entry.path)
        if entry.mode == GITLINK:
            trouble = "is a submodule or a nested repository"
        elif entry.mode == SYMLINK and not _stays_inside(entry.path, targets[entry.id]):
            link = f"is a symbolic link to {_shown(targets[entry.id][:200])}"
            trouble = f"{link} (one must be relative, stay in the repository, and have '..' at its start only)"
        if trouble:
            raise Refused(f"{_shown(entry.path)} {trouble}: take it out of your change")


def _path_trouble(path: bytes) -> str:
    """Why a path may not be on main, or nothing. Strict indexing refused what leaves the tree or is git's own folder,
    also as Windows and macOS would read it."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not text.isprintable():
        return "has control or invisible characters in its name"
    board = text.split("/")[0].casefold() == "current_tasks"
    return "belongs to the task board, which is never a commit" if board else ""


def _stays_inside(path: bytes, target: bytes) -> bool:
    """'..' is counted from the link's real folder. Behind a name it could be counted from another link's target."""
    parts = target.split(b"/")
    up = next((n for n, part in enumerate(parts) if part != b".."), len(parts))
    relative = bool(target) and not target.startswith(b"/") and b"\0" not in target
    return relative and up <= path.count(b"/") and b".." not in parts[up:]


def _shown(name: bytes) -> str:
    return ascii(name.decode(errors="backslashreplace"))
