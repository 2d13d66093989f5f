"""The run's ear: one JSON object a line over a unix socket in a short private folder.

A socket path over 107 bytes does not bind, so the socket lies in a 0700 folder of its own and `run.sock` in the run's
folder names it. Whoever can open the socket is the run's owner; an open seat's authority is its token.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import select
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

LINE_LIMIT: Final = 8 << 20  # bytes of one request or answer
POINTER: Final = "run.sock"
NEWS_S: Final = 20.0  # how often somebody who waits hears something

Answerer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Refusal(Exception):
    """What was asked is not done. The message says why, `remedies` are lines that say what to do instead, and `kind` is
    one of those that have an exit code (cli/failures.py)."""

    def __init__(self, message: str, kind: str = "refused", *remedies: str) -> None:
        super().__init__(message)
        self.kind, self.remedies = kind, remedies

    def told(self) -> dict[str, Any]:
        """As JSON, for a program or for the other end of the socket."""
        return {"kind": self.kind, "message": str(self), "where": None, "hint": "\n".join(self.remedies) or None}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Refusal:
        return cls(told["message"], told["kind"], *(told["hint"] or "").splitlines())


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
            line = await BufferedByteReceiveStream(stream).receive_until(b"\n", LINE_LIMIT)
            try:
                result = {"result": await answer(json.loads(line))}
            except Refusal as refusal:
                result = {"error": refusal.told()}
            except ValueError as wrong:  # not JSON, or not what the request takes
                result = {"error": Refusal(str(wrong), "usage").told()}
            await stream.send(json.dumps(result).encode() + b"\n")


def ask(folder: Path, request: dict[str, Any], waiting: Callable[[], None]) -> dict[str, Any]:
    """Asks the run's process, for a program that has nothing else to do; calls `waiting` now and then until it answers.

    Raises `Refusal` in its words, or because no process answers.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect((folder / POINTER).read_text())
            line.sendall(json.dumps(request).encode() + b"\n")
            while not select.select([line], [], [], NEWS_S)[0]:
                waiting()
            answer: dict[str, Any] = json.loads(line.makefile(encoding="utf-8").readline())
    except (OSError, ValueError) as silent:
        remedy = f"go on with it: python -m orchestrator resume {folder.name}"
        raise Refusal(f"{folder.name}: no process answers for this run", "refused", remedy) from silent
    if "error" in answer:
        raise Refusal.of(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result
