"""What comes from Debian, by this machine's apt: mirrors for images, and packages that a project uses as sources.

No mirror is named here. Where packages come from is what the machine's own apt is set up with, so that a company's
mirror is used as well. Downloads run with a private state folder: the system's lists, sources and cache stay as they
are, `deb-src` needs no edit under /etc, and an ordinary user can do all of it.

Sources are what a project needs from outside, fetched once and kept read-only, because rooms have no network: by
content below HOME/sources (`keep.py`). A digest is over the unpacked folder, so it is the same on every machine and for
every packaging. Nothing of a package is run: no maintainer script, no hook.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import anyio

from sandbox import process
from sandbox.keep import Kept, held, once, request_of, state_home, tree_digest
from sandbox.room import MIB, Command, OnOutput, RoomError

SUITE: Final = "bookworm"  # sources belong to the project, not to the release that happens to run the machine
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEPT_SETTINGS: Final = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
KEPT_VARIABLES: Final = ("HOME", "USER", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
TAIL_LINES: Final = 20  # of a failed command's output, enough to hold apt's own explanation


class CommandFailed(RoomError):
    """A command of the machine failed; the message holds the command and the end of what it printed."""


class SourceError(RoomError):
    """A source is not what was declared: no such archive or folder in it."""


def bare_environment(**more: str) -> dict[str, str]:
    """What commands of ours may see: paths and proxies, no key of anybody's."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    # Users' own path has no sbin, which dpkg needs; tools are what `make setup` unpacked for who may not install.
    path = [os.environ.get("PATH", ""), "/usr/sbin:/usr/bin:/sbin:/bin", str(state_home() / "tools/usr/bin")]
    fixed = {"PATH": ":".join(filter(None, path)), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    return kept | fixed | more


async def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
    on_output: OnOutput | None = None,
) -> str:
    """Runs a command of the machine to its end and returns its stdout.

    Raises `CommandFailed`. Cancelling ends it with all that it started.
    """
    words, bounds = [str(word) for word in argv], Command((), time_s=math.inf, output_limit=64 * MIB)
    done = await process.run(words, bounds, on_output, env=env or bare_environment(), cwd=cwd)
    if done.exit_code:
        tail = (done.stderr.strip() or done.stdout).decode(errors="replace").splitlines()[-TAIL_LINES:]
        raise CommandFailed(f"{' '.join(words[:2])} ended with {done.exit_code}:\n" + "\n".join(tail))
    return done.stdout.decode(errors="replace")


async def mirror_lines(suite: str, *kinds: str) -> tuple[str, ...]:
    """Sources-list lines of `suite`, its updates and its security fixes, from what this machine's apt is set up with.

    Empty when this machine has no such suite: it runs another release or has no apt.
    """
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    listed = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    try:
        # A machine whose apt has fetched nothing yet knows releases only as its lists of sources name them.
        known = await run(listed) or await run([*listed, "--no-release-info"])
        places = [line.split() for line in known.splitlines()]
    except (CommandFailed, FileNotFoundError):
        return ()
    parts: dict[str, list[str]] = {}
    for site, release, component in places:
        if release in wanted and component not in parts.setdefault(f"{site} {release}", []):
            parts[f"{site} {release}"].append(component)
    lines = (f"[signed-by={KEYRING}] {place} {' '.join(components)}" for place, components in parts.items())
    return tuple(f"{kind} {line}" for line in lines for kind in kinds)


async def private_apt(state: Path, suite: str) -> dict[str, str]:
    """An up-to-date apt of our own below `state`, for the packages of `suite` and their sources.

    Returns the environment in which `apt-get` uses it. Raises `RoomError` when no mirror of `suite` is known or
    reachable. The caller holds a lock on `state`.
    """
    lines = await mirror_lines(suite, "deb", "deb-src")
    if not lines:
        raise RoomError(f"apt knows no mirror of Debian {suite} here; add its lines to /etc/apt/sources.list.d/")
    settings = (await run(["apt-config", "dump", "--no-empty"])).splitlines()
    for folder in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "etc/apt"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")
    own = (f'Dir "{state}";', 'APT::Sandbox::User "root";', 'Acquire::Languages "none";')
    config = state / "apt.conf"
    config.write_text("\n".join([*own, *(line for line in settings if line.startswith(KEPT_SETTINGS))]) + "\n")
    env = bare_environment(APT_CONFIG=str(config))
    await run(["apt-get", "update", "--error-on=any"], env=env)
    return env


async def fetch(kind: Literal["deb", "src"], name: str, path: str, home: Path, progress: Callable[[str], None]) -> Kept:
    """The folder of a source: found if it was fetched before, else fetched, which takes what the network takes.

    It is a Debian binary package's files, or a source package's upstream tree without Debian's patches; `path` is
    `archive`, `archive:folder` or `:folder` inside it, "" all of it. Safe for several processes at once, and for being
    killed at any moment. Raises `SourceError` when what came is not what was declared, `CommandFailed` or `RoomError`
    when it could not be had.
    """

    async def make(half: Path) -> tuple[Path, str]:
        progress(f"fetching {kind} {name}")
        tree, version = await (_bring_deb if kind == "deb" else _bring_src)(name, half, home / "apt")
        chosen = await choose(tree, path, half)
        digest = await anyio.to_thread.run_sync(tree_digest, chosen)
        await run(["chmod", "-R", "a-wst,a+rX", chosen])
        await anyio.Path(chosen).chmod(0o755)  # so that it can be moved; its mount closes it
        return chosen, f"{kind} {name} {version} {digest}"

    request = request_of({"kind": kind, "name": name, "path": path, "suite": SUITE})
    return await once(home / "sources", request, make, lambda: progress("another process fetches this source; waiting"))


async def _bring_deb(name: str, half: Path, apt: Path) -> tuple[Path, str]:
    [package] = await _download(name, half, apt, "download")
    version = (await run(["dpkg-deb", "--field", package, "Version"])).strip()
    await run(["dpkg-deb", "--extract", package, half / "package"])
    return half / "package", version


async def _bring_src(name: str, half: Path, apt: Path) -> tuple[Path, str]:
    files = await _download(name, half, apt, "source", "--download-only", "--only-source")
    [description] = [file for file in files if file.suffix == ".dsc"]
    [version] = re.findall(r"^Version: (\S+)", await anyio.Path(description).read_text(), re.MULTILINE)
    archives = [file for file in files if re.search(r"(?<!\.debian)\.tar\.\w+$", file.name)]
    for archive in sorted(archives, key=lambda path: ".orig-" in path.name):  # the main one first
        component = re.search(r"\.orig-([^.]+)\.tar\.", archive.name)
        await _unpack(archive, half / "tree" / (component[1] if component else ""), "--strip-components=1")
    return half / "tree", version


async def _download(name: str, half: Path, apt: Path, *verb: str) -> list[Path]:
    """What `apt-get` leaves in the empty folder `half`."""
    async with held(apt / "lock"):
        await run(["apt-get", *verb, name], env=await private_apt(apt, SUITE), cwd=half)
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
