"""This machine's apt, as images and sources use it: its mirrors and network settings, nothing of its state.

No mirror is named here. Where packages come from is what the machine's own apt is set up with, so that a company's
mirror is used as well. Downloads run with a private state folder: the system's lists, sources and cache stay as they
are, `deb-src` needs no edit under /etc, and an ordinary user can do all of it.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream
from anyio.streams.text import TextReceiveStream

from sandbox.home import state_home
from sandbox.room import RoomError

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
    return (
        kept | {"PATH": ":".join(filter(None, path)), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"} | more
    )


async def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] = lambda _line: None,
) -> str:
    """Runs a command of the machine to its end and returns its stdout; `on_line` hears what it says on stderr.

    Raises `CommandFailed`. Cancelling asks the command to end and waits for it, so that it can undo its mounts.
    """
    words = [str(word) for word in argv]
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    printed: list[str] = []

    async def listen(stream: ByteReceiveStream) -> None:
        rest = ""
        async for text in TextReceiveStream(stream, errors="replace"):
            *lines, rest = (rest + text).replace("\r", "\n").split("\n")
            for line in filter(str.strip, lines):
                tail.append(line)
                on_line(line)

    async def collect(stream: ByteReceiveStream) -> None:
        async for text in TextReceiveStream(stream, errors="replace"):
            printed.append(text)

    async with AsyncExitStack() as stack:
        process = await anyio.open_process(
            words, env=env or bare_environment(), cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True
        )
        stack.push_async_callback(partial(_end, process))
        assert process.stdout is not None and process.stderr is not None
        async with anyio.create_task_group() as listeners:
            listeners.start_soon(listen, process.stderr)
            listeners.start_soon(collect, process.stdout)
        code = await process.wait()
    if code != 0:
        raise CommandFailed(f"{' '.join(words[:2])} ended with {code}:\n" + "\n".join(tail))
    return "".join(printed)


async def _end(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(10):
                await process.wait()
        await process.aclose()  # kills what did not listen


async def mirror_lines(suite: str, kind: str = "deb") -> tuple[str, ...]:
    """Sources-list lines of `suite`, its updates and its security fixes, from what this machine's apt is set up with.

    Empty when this machine has no such suite: it runs another release or has no apt.
    """
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    try:
        listing = await run(
            ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
        )
    except (CommandFailed, FileNotFoundError):
        return ()
    parts: dict[tuple[str, str], list[str]] = {}
    for line in listing.splitlines():
        site, release, component = line.split()
        if release in wanted and component not in parts.setdefault((site, release), []):
            parts[site, release].append(component)
    return tuple(
        f"{kind} [signed-by={KEYRING}] {site} {release} {' '.join(components)}"
        for (site, release), components in parts.items()
    )


async def private_apt(state: Path, suite: str, kind: str) -> dict[str, str]:
    """An up-to-date apt of our own below `state`, for packages (`deb`) or their sources (`deb-src`) of `suite`.

    Returns the environment in which `apt-get` uses it. Raises `RoomError` when no mirror of `suite` is known or
    reachable. The caller holds a lock on `state`.
    """
    lines = await mirror_lines(suite, kind)
    if not lines:
        raise RoomError(
            f"this machine's apt knows no mirror of Debian {suite}; add its lines to /etc/apt/sources.list.d/"
        )
    settings = await run(["apt-config", "dump", "--no-empty"])
    kept = [line for line in settings.splitlines() if line.startswith(KEPT_SETTINGS)]
    for folder in ("lists/partial", "cache/archives/partial", "etc"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "etc/sources.list").write_text("\n".join(lines) + "\n")
    (state / "etc/status").touch()
    config = state / "etc/apt.conf"
    config.write_text(
        "\n".join(
            [
                f'Dir::State "{state}";',
                f'Dir::State::lists "{state}/lists";',
                f'Dir::State::status "{state}/etc/status";',
                f'Dir::Cache "{state}/cache";',
                f'Dir::Etc "{state}/etc";',
                f'Dir::Etc::sourcelist "{state}/etc/sources.list";',
                'Dir::Etc::sourceparts "-";',
                'Dir::Etc::parts "-";',
                'Dir::Etc::main "-";',
                'APT::Sandbox::User "root";',
                'Acquire::Languages "none";',
                *kept,
            ]
        )
        + "\n"
    )
    env = bare_environment(APT_CONFIG=str(config))
    await run(["apt-get", "update", "--error-on=any"], env=env)
    return env
