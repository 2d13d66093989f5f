"""Host processes behind rooms: started, fed, listened to, timed and ended.

Why not `anyio.open_process`: `bwrap --die-with-parent` fires when the *thread* that started it ends, and trio starts
processes from pool threads that come and go. Here one thread starts them all and lives as long as the program.
"""

import os
import signal
import subprocess
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import anyio
from anyio import to_thread

from sandbox.reap import end_below, send
from sandbox.room import Command, Ended, OnOutput, Result
from sandbox.threads import done_by

HOST_ENV: Final[Mapping[str, str]] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
CHUNK: Final = 64 << 10
FLOOD_PAUSE_S: Final = 0.005  # between reads of what is dropped: a flood is slowed at its source, not swallowed
DRAIN_S: Final = 5.0  # for the rest of the output after the process ended
_STARTER: Final = ThreadPoolExecutor(1, thread_name_prefix="rooms")

Process = subprocess.Popen[bytes]
TIMED_OUT: Final = 124  # as timeout(1) reports it


def spawn(argv: Sequence[str], streams: int, stdin: int = subprocess.DEVNULL, **options: Any) -> Process:
    """Starts `argv` in a session of its own, with nothing inherited but what is named; `streams` is what each of its
    stdout and stderr is. Raises `OSError`."""
    return Process(argv, 0, None, stdin, streams, streams, start_new_session=True, **options)


async def run(
    argv: Sequence[str],
    command: Command,
    on_output: OnOutput | None = None,
    *,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] = HOST_ENV,
    cwd: str | Path = "/",
    starter: ThreadPoolExecutor | None = None,
) -> Result:
    """Runs `argv` with the command's input and within its time and output. At the time limit, or when cancelled, the
    process ends with everything below it.

    What is printed over the limit is read slowly and dropped. A `starter` is a thread that lives as long as the
    program. Raises `OSError`.
    """
    began = anyio.current_time()
    stdin = subprocess.DEVNULL if command.stdin == b"" else subprocess.PIPE
    start = partial(spawn, argv, subprocess.PIPE, stdin, pass_fds=pass_fds, env=env, cwd=cwd)
    process = await done_by(starter or _STARTER, start)
    assert process.stdout and process.stderr
    out, err = _Stream(process.stdout, command.output_limit), _Stream(process.stderr, command.output_limit)
    try:
        async with anyio.create_task_group() as tasks:
            if process.stdin:
                tasks.start_soon(_feed, process.stdin, command.stdin)
            tasks.start_soon(out.pump, on_output)
            tasks.start_soon(err.pump, None)
            with anyio.move_on_after(command.time_s) as clock:
                await _ended(process)
            tasks.cancel_scope.deadline = anyio.current_time() + DRAIN_S
    except BaseExceptionGroup as group:  # so that callers can catch what `on_output` or their input stream raised
        raise group.exceptions[0] if len(group.exceptions) == 1 else group from None
    finally:
        process.stdout.close()
        process.stderr.close()
    code, ended = process.returncode, Ended.OUTPUT if out.over or err.over else Ended.EXITED
    if clock.cancelled_caught:
        code, ended = TIMED_OUT, Ended.TIMEOUT
    seconds = anyio.current_time() - began
    return Result(code if code >= 0 else 128 - code, bytes(out.kept), bytes(err.kept), seconds, ended)


class _Stream:
    """One output of a process, and what is kept of it."""

    def __init__(self, pipe: IO[bytes], limit: int) -> None:
        self.fd, self.limit = pipe.fileno(), limit
        self.kept = bytearray()
        self.over = False

    async def pump(self, on_output: OnOutput | None) -> None:
        while True:
            await anyio.wait_readable(self.fd)
            if not (chunk := os.read(self.fd, CHUNK)):
                return
            part = chunk[: self.limit - len(self.kept)]
            self.kept += part
            if part and on_output:
                await on_output(part)
            if len(part) < len(chunk):
                self.over = True
                await anyio.sleep(FLOOD_PAUSE_S)


async def _ended(process: Process) -> None:
    """Returns when the process has ended. Cancelling ends it, with everything below it, and waits for that."""
    try:
        await gone(process.pid)
    finally:
        if process.poll() is None:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(end_tree, process.pid)
                await gone(process.pid)
        process.wait()


async def gone(pid: int) -> None:
    """Returns when a process, not always a child of ours, has ended."""
    with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(pid), "rb", 0) as ends:
        await anyio.wait_readable(ends)


def end_tree(pid: int) -> None:
    """Kills everything below a process of ours, then the process, which lives until it has reaped them."""
    end_below(pid)
    send(signal.SIGKILL, [pid])


def end_tagged(tag: str) -> None:
    """Ends every process on whose command line we wrote a tag that begins so, and everything below it.

    The youngest go first: a parent of ours lives until it has reaped them.
    """
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name), reverse=True):
        with suppress(OSError):
            if f"\0--argv0\0{tag}".encode() in (entry / "cmdline").read_bytes():
                end_tree(int(entry.name))


async def _feed(pipe: IO[bytes], data: bytes | AsyncIterable[bytes]) -> None:
    """Writes the command's input and closes it. A command need not read it to the end."""
    os.set_blocking(pipe.fileno(), False)
    with closing(pipe), suppress(BrokenPipeError):
        async for chunk in _chunks(data):
            rest = memoryview(chunk)
            while rest:
                await anyio.wait_writable(pipe.fileno())
                with suppress(BlockingIOError):
                    rest = rest[os.write(pipe.fileno(), rest[:CHUNK]) :]


async def _chunks(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
    else:
        async for chunk in data:
            yield chunk
