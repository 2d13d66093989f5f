"""One declaration, one root file system, kept by content: what bubblewrap binds and what Docker imports.

    HOME/images/<digest>/       kept by content (`keep.py`)
      image.tar                 the root file system; its sha256 is the digest
      tree/                     the same, unpacked, without device nodes

Built by mmdebstrap: no daemon, as root and not, and the same declaration and packages give the same bits. A second
build of a declaration is a lookup. Packages come from the machine's own mirrors and move with them, so a digest says
what an image is and `packages` says what is in it; neither says that it can be built again next month.
"""

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from sandbox import keep, mounts
from sandbox.debian import bare_environment, mirror_lines, run
from sandbox.keep import file_digest, tree_digest
from sandbox.room import EngineUnavailable, RootFs

RECIPE: Final = 1  # part of every request: raise it when the same declaration shall give another image
EPOCH: Final = 1_700_000_000  # the time that every file of an image claims to be from
EXCLUDED: Final = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")
SEAT_PACKAGES: Final = ("git",)  # submissions and checkpoints are packed inside the room
# A read-only root cannot get a mount point later, so all that a room may have are made here.
MOUNT_POINTS: Final = ("workspace", "team", "cases", "case", "artifacts", "out", "sources", "opt/room")
SETUP: Final = ".setup"
# As root mmdebstrap mounts the machine's /sys and devices in what it makes: not where they can be left behind.
OWN_MOUNTS: Final = ("unshare", "--mount", "--propagation", "private", "--")
# Trees in a room belong to another user than the one who looks at them, by design.
GITCONFIG: Final = b"[safe]\n\tdirectory = *\n"


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
    return keep.request_of(
        asdict(spec)
        | {
            "recipe": RECIPE,
            "machine": os.uname().machine,
            "packages": sorted(set(spec.packages)),
            "setup": file_digest(spec.setup) if spec.setup else None,
            "files": tree_digest(spec.files) if spec.files else None,
        }
    )


async def build(spec: ImageSpec, home: Path, *, progress: Callable[[str], None]) -> RootFs:
    """The declaration's image: found if it was built before, else built, which takes 15 s to a few minutes.

    `progress` hears a line for each step. Safe for several processes at once, and for being killed at any moment.
    Raises `EngineUnavailable` when this machine cannot build images, saying what to install; `CommandFailed` when a
    package is not known, a mirror does not answer or `setup` fails.
    """
    make = partial(_build, spec, progress)
    waiting = partial(progress, "another process builds this image; waiting")
    kept = await keep.once(home / "images", request_digest(spec), make, waiting)
    return RootFs(kept.digest, kept.folder / "tree", kept.folder / "image.tar")


def packages(root: RootFs) -> dict[str, str]:
    """Every package in the image with its version, as the lock records them."""
    status = root.tree / "var/lib/dpkg/status"
    found = {}
    for paragraph in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return dict(sorted(found.items()))


async def _build(spec: ImageSpec, progress: Callable[[str], None], half: Path) -> tuple[Path, str]:
    """Makes an image in `half`; its folder and digest."""
    suite = spec.base.removeprefix("debian:")
    tree, tar, overlay = half / "image/tree", half / "image/image.tar", half / "overlay.tar"
    tree.mkdir(parents=True)
    await anyio.to_thread.run_sync(_pack_overlay, spec, half / "overlay", overlay)
    wanted = sorted({*spec.packages, *(() if spec.judge else SEAT_PACKAGES)})
    # mmdebstrap hands the root to these shell lines as $1. They are our own words, nothing of the project's in them.
    clean = "env PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp"  # `env -i` would end fakechroot
    setup = f'--customize-hook=chroot "$1" {clean} /{SETUP} && rm "$1/{SETUP}"'
    argv = [
        *("sh", "-c", 'exec "$@" 2>&1', "sh"),
        *(OWN_MOUNTS if await anyio.to_thread.run_sync(mounts.can_mount) else ()),
        "mmdebstrap",
        f"--mode={builder_mode()}",
        f"--variant={'essential' if spec.judge else 'minbase'}",
        *((f"--include={','.join(wanted)}",) if wanted else ()),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
        '--aptopt=Acquire::Retries "3"',
        '--aptopt=APT::Sandbox::User "root"',  # else who builds decides whose apt's folders are
        f"--customize-hook=tar-in '{overlay}' /",
        *((setup,) if spec.setup else ()),
        # The machine's name, resolver and mirrors are not the image's: rooms bring their own or have none.
        '--customize-hook=rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/var/lib/apt/lists/*',
        '--customize-hook=cd "$1/etc"; echo room >hostname; : >resolv.conf; chmod 644 hostname resolv.conf',
        suite,
        str(tar),
        *await mirror_lines(suite, "deb"),
    ]

    async def tell(output: bytes) -> None:
        """Passes on the builder's steps, which end in dots, without the paths it works in."""
        for line in output.decode(errors="replace").splitlines():
            if line.startswith("I: ") and line.endswith("...") and "/" not in line:
                progress(line.removeprefix("I: ").removesuffix("..."))

    await run(argv, env=bare_environment(SOURCE_DATE_EPOCH=str(EPOCH), TMPDIR=str(half)), on_output=tell)
    progress("unpacking the image")
    owner = ["--same-owner", "--numeric-owner"] if os.geteuid() == 0 else ["--no-same-owner"]
    await run(["tar", "--exclude=./dev/*", *owner, "-xpf", tar, "-C", tree])
    tree.chmod(0o755)
    tar.chmod(0o444)
    return half / "image", await anyio.to_thread.run_sync(file_digest, tar)


def builder_mode() -> str:
    """How mmdebstrap works for this user: as root, or with a library that pretends.

    Raises `EngineUnavailable` with the command that has to be run first.
    """
    mode = "root" if os.geteuid() == 0 else "fakechroot"
    tools = ("mmdebstrap", *(("fakechroot", "fakeroot") if mode == "fakechroot" else ()))
    missing = [tool for tool in tools if not shutil.which(tool, path=bare_environment()["PATH"])]
    if missing:
        raise EngineUnavailable(
            f"images are built with {' and '.join(missing)}, not found here; "
            f"run as root: apt-get install {' '.join(missing)}"
        )
    return mode


def _pack_overlay(spec: ImageSpec, laid: Path, tar: Path) -> None:
    """Lays out everything of ours and the project's that is laid over the packages, and packs it as nobody's."""
    for point in (*MOUNT_POINTS, "etc"):
        (laid / point).mkdir(parents=True)
    (laid / "etc/gitconfig").write_bytes(GITCONFIG)
    if spec.files:
        shutil.copytree(spec.files, laid, symlinks=True, dirs_exist_ok=True)
    if spec.setup:
        shutil.copyfile(spec.setup, laid / SETUP)
        (laid / SETUP).chmod(0o755)
    with tarfile.open(tar, "w") as packed:
        for path in sorted(laid.iterdir()):
            packed.add(path, path.name, filter=partial(keep.plain, time_s=EPOCH))
