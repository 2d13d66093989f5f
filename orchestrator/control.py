"""The run's ear: one JSON object a line over a unix socket in a short private folder.

A socket path over 107 bytes does not bind, so the socket lies in a 0700 folder of its own and `run.sock` in the run's
folder names it. Whoever can open the socket is the run's owner; an open seat's authority is its token.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import ByteReceiveStream, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

LINE_LIMIT: Final = 8 << 20  # bytes of one request or answer
POINTER: Final = "run.sock"

Answerer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class NotRunning(Exception):
    """No process answers for this run."""

    kind = "refused"

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder.name}: no process answers for this run")
        self.remedies = (f"go on with it: python -m orchestrator resume {folder.name}",)


class Refusal(Exception):
    """The run understood and said no; the message says why and what to do instead."""

    def __init__(self, message: str, kind: str = "refused") -> None:
        super().__init__(message)
        self.kind = kind


def who() -> str:
    """Who is at the keyboard, or started this process, for the journal."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return f"uid {os.getuid()}"


@contextlib.asynccontextmanager
async def listening(folder: Path, answer: Answerer) -> AsyncIterator[None]:
    """Answers requests while the context is open. A request that is being answered is not cut when its asker leaves."""
    pointer, new = folder / POINTER, anyio.Path(folder / f"{POINTER}.new")
    with tempfile.TemporaryDirectory(prefix="orch-") as short:
        path = Path(short) / "s"
        async with await anyio.create_unix_listener(path, mode=0o600) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, lambda stream: _converse(stream, answer))
            await new.write_text(str(path))
            await new.replace(pointer)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                pointer.unlink(missing_ok=True)


async def _converse(stream: SocketStream, answer: Answerer) -> None:
    async with stream:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
            line = await _line(stream)
            try:
                result = {"ok": True, "result": await answer(json.loads(line))}
            except Refusal as refusal:
                result = {"ok": False, "kind": refusal.kind, "message": str(refusal)}
            except ValueError as wrong:  # not JSON, or not what the request takes
                result = {"ok": False, "kind": "usage", "message": str(wrong)}
            await stream.send(json.dumps(result).encode() + b"\n")


async def _line(stream: ByteReceiveStream) -> bytes:
    return await BufferedByteReceiveStream(stream).receive_until(b"\n", LINE_LIMIT)


async def ask(folder: Path, request: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
    """Asks the run's process. Raises `NotRunning`, `Refusal`, `TimeoutError`."""
    try:
        async with await anyio.connect_unix(await anyio.Path(folder / POINTER).read_text()) as stream:
            await stream.send(json.dumps(request).encode() + b"\n")
            with anyio.fail_after(timeout_s):
                answer = json.loads(await _line(stream))
    except TimeoutError:
        raise
    except (OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as silent:
        raise NotRunning(folder) from silent
    if not answer["ok"]:
        raise Refusal(answer["message"], answer["kind"])
    result: dict[str, Any] = answer["result"]
    return result
