"""Reading and writing a room's files, from inside the room: a symbolic link leads only where a command could go."""

from __future__ import annotations

from typing import Final, Protocol

from sandbox.room import MIB, Command, Ended, OnOutput, Result, RoomFileError

FILE_S: Final = 60.0
_WRITE: Final = (
    'case $1 in */*) mkdir -p -- "${1%/*}/" || exit 1;; esac; '
    '[ ! -e "$1" ] || [ -f "$1" ] || { echo "not a regular file" >&2; exit 1; }; cat >"$1"'
)
_READ: Final = '[ -f "$1" ] || { echo "no such regular file" >&2; exit 1; }; head -c "$2" -- "$1"'


class Runs(Protocol):
    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result: ...


async def write(room: Runs, path: str, data: bytes) -> None:
    """Raises `RoomFileError`."""
    done = await room.run(Command(("sh", "-c", _WRITE, "sh", path), stdin=data, time_s=FILE_S))
    if not done.ok:
        raise RoomFileError(f"{path}: cannot be written: {_said(done)}")


async def read(room: Runs, path: str, limit: int = MIB) -> bytes:
    """Raises `RoomFileError`."""
    argv = ("sh", "-c", _READ, "sh", path, str(limit + 1))
    done = await room.run(Command(argv, time_s=FILE_S, output_limit=limit + 1))
    if not done.ok:
        raise RoomFileError(f"{path}: cannot be read: {_said(done)}")
    if len(done.stdout) > limit:
        raise RoomFileError(f"{path}: larger than the limit of {limit} bytes")
    return done.stdout


def _said(done: Result) -> str:
    if done.ended is not Ended.EXITED:
        return f"the room's shell ended by {done.ended}"
    return done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.exit_code}"
