"""What a project needs from outside, fetched once, checked and kept read-only, because rooms have no network.

    HOME/sources/
      requests/<request>.json   version and digest of what this declaration became
      <digest>/                 the folder, as rooms and suites see it

A digest is over the unpacked folder (`sandbox.digest`), so it is the same on every machine and for every packaging.
Nothing of a package is run: no maintainer script, no hook, no attribute filter.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import anyio

from sandbox.debian import CommandFailed, bare_environment, private_apt, run
from sandbox.digest import file_digest, tree_digest
from sandbox.keep import held, scratch, settle, write_whole
from sandbox.room import RoomError

SUITE: Final = "bookworm"  # sources belong to the project, not to the release that happens to run the machine
URL_TIMEOUT_S: Final = 60.0
CHUNK: Final = 1 << 20


class SourceError(RoomError):
    """A source is not what was declared: another digest, no such archive or folder in it."""


@dataclass(frozen=True)
class Deb:
    """A Debian binary package's files. `path` is `archive`, `archive:folder` or `:folder` inside the package."""

    name: str
    path: str = ""
    suite: str = SUITE


@dataclass(frozen=True)
class Src:
    """A Debian source package's upstream tree, without Debian's patches. `path` as in `Deb`, inside that tree."""

    name: str
    path: str = ""
    suite: str = SUITE


@dataclass(frozen=True)
class Url:
    """A file somewhere: unpacked when it is a tar, else kept as it is. `sha256` is of the file, 64 hex digits."""

    url: str
    sha256: str
    path: str = ""


@dataclass(frozen=True)
class Git:
    """One commit of a repository, by its full id, without submodules and history."""

    url: str
    commit: str
    path: str = ""


Source = Deb | Src | Url | Git


@dataclass(frozen=True)
class Fetched:
    """A source on this machine. `pin` is what a lock writes down."""

    folder: Path
    digest: str  # "sha256:…" of the folder's content
    version: str
    pin: str


def kept(digest: str, home: Path) -> Path | None:
    """The source of that digest, if this machine has it: a resumed run asks by digest, not by declaration."""
    folder = home / "sources" / digest.removeprefix("sha256:")
    return folder if folder.is_dir() else None


async def fetch(source: Source, home: Path, *, progress: Callable[[str], None] = lambda _line: None) -> Fetched:
    """The source's folder: found if it was fetched before, else fetched, which takes what the network takes.

    Safe for several processes at once, and for being killed at any moment. Raises `SourceError` when what came is not
    what was declared, `CommandFailed` or `RoomError` when it could not be had.
    """
    asked = {"kind": type(source).__name__.lower(), **asdict(source)}
    requests = home / "sources/requests"
    requests.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    note = requests / f"{name}.json"
    async with held(requests / f"{name}.lock", lambda: progress("another process fetches this source; waiting")):
        if (found := _noted(note, home)) is not None:
            return found
        with scratch(requests / name) as half:
            progress(f"fetching {_words(source)}")
            tree, version = await _bring(source, half, home / "apt")
            if not any(tree.iterdir()):
                raise SourceError(f"{_words(source)}: nothing there")
            digest = await anyio.to_thread.run_sync(tree_digest, tree)
            await anyio.to_thread.run_sync(_make_read_only, tree)
            settle(tree, home / "sources" / digest.removeprefix("sha256:"))
        pin = f"{_words(source)} {version} {digest}".replace("  ", " ")
        write_whole(note, json.dumps({"digest": digest, "version": version, "pin": pin, "asked": asked}, indent=1))
    found = _noted(note, home)
    assert found is not None
    return found


def _noted(note: Path, home: Path) -> Fetched | None:
    try:
        known = json.loads(note.read_text())
    except FileNotFoundError:
        return None
    folder = kept(known["digest"], home)
    if folder is None:
        return None
    return Fetched(folder=folder, digest=known["digest"], version=known["version"], pin=known["pin"])


def _words(source: Source) -> str:
    match source:
        case Deb() | Src():
            return f"{type(source).__name__.lower()} {source.name}"
        case Url() | Git():
            return f"{type(source).__name__.lower()} {source.url}"


async def _bring(source: Source, half: Path, apt: Path) -> tuple[Path, str]:
    """The unpacked folder and its version."""
    match source:
        case Deb():
            return await _bring_deb(source, half, apt)
        case Src():
            return await _bring_src(source, half, apt)
        case Url():
            file = half / (PurePosixPath(source.url).name or "file")
            await anyio.to_thread.run_sync(partial(_download, source.url, file), abandon_on_cancel=True)
            if (came := file_digest(file).removeprefix("sha256:")) != source.sha256:
                raise SourceError(f"{source.url}: its sha256 is {came}, declared is {source.sha256}")
            tree = half / "tree"
            tree.mkdir()
            if tarfile.is_tarfile(file):
                return await _chosen(await _unpack(file, "", tree), source.path, half), ""
            file.rename(tree / file.name)
            return await _chosen(tree, source.path, half), ""
        case Git():
            return await _chosen(await _bring_git(source, half), source.path, half), source.commit


async def _bring_deb(source: Deb, half: Path, apt: Path) -> tuple[Path, str]:
    async with held(_apt_lock(apt)):
        env = await private_apt(apt / "deb", source.suite, "deb")
        await run(["apt-get", "download", source.name], env=env, cwd=half)
    [package] = await anyio.to_thread.run_sync(_ending, half, r"\.deb$")
    version = (await run(["dpkg-deb", "--field", package, "Version"])).strip()
    tree = half / "package"
    await run(["dpkg-deb", "--extract", package, tree])
    return await _chosen(tree, source.path, half), version


