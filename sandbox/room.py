"""The interface of a room: a place where untrusted commands run.

A room is opened from a `RoomSpec`, runs commands, keeps background jobs, and is stopped. Nothing here knows why a
command runs. Every engine (`bubblewrap`, `docker`, `local`) passes one suite, `tests/sandbox/test_conformance.py`.

Who is to blame is part of the interface: what a command did is a `Result`, whatever its exit code; what the engine or
the machine did is a `RoomError`. A dead room is never a failing command.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class RoomError(Exception):
    """The engine or the machine failed, not the command that ran."""


class EngineUnavailable(RoomError):
    """The engine cannot work on this machine; the message says why and what to do."""


class RoomDied(RoomError):
    """The room is gone (removed, out of memory as a whole, engine restarted)."""


class RoomFileError(RoomError, OSError):
    """A file could not be read or written in the room: missing, a folder, or larger than the caller's limit."""


@dataclass(frozen=True)
class Mount:
    """A host folder or file seen in the room at `target`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Limits:
    """What a room may use. Bytes and seconds; `None` leaves the engine's default."""

    cpus: float = 2.0
    memory: int = 4 * GIB
    processes: int = 512
    disk: int = 20 * GIB
    inodes: int = 1_000_000
    weight: int = 1  # its share of a scarce CPU against other rooms', where control groups can be made


@dataclass(frozen=True)
class Labels:
    """Whose room it is; leftovers are found, adopted and removed by these."""

    run: str
    epoch: int
    seat: str
    session: str = ""


@dataclass(frozen=True)
class RootFs:
    """One root file system, kept by content: an unpacked, read-only tree that bubblewrap binds and Docker imports."""

    digest: str  # "sha256:…" of the tar
    tree: Path
    tar: Path


@dataclass(frozen=True)
class RoomSpec:
    """Everything that makes a room. `workspace` is its own writable folder on the host, seen at `/workspace`."""

    name: str  # unique in the run; a room of the same name is the same room
    labels: Labels
    root: RootFs | None  # None only for `local`, which runs on the host's own
    workspace: Path | None = None
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    user: int = 0  # a small number, one for each seat or judge; the engine maps it to a host uid of its own
    brief: bool = False  # a case's room: opened, one command, gone. Engines choose the cheapest bounds that hold
    scratch_exec: bool = True  # False: nothing that can be written in the room can be executed


class Ended(StrEnum):
    """How a command came to its end."""

    EXITED = "exited"
    TIMEOUT = "timeout"  # wall or CPU limit; the whole process tree is gone
    OUTPUT = "output"  # printed more than its limit; the rest was dropped at its source
    KILLED = "killed"  # by a signal of the machine: memory, or by us
    INTERRUPTED = "interrupted"  # was running when the orchestrator or the room died


@dataclass(frozen=True)
class Command:
    """One command, as an argument vector: no string ever passes through a shell of the host."""

    argv: tuple[str, ...]
    stdin: bytes | AsyncIterable[bytes] = b""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/workspace"
    time_s: float = 120.0  # wall clock, enforced inside the room
    cpu_s: float | None = None  # CPU seconds of the process tree's members, each
    output_limit: int = 1 * MIB  # bytes kept of stdout and of stderr, each


@dataclass(frozen=True)
class Result:
    """What a command did. `exit_code` is 128 + n for signal n, as a shell reports it."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    ended: Ended = Ended.EXITED

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and self.ended is Ended.EXITED


@dataclass(frozen=True)
class JobStatus:
    """A background job. `result` is there when it ended; `tail` is its newest output, clipped."""

    seconds: float
    tail: bytes
    result: Result | None


OnOutput = Callable[[bytes], Awaitable[None]]


class Room(Protocol):
    """A place where commands run. All methods raise `RoomDied` when the room is gone."""

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        """Runs to the end. Cancelling ends the command's whole process tree. `on_output` hears stdout as it comes."""

    async def start(self, job: str, command: Command) -> None:
        """Starts a background job under an id of the caller's. A second start with the same id changes nothing.

        A job outlives the orchestrator's process, and so must its input, which no stream does. It ends with its time
        limit, `kill` or the room.
        """

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        """The job's state, after waiting at most `wait_s` for its end. Raises `KeyError` for an unknown id.

        A job that is gone without a stored result is reported as ended with `Ended.INTERRUPTED`.
        """

    async def kill(self, job: str) -> None:
        """Ends the job's whole process tree. Ended jobs are left as they are."""

    async def write(self, path: str, data: bytes) -> None:
        """Writes a file from inside the room, making its folders. Raises `RoomFileError`."""

    async def read(self, path: str, limit: int = 1 * MIB) -> bytes:
        """Reads a regular file from inside the room. Raises `RoomFileError` when it is missing or over `limit`."""

    def seen(self, path: str) -> str:
        """A path of this interface as the room's commands see it; any other word stays as it is."""

    async def stop(self) -> None:
        """Ends everything in the room and removes it; the workspace folder stays. Idempotent."""


class Engine(Protocol):
    """Makes rooms. One of each kind in a process."""

    @property
    def name(self) -> str: ...

    async def open(self, spec: RoomSpec) -> Room:
        """Opens the room, or adopts the living one of that name. Raises `EngineUnavailable`, `RoomError`."""

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        """Ends what processes of `run` before `epoch` left: foreground commands always; rooms, mounts and folders
        except the rooms named in `keep`, whose background jobs go on. Touches no other run. Returns how many went."""

    async def discard(self, workspace: Path) -> None:
        """Removes a workspace folder and what holds it (mounts, ownership)."""

    def gaps(self) -> tuple[str, ...]:
        """What this engine cannot bound or protect on this machine, one plain sentence each."""
