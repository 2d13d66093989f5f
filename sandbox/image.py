"""One declaration, one root file system, kept by content: what bubblewrap binds and what Docker imports.

    HOME/images/
      requests/<request>        the digest that this declaration became; written last: nothing half-made is found
      requests/<request>.lock   held while it is built
      <digest>/image.tar        the root file system; its sha256 is the digest
      <digest>/tree/            the same, unpacked, without device nodes

Built by mmdebstrap: no daemon, as root and not, and the same declaration and packages give the same bits. A second
build of a declaration is a lookup. Packages come from the machine's own mirrors and move with them, so a digest says
what an image is and `packages` says what is in it; neither says that it can be built again next month.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from typing import Final

import anyio

from sandbox.debian import CommandFailed, bare_environment, mirror_lines, run
from sandbox.digest import file_digest, tree_digest
from sandbox.keep import held, scratch, settle, write_whole
from sandbox.room import EngineUnavailable, RootFs

RECIPE: Final = 1  # part of every request: raise it when the same declaration shall give another image
EPOCH: Final = 1_700_000_000  # the time that every file of an image claims to be from
EXCLUDED: Final = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")
SEAT_PACKAGES: Final = ("git",)  # submissions and checkpoints are packed inside the room
# A read-only root cannot get a mount point later, so all that a room may have are made here.
MOUNT_POINTS: Final = ("workspace", "team", "cases", "case", "artifacts", "out", "sources", "opt/room")
SETUP: Final = ".setup"


@dataclass(frozen=True)
class ImageSpec:
    """What an image is made of."""

    packages: tuple[str, ...]
    base: str = "debian:bookworm"
    setup: Path | None = None  # run once as root in the image, after `files` are there
    files: Path | None = None  # a folder laid over /
    judge: bool = False  # for case rooms: only what is declared, without apt and git


def request_digest(spec: ImageSpec) -> str:
    """What makes two declarations the same: content of their files, not where these lie."""
    asked = {
        "recipe": RECIPE,
        "machine": os.uname().machine,
        "base": spec.base,
        "packages": sorted(set(spec.packages)),
        "judge": spec.judge,
        "setup": file_digest(spec.setup) if spec.setup else None,
        "files": tree_digest(spec.files) if spec.files else None,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def kept(digest: str, home: Path) -> RootFs | None:
    """The image of that digest, if this machine has it: a resumed run asks by digest, not by declaration."""
    folder = home / "images" / digest.removeprefix("sha256:")
    root = RootFs(digest=digest, tree=folder / "tree", tar=folder / "image.tar")
    return root if root.tar.is_file() and root.tree.is_dir() else None


def find(spec: ImageSpec, home: Path) -> RootFs | None:
    """The image this declaration became earlier, if it is still there."""
    try:
        digest = (home / "images/requests" / request_digest(spec)).read_text().strip()
    except FileNotFoundError:
        return None
    return kept(digest, home)


async def build(spec: ImageSpec, home: Path, *, progress: Callable[[str], None]) -> RootFs:
    """The declaration's image: found if it was built before, else built, which takes 15 s to a few minutes.

    `progress` hears a line for each step. Safe for several processes at once, and for being killed at any moment.
    Raises `EngineUnavailable` when this machine cannot build images, saying what to install; `CommandFailed` when a
    package is not known, a mirror does not answer or `setup` fails; `ValueError` for a base that is not Debian.
    """
    if (found := find(spec, home)) is not None:
        return found
    requests = home / "images/requests"
    requests.mkdir(parents=True, exist_ok=True)
    request = requests / request_digest(spec)
    async with held(request.with_suffix(".lock"), lambda: progress("another process builds this image; waiting")):
        if (found := find(spec, home)) is not None:
            return found
        with scratch(request) as half:
            digest = await _build(spec, half, progress)
            settle(half / "image", home / "images" / digest.removeprefix("sha256:"))
        write_whole(request, digest + "\n")
    root = kept(digest, home)
    assert root is not None
    return root


def packages(root: RootFs) -> dict[str, str]:
    """Every package in the image with its version, as the lock records them."""
    status = root.tree / "var/lib/dpkg/status"
    found = {}
    for paragraph in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return dict(sorted(found.items()))


async def _build(spec: ImageSpec, half: Path, progress: Callable[[str], None]) -> str:
    """Leaves a finished `image/` in `half` and returns its digest."""
    suite = _suite(spec.base)
    mode = builder_mode()
    tree, tar, overlay = half / "image/tree", half / "image/image.tar", half / "overlay.tar"
    tree.mkdir(parents=True)
    await anyio.to_thread.run_sync(_write_overlay, spec, overlay)
    wanted = sorted({*spec.packages, *(() if spec.judge else SEAT_PACKAGES)})
    argv = [
        *await _own_mounts(),
        "mmdebstrap",
        f"--mode={mode}",
        f"--variant={'essential' if spec.judge else 'minbase'}",
        *((f"--include={','.join(wanted)}",) if wanted else ()),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
        '--aptopt=Acquire::Retries "3"',
        '--aptopt=APT::Sandbox::User "root"',  # else who builds decides whose apt's folders are
        f"--customize-hook=tar-in '{overlay}' /",
        *_hooks(spec),
        suite,
        str(tar),
        *await mirror_lines(suite),
    ]
    # With a range of user ids the builder is another user, who cannot get below a home of mode 0700.
    place = {} if mode == "unshare" else {"TMPDIR": str(half)}
    await run(argv, env=bare_environment(SOURCE_DATE_EPOCH=str(EPOCH), **place), on_line=partial(_tell, progress))
    progress("unpacking the image")
    owner = ["--same-owner", "--numeric-owner"] if os.geteuid() == 0 else ["--no-same-owner"]
    await run(["tar", "--exclude=./dev/*", *owner, "-xpf", tar, "-C", tree])
    tree.chmod(0o755)
    tar.chmod(0o444)
    return await anyio.to_thread.run_sync(file_digest, tar)


async def _own_mounts() -> tuple[str, ...]:
    """As root mmdebstrap mounts the machine's /sys and devices in what it makes: not where they can be left behind.

    Nothing where that cannot be had (inside a plain chroot, or without the right to mount at all).
    """
    own = ("unshare", "--mount", "--propagation", "private", "--")
    try:
        await run([*own, "true"])
    except CommandFailed:
        return ()
    return own if os.geteuid() == 0 else ()


def _tell(progress: Callable[[str], None], line: str) -> None:
    """Passes on the builder's steps, which end in dots, without the paths it works in."""
    if line.startswith("I: ") and line.endswith("...") and "/" not in line:
        progress(line.removeprefix("I: ").removesuffix("..."))