async def _bring_src(source: Src, half: Path, apt: Path) -> tuple[Path, str]:
    async with held(_apt_lock(apt)):
        env = await private_apt(apt / "src", source.suite, "deb-src")
        await run(["apt-get", "source", "--download-only", "--only-source", source.name], env=env, cwd=half)
    [description] = await anyio.to_thread.run_sync(_ending, half, r"\.dsc$")
    version = re.search(r"^Version: (\S+)", await anyio.Path(description).read_text(), re.MULTILINE)
    if version is None:
        raise SourceError(f"{description.name}: no version in it")
    archives = await anyio.to_thread.run_sync(_ending, half, r"(?<!\.debian)\.tar\.\w+$")
    tree = half / "tree"
    tree.mkdir()
    for archive in sorted(archives, key=lambda path: ".orig-" in path.name):  # the main one first
        component = re.search(r"\.orig-([^.]+)\.tar\.", archive.name)
        into = tree / component[1] if component else tree
        into.mkdir(exist_ok=True)
        await _unpack(archive, "", into)
    return await _chosen(tree, source.path, half), version[1]


async def _bring_git(source: Git, half: Path) -> Path:
    """Plumbing in a repository of our own, with nobody's configuration: the files come out as they are stored."""
    env = bare_environment(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null", GIT_TERMINAL_PROMPT="0")
    repository, tree = half / "repository.git", half / "tree"
    git = ["git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-C", str(repository)]
    await run(["git", "init", "--quiet", "--bare", "--template=", repository], env=env)
    try:
        await run([*git, "fetch", "--quiet", "--depth=1", source.url, source.commit], env=env)
    except CommandFailed:  # some servers give only whole branches
        await run([*git, "fetch", "--quiet", source.url, "+refs/*:refs/fetched/*"], env=env)
    (repository / "info").mkdir(exist_ok=True)
    (repository / "info/attributes").write_text("* -text -filter -ident -working-tree-encoding\n")
    tree.mkdir()
    work = [*git, f"--work-tree={tree}"]
    await run([*work, "read-tree", f"{source.commit}^{{tree}}"], env=env)
    await run([*work, "checkout-index", "--all"], env=env)
    return tree


async def _chosen(tree: Path, path: str, half: Path) -> Path:
    """What `path` names in `tree`: a folder of it, or a folder of an archive that lies somewhere in it."""
    archive, _, folder = path.partition(":")
    if not archive:
        return await anyio.to_thread.run_sync(_folder, tree, folder)
    inner = half / "inner"
    inner.mkdir()
    return await _unpack(await anyio.to_thread.run_sync(_archive, tree, archive), folder, inner)


def _folder(tree: Path, folder: str) -> Path:
    chosen = (tree / folder).resolve()
    if not chosen.is_relative_to(tree.resolve()) or not chosen.is_dir():
        raise SourceError(f"{folder}: no such folder in the source")
    return chosen


def _archive(tree: Path, name: str) -> Path:
    named = [path for path in tree.rglob(PurePosixPath(name).name) if f"/{path}".endswith(f"/{name}")]
    files = [path for path in named if path.is_file() and not path.is_symlink()]
    if len(files) != 1:
        raise SourceError(f"{name}: {len(files) or 'no'} archives of that name in the source")
    return files[0]


def _ending(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if re.search(pattern, path.name))


async def _unpack(archive: Path, folder: str, into: Path) -> Path:
    """Unpacks one folder of a tar, or all of it, so that its content lies in `into`.

    Most archives hold everything below one folder named after the version; that folder is left out, so that paths do
    not change with versions.
    """
    top = await anyio.to_thread.run_sync(_common_top, archive, folder)
    inner = [part for part in PurePosixPath(top, folder).parts if part != "/"]
    where = ["/".join(inner)] if inner else []
    strip = f"--strip-components={len(inner)}"
    try:
        await run(["tar", "-xf", archive, "-C", into, "--no-same-owner", "--no-same-permissions", strip, "--", *where])
    except CommandFailed as error:
        if "Not found in archive" in str(error):
            raise SourceError(f"{archive.name}: no folder {folder} in it") from error
        raise
    return into


def _common_top(archive: Path, folder: str) -> str:
    """The one folder that holds everything in the tar; empty if there is none.

    Where a folder is asked for, the first name decides, because it has to be there anyway: reading all names of a
    large archive takes as long as unpacking it.
    """
    tops: set[str] = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if len(parts) == 1 and not member.isdir():
                return ""
            tops.update(parts[:1])
            if len(tops) > 1:
                return ""
            if folder and tops:
                break
    return "" if tops == {folder.split("/")[0]} else "".join(tops)


def _download(url: str, file: Path) -> None:
    if not url.startswith(("https://", "http://", "file://")):
        raise SourceError(f"{url}: not an http, https or file address")
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as answer, file.open("wb") as out:
            shutil.copyfileobj(answer, out, CHUNK)
    except OSError as error:
        raise SourceError(f"{url}: {error}") from error


def _make_read_only(tree: Path) -> None:
    """Nobody may write below `tree`; the top stays writable so that it can be moved, and is closed by its mount."""
    for folder, _folders, files in os.walk(tree):
        for file in files:
            path = Path(folder, file)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o111 | 0o444)
        if Path(folder) != tree:
            Path(folder).chmod(0o555)
    tree.chmod(0o755)


def _apt_lock(apt: Path) -> Path:
    apt.mkdir(parents=True, exist_ok=True)
    return apt / "lock"
