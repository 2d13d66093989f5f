"""This machine's apt, as images and sources use it: its mirrors and network settings, nothing of its state.

No mirror is named here. Where packages come from is what the machine's own apt is set up with, so that a company's
mirror is used as well. Downloads run with a private state folder: the system's lists, sources and cache stay as they
are, `deb-src` needs no edit under /etc, and an ordinary user can do all of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sandbox import process
from sandbox.home import state_home
from sandbox.room import MIB, Command, OnOutput, RoomError

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEPT_SETTINGS: Final = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
KEPT_VARIABLES: Final = ("HOME", "USER", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
TAIL_LINES: Final = 20  # of a failed command's output, enough to hold apt's own explanation


class CommandFailed(RoomError):
    """A command of the machine failed; the message holds the command and the end of what it printed."""


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
