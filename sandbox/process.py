"""Host processes behind rooms: started, fed, listened to, timed and ended.

Why not `anyio.open_process`: `bwrap --die-with-parent` fires when the *thread* that started it ends, and trio starts
processes from pool threads that come and go. Here one thread starts them all and lives as long as the program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import anyio
import psutil
from anyio import to_thread

from sandbox.room import MIB, OnOutput

HOST_ENV: Final[Mapping[str, str]] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
CHUNK: Final = 64 << 10
FLOOD_PAUSE_S: Final = 0.005  # between reads of what is dropped: a flood is slowed at its source, not swallowed
DRAIN_S: Final = 5.0  # for the rest of the output after the process ended
HELD: Final = 512 * MIB  # output of all running commands together that is kept in memory


@dataclass(frozen=True)
class Finished:
    """How a host process ended. `code` is as `subprocess` gives it: negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool
    overflowed: bool


Process = subprocess.Popen[bytes]
End = Callable[[Process], Awaitable[None]]


class Spawner:
    """Starts processes from one lasting thread, with nothing inherited but what is named."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rooms")
        self._held = 0

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        output: int = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] = HOST_ENV,
        cwd: str | Path = "/",
    ) -> Process:
        """Starts `argv` in a session of its own. Raises `OSError`."""

        def start() -> Process:
            return subprocess.Popen(
                list(argv),
                bufsize=0,
                stdin=stdin,
                stdout=output,
                stderr=output,
                pass_fds=tuple(pass_fds),
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

        return await to_thread.run_sync(lambda: self._thread.submit(start).result())

    async def run(
        self,
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
        process = await self.spawn(argv, stdin=feed, pass_fds=pass_fds, env=env, cwd=cwd)
        assert process.stdout and process.stderr
        out, err = _Stream(process.stdout.fileno(), limit), _Stream(process.stderr.fileno(), limit)
        try:
            async with anyio.create_task_group() as tasks:
                if process.stdin:
                    tasks.start_soon(_feed, process.stdin, stdin)
                tasks.start_soon(self._pump, out, on_output)
                tasks.start_soon(self._pump, err, None)
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
            self._held -= len(out.kept) + len(err.kept)
            process.stdout.close()
            process.stderr.close()
        seconds = anyio.current_time() - began
        return Finished(
            process.returncode, bytes(out.kept), bytes(err.kept), seconds, clock.cancelled_caught, out.over or err.over
        )

    async def _pump(self, stream: _Stream, on_output: OnOutput | None) -> None:
        os.set_blocking(stream.fd, False)
        while chunk := await _read(stream.fd):
            part = chunk[: max(0, min(stream.limit - len(stream.kept), HELD - self._held))]
            stream.kept += part
            self._held += len(part)
            if part and on_output:
                await on_output(part)
            if len(part) < len(chunk):
                stream.over = True
                await anyio.sleep(FLOOD_PAUSE_S)
        stream.closed.set()


class _Stream:
    def __init__(self, fd: int, limit: int) -> None:
        self.fd, self.limit = fd, limit
        self.kept = bytearray()
        self.over = False
        self.closed = anyio.Event()


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
    """Kills a process of ours and everything below it.

    Of a pid namespace only the first process: the kernel ends the rest, and bwrap lives to reap it. Others are stopped
    before any is killed, so that nobody forks while being counted.
    """
    stopped: set[int] = set()
    for attempt in range(500):
        try:
            below = {child.pid for child in psutil.Process(pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            return
        if not below:
            break
        if attempt < 100 and (inits := set(filter(_is_init, below))):
            kill(inits)
        elif new := below - stopped:
            kill(new, signal.SIGSTOP)
            stopped |= new
            continue
        else:
            kill(below)
        time.sleep(0.002)
    kill([pid])


def _is_init(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    inside = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(inside) > 1 and inside[-1] == "1"


def end_tagged(tag: str) -> None:
    """Ends every process on whose command line we wrote a tag that begins so, and everything below it."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if f"\0--argv0\0{tag}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                end_tree(pid)


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def _read(fd: int) -> bytes:
    while True:
        await anyio.wait_readable(fd)
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            continue


async def _feed(pipe: IO[bytes], data: bytes | AsyncIterable[bytes]) -> None:
    """Writes the command's input and closes it. A command need not read it to the end."""
    fd = pipe.fileno()
    os.set_blocking(fd, False)
    try:
        async for chunk in _chunks(data):
            rest = memoryview(chunk)
            while rest:
                await anyio.wait_writable(fd)
                try:
                    rest = rest[os.write(fd, rest[:CHUNK]) :]
                except BlockingIOError:
                    continue
    except BrokenPipeError:
        pass
    finally:
        pipe.close()


async def _chunks(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    async for chunk in data:
        yield chunk


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception inside, so that callers can catch what `on_output` or their input stream raised."""
    inner = group.exceptions
    if len(inner) > 1:
        return group
    return _sole(inner[0]) if isinstance(inner[0], BaseExceptionGroup) else inner[0]