def builder_mode() -> str:
    """How mmdebstrap works for this user: as root, with a range of user ids, or with a library that pretends.

    Raises `EngineUnavailable` with the command that has to be run first.
    """
    path = bare_environment()["PATH"]
    root = os.geteuid() == 0
    missing = [
        tool for tool in ("mmdebstrap", *(() if root else ("fakechroot", "fakeroot"))) if not which(tool, path=path)
    ]
    if "mmdebstrap" not in missing:
        if root:
            return "root"
        if which("newuidmap", path=path) and _has_subuids():
            return "unshare"
        if not missing:
            return "fakechroot"
    raise EngineUnavailable(
        f"images are built with {' and '.join(missing)}, not found here; "
        f"run{'' if root else ' as root'}: apt-get install {' '.join(missing)}"
    )


def _has_subuids() -> bool:
    try:
        lines = Path("/etc/subuid").read_text().splitlines()
    except FileNotFoundError:
        return False
    me = {str(os.geteuid()), os.environ.get("USER", "")}
    return any(line.split(":")[0] in me for line in lines)


def _suite(base: str) -> str:
    distribution, _, suite = base.partition(":")
    if distribution != "debian" or not suite.isalnum():
        raise ValueError(f"image.base must be debian:SUITE, such as debian:bookworm (got {base!r})")
    return suite


def _hooks(spec: ImageSpec) -> Iterator[str]:
    """Shell lines for mmdebstrap, which hands them the root as $1: our own words, nothing of the project's in them."""
    if spec.setup:
        clean = "env PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp"  # `env -i` would end fakechroot
        yield f'--customize-hook=chroot "$1" {clean} /{SETUP} && rm "$1/{SETUP}"'
    # The machine's name, resolver and mirrors are not the image's: rooms bring their own or have none.
    yield '--customize-hook=rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/var/lib/apt/lists/*'
    yield '--customize-hook=cd "$1/etc"; echo room >hostname; : >resolv.conf; chmod 644 hostname resolv.conf'


def _write_overlay(spec: ImageSpec, overlay: Path) -> None:
    """Everything of ours and the project's that is laid over the packages, with one owner and one time."""
    with tarfile.open(overlay, "w") as tar:
        for point in MOUNT_POINTS:
            tar.addfile(_member(point, tarfile.DIRTYPE, 0o755))
        # Trees in a room belong to another user than the one who looks at them, by design.
        gitconfig = b"[safe]\n\tdirectory = *\n"
        tar.addfile(_member("etc/gitconfig", tarfile.REGTYPE, 0o644, len(gitconfig)), io.BytesIO(gitconfig))
        if spec.files:
            for path in sorted(spec.files.rglob("*")):
                _add(tar, path, str(path.relative_to(spec.files)))
        if spec.setup:
            script = spec.setup.read_bytes()
            tar.addfile(_member(SETUP, tarfile.REGTYPE, 0o755, len(script)), io.BytesIO(script))


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    if path.is_symlink():
        member = _member(name, tarfile.SYMTYPE, 0o777)
        member.linkname = str(path.readlink())
        tar.addfile(member)
    elif path.is_dir():
        tar.addfile(_member(name, tarfile.DIRTYPE, 0o755))
    else:
        executable = path.stat().st_mode & 0o100
        with path.open("rb") as file:
            tar.addfile(_member(name, tarfile.REGTYPE, 0o755 if executable else 0o644, path.stat().st_size), file)


def _member(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.mtime = kind, mode, size, EPOCH
    return member
