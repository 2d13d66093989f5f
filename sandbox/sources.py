"""What a project needs from outside, fetched once and kept read-only, because rooms have no network.

Kept by content below HOME/sources (`keep.py`). A digest is over the unpacked folder, so it is the same on every machine
and for every packaging. Nothing of a package is run: no maintainer script, no hook.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import anyio

from sandbox.debian import CommandFailed, private_apt, run
from sandbox.keep import Kept, held, once, request_of, tree_digest
from sandbox.room import RoomError

SUITE: Final = "bookworm"  # sources belong to the project, not to the release that happens to run the machine


class SourceError(RoomError):
    """A source is not what was declared: no such archive or folder in it."""


@dataclass(frozen=True)
class Source:
    """A Debian binary package's files, or a source package's upstream tree without Debian's patches.

    `path` is `archive`, `archive:folder` or `:folder` inside it.
    """

    kind: Literal["deb", "src"]
    name: str
    path: str = ""
    suite: str = SUITE


async def fetch(source: Source, home: Path, *, progress: Callable[[str], None] = lambda _line: None) -> Kept:
    """The source's folder: found if it was fetched before, else fetched, which takes what the network takes.

    Safe for several processes at once, and for being killed at any moment. Raises `SourceError` when what came is not
    what was declared, `CommandFailed` or `RoomError` when it could not be had.
    """
    words = f"{source.kind} {source.name}"

    async def make(half: Path) -> tuple[Path, str]:
        progress(f"fetching {words}")
        tree, version = await (_bring_deb if source.kind == "deb" else _bring_src)(source, half, home / "apt")
        chosen = await choose(tree, source.path, half)
        digest = await anyio.to_thread.run_sync(tree_digest, chosen)
        await run(["chmod", "-R", "a-wst,a+rX", chosen])
        await anyio.Path(chosen).chmod(0o755)  # so that it can be moved; its mount closes it
        return chosen, f"{words} {version} {digest}"

    request = request_of(asdict(source))
    return await once(home / "sources", request, make, lambda: progress("another process fetches this source; waiting"))


async def _bring_deb(source: Source, half: Path, apt: Path) -> tuple[Path, str]:
    [package] = await _download(source, half, apt, "download")
    version = (await run(["dpkg-deb", "--field", package, "Version"])).strip()
    await run(["dpkg-deb", "--extract", package, half / "package"])
    return half / "package", version


async def _bring_src(source: Source, half: Path, apt: Path) -> tuple[Path, str]:
    files = await _download(source, half, apt, "source", "--download-only", "--only-source")
    [description] = [file for file in files if file.suffix == ".dsc"]
    version = re.search(r"^Version: (\S+)", await anyio.Path(description).read_text(), re.MULTILINE)
    if version is None:
        raise SourceError(f"{description.name}: no version in it")
    archives = [file for file in files if re.search(r"(?<!\.debian)\.tar\.\w+$", file.name)]
    for archive in sorted(archives, key=lambda path: ".orig-" in path.name):  # the main one first
        component = re.search(r"\.orig-([^.]+)\.tar\.", archive.name)
        await _unpack(archive, half / "tree" / (component[1] if component else ""), "--strip-components=1")
    return half / "tree", version[1]


async def _download(source: Source, half: Path, apt: Path, *verb: str) -> list[Path]:
    """What `apt-get` leaves in the empty folder `half`."""
    await anyio.Path(apt).mkdir(parents=True, exist_ok=True)
    async with held(apt / "lock"):
        await run(["apt-get", *verb, source.name], env=await private_apt(apt, source.suite), cwd=half)
    return [Path(file) async for file in anyio.Path(half).iterdir()]


async def choose(tree: Path, path: str, half: Path) -> Path:
    """What `path` names in an unpacked package: a folder of it, or of an archive that lies somewhere in it.

    An archive holds everything below one folder named after the version; that folder is left out of `path`, so that
    paths do not change with versions. Raises `SourceError`.
    """
    name, _, folder = path.partition(":")
    if name:
        archive = await anyio.to_thread.run_sync(_sole, tree, f"**/{name}")
        # A folder alone: the whole of a large archive takes minutes to unpack.
        wanted = ("--wildcards", "--no-wildcards-match-slash", "--", f"*/{folder}") if folder else ()
        await _unpack(archive, half / "inner", *wanted)
        tree = await anyio.to_thread.run_sync(_sole, half / "inner", "*")
    chosen = await anyio.Path(tree / folder).resolve()
    if not chosen.is_relative_to(await anyio.Path(tree).resolve()) or not await chosen.is_dir():
        raise SourceError(f"{folder}: no such folder in the source")
    return Path(chosen)


def _sole(tree: Path, pattern: str) -> Path:
    found = [path for path in tree.glob(pattern) if not path.is_symlink()]
    if len(found) != 1:
        raise SourceError(f"{pattern}: {len(found) or 'nothing'} of that name in the source, one is needed")
    return found[0]


async def _unpack(archive: Path, into: Path, *options: str) -> None:
    await anyio.Path(into).mkdir(exist_ok=True)
    try:
        await run(["tar", "-xf", archive, "-C", into, "--no-same-owner", "--no-same-permissions", *options])
    except CommandFailed as error:
        if "Not found in archive" in str(error):
            raise SourceError(f"{archive.name}: no folder {options[-1]} in the source") from error
        raise
