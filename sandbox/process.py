"""Host processes behind rooms: started, fed, listened to, timed and ended.

Why not `anyio.open_process`: `bwrap --die-with-parent` fires when the *thread* that started it ends, and trio starts
processes from pool threads that come and go. Here one thread starts them all and lives as long as the program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, Final

import anyio
from anyio import to_thread

from sandbox.reap import end_below
from sandbox.room import MIB, OnOutput

HOST_ENV: Final[Mapping[str, str]] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
CHUNK: Final = 64 << 10
FLOOD_PAUSE_S: Final = 0.005  # between reads of what is dropped: a flood is slowed at its source, not swallowed
DRAIN_S: Final = 5.0  # for the rest of the output after the process ended
HELD: Final = 512 * MIB  # output of all running commands together that is kept in memory
_STARTER: Final = ThreadPoolExecutor(1, thread_name_prefix="rooms")

Process = subprocess.Popen[bytes]
End = Callable[[Process], Awaitable[None]]


@dataclass(frozen=True)
class Finished:
    """How a host process ended. `code` is as `subprocess` gives it: negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool
    overflowed: bool


def spawn(
    argv: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    output: int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] = HOST_ENV,
    cwd: str | Path = "/",
) -> Process:
    """Starts `argv` in a session of its own, with nothing inherited but what is named. Raises `OSError`."""
    return subprocess.Popen(
        argv,
        bufsize=0,
        stdin=stdin,
        stdout=output,
        stderr=output,
        pass_fds=pass_fds,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


async def run(
    argv: Sequence[str],
    *,
    end: End | None = None,
    stdin: bytes | AsyncIterable[bytes] = b"",
    limit: int = MIB,
    time_s: float = 60.0,
    on_output: OnOutput | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] = HOST_ENV,
    cwd: str | Path = "/",
) -> Finished:
    """Runs to the end. At the time limit, or when cancelled, `end` (by default `end_process`) must end the process
    and all that it started.

    `limit` bytes are kept of each stream; the rest is read slowly and dropped. Raises `OSError`.
    """
    began, end = anyio.current_time(), end or end_process
    feed = subprocess.DEVNULL if stdin == b"" else subprocess.PIPE
    start = _STARTER.submit(spawn, argv, stdin=feed, pass_fds=pass_fds, env=env, cwd=cwd)
    process = await to_thread.run_sync(start.result)
    assert process.stdout and process.stderr
    out, err = _Stream(process.stdout, limit), _Stream(process.stderr, limit)
    try:
        async with anyio.create_task_group() as tasks:
            if process.stdin:
                tasks.start_soon(_feed, process.stdin, stdin)
            tasks.start_soon(out.pump, on_output)
            tasks.start_soon(err.pump, None)
            with anyio.move_on_after(time_s) as clock:
                await exited(process)
            if clock.cancelled_caught:
                await end(process)
            with anyio.move_on_after(DRAIN_S):
                await out.closed.wait()
                await err.closed.wait()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _sole(group) from None
    finally:
        if process.poll() is None:
            with anyio.CancelScope(shield=True):
                await end(process)
        _Stream.held -= len(out.kept) + len(err.kept)
        process.stdout.close()
        process.stderr.close()
    seconds = anyio.current_time() - began
    over = out.over or err.over
    return Finished(process.returncode, bytes(out.kept), bytes(err.kept), seconds, clock.cancelled_caught, over)


class _Stream:
    """One output of a process, and what is kept of it."""

    held: ClassVar[int] = 0  # bytes, by all of them

    def __init__(self, pipe: IO[bytes], limit: int) -> None:
        self.fd, self.limit = pipe.fileno(), limit
        self.kept = bytearray()
        self.over = False
        self.closed = anyio.Event()

    async def pump(self, on_output: OnOutput | None) -> None:
        os.set_blocking(self.fd, False)
        while chunk := await _read(self.fd):
            part = chunk[: max(0, min(self.limit - len(self.kept), HELD - _Stream.held))]
            self.kept += part
            _Stream.held += len(part)
            if part and on_output:
                await on_output(part)
            if len(part) < len(chunk):
                self.over = True
                await anyio.sleep(FLOOD_PAUSE_S)
        self.closed.set()


async def exited(process: Process) -> None:
    """Returns when the process has ended, and reaps it."""
    if process.poll() is None:
        await gone(process.pid)
        process.wait()


async def gone(pid: int) -> None:
    """Returns when a process, not always a child of ours, has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)


async def end_process(process: Process) -> None:
    """Ends a process that we started and everything below it."""
    await to_thread.run_sync(end_tree, process.pid)
    await exited(process)


def end_tree(pid: int) -> None:
    """Kills everything below a process of ours, then the process, which lives until it has reaped them."""
    end_below(pid)
    kill([pid])


def end_tagged(tag: str) -> None:
    """Ends every process on whose command line we wrote a tag that begins so, and everything below it.

    The youngest go first: a parent of ours lives until it has reaped them.
    """
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name), reverse=True):
        with contextlib.suppress(OSError):
            if f"\0--argv0\0{tag}".encode() in (entry / "cmdline").read_bytes():
                end_tree(int(entry.name))


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def _read(fd: int) -> bytes:
    while True:
        await anyio.wait_readable(fd)
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            continue


async def _feed(pipe: IO[bytes], data: bytes | AsyncIterable[bytes]) -> None:
    """Writes the command's input and closes it. A command need not read it to the end."""
    os.set_blocking(pipe.fileno(), False)
    try:
        if isinstance(data, bytes):
            return await _write(pipe.fileno(), data)
        async for chunk in data:
            await _write(pipe.fileno(), chunk)
    except BrokenPipeError:
        pass
    finally:
        pipe.close()


async def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        await anyio.wait_writable(fd)
        with contextlib.suppress(BlockingIOError):
            rest = rest[os.write(fd, rest[:CHUNK]) :]


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception inside, so that callers can catch what `on_output` or their input stream raised."""
    inner = group.exceptions
    if len(inner) > 1:
        return group
    return _sole(inner[0]) if isinstance(inner[0], BaseExceptionGroup) else inner[0]
