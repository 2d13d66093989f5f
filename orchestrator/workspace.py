"""What runs inside a room to make, pack and restore a workspace: `scripts/`, for POSIX sh, git and coreutils.

In the room an agent may have replaced anything: configuration, hooks, filters, git itself. So these scripts promise the
host nothing; what they print is bytes for `quarantine.py` to judge.
"""

import re
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.room import KIB, MIB, Command, Ended, Result

ORIGIN: Final = "/team/main.git"
UNFINISHED: Final = 3  # the exit code of the packing script
SEEN_S: Final = 30.0  # a workspace that takes longer to look at is not looked at
_SIGHT: Final = re.compile(rb"([0-9a-f]{40})? ([0-9a-f]{40}) ([0-9a-f]*)\n")
MAIL_DOMAIN: Final = "orchestrator.invalid"
_LAY, _PACK, _SEE, _RESTORE, _KEEP = (
    (Path(__file__).parent / f"scripts/{name}_workspace.sh").read_text()
    for name in ("lay", "pack", "see", "restore", "keep")
)

_ENV: Final = {
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    # The room's user need not own the folders an engine mounted. The agent could allow itself this as well.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}


@dataclass(frozen=True)
class Stream:
    """A kind of stream out of a room, and what one may hold."""

    kind: str = "submission"
    packed: int = 50 * MIB
    objects: int = 200_000
    entries: int = 100_000  # files and folders in the whole tree
    path: int = 1000  # bytes
    commits: int = 2000
    blob: int = 32 * MIB
    unpacked: int = 512 * MIB  # all new objects together


SUBMISSION: Final = Stream()
CHECKPOINT: Final = Stream("checkpoint", packed=256 * MIB, blob=256 * MIB, unpacked=2048 * MIB)


@dataclass(frozen=True)
class Sight:
    """What a room says of its workspace: its files as a tree's id, a digest that differs where anything of them or of
    git's state in it differs, and the main that was fetched last. Empty where it cannot be had. A hint for replays, and
    trusted for nothing else: an agent may have replaced git."""

    tree: str = ""
    stamp: str = ""
    fetched: str = ""


class Unpacked(Exception):
    """The room could not pack its workspace; the message says why, in words for the agent."""


class Unfinished(Unpacked):
    """The workspace is in the middle of a rebase or merge."""


def is_there() -> Command:
    """Succeeds when the folder is a whole workspace, as `lay` made it."""
    return _command("git rev-parse -q --verify HEAD", time_s=60.0)


def lay(seat: str, origin: str = ORIGIN, checkpoint: str = "", pack: bytes | AsyncIterable[bytes] = b"") -> Command:
    """Makes the current folder a work tree at `origin`'s main, or at a checkpoint's commit (commits, work tree, index;
    `pack` is `Repository.checkpoint_pack`), with the seat as its author; prints the commit.

    `git pull --rebase` then works, also over uncommitted edits.
    """
    return _command(_LAY, seat, MAIL_DOMAIN, origin, checkpoint, time_s=300.0, stdin=pack)


async def packed(
    run: Callable[[Command], Awaitable[Result]], stream: Stream, time_s: float = 120.0, *, finished: bool = False
) -> bytes:
    """A header line (`<kind> <commit>`), then a thin pack of the workspace's state and its commits, over main. `run` is
    the room's. Raises `Unpacked`; with `finished`, `Unfinished`.

    The room caps its bytes. Everything that is not ignored is in it, committed or not. A checkpoint keeps
    the index as well (the commit's second parent); an unfinished merge or rebase is kept as files only.
    """
    bounds = {"time_s": time_s, "output_limit": stream.packed + 2 * KIB}
    result = await run(_command(_PACK, stream.kind, str(stream.packed + KIB), "finished" * finished, **bounds))
    if result.ended is Ended.TIMEOUT:
        raise Unpacked("git did not finish packing your workspace in time; is something in .git not an ordinary file?")
    if not result.ok:
        said = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {result.exit_code}"]
        if finished and result.exit_code == UNFINISHED:
            raise Unfinished(said[0][:300])
        raise Unpacked(f"git could not pack your workspace: {said[0][:300]}")
    return result.stdout


def restored(checkpoint: str, pack: bytes) -> Command:
    """Makes a workspace that is there what it was at a checkpoint's commit, of which this is the pack over main."""
    return _command(_RESTORE, checkpoint, time_s=60.0, stdin=pack)


def kept(task: str, commit: str, pack: AsyncIterable[bytes], *, anew: bool = True) -> Command:
    """Makes a commit the ref `kept/<task>`, `anew` also where there is one; `pack` is `Repository.kept_pack`'s."""
    return _command(_KEEP, task, commit, "anew" * anew, time_s=120.0, stdin=pack)


async def seen(run: Callable[[Command], Awaitable[Result]]) -> Sight:
    """What the workspace is like now. Raises what `run` raises."""
    result = await run(_command(_SEE, time_s=SEEN_S, output_limit=KIB))
    found = _SIGHT.fullmatch(result.stdout) if result.ok else None
    return Sight(*(word.decode() for word in found.groups(b""))) if found else Sight()


def _command(script: str, *args: str, **rest: Any) -> Command:
    return Command(("/bin/sh", "-c", script, "workspace", *args), env=_ENV, **rest)
