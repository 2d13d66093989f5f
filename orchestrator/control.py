"""How a run is asked and how things are refused: failures with kinds and exit codes, and the run's ear.

It hears one JSON object a line over a unix socket. A socket path over 107 bytes does not bind, so the socket lies in a
0700 folder of its own and `run.sock` in the run's folder names it. Whoever can open the socket is the run's owner; an
open seat's authority is its token.
"""

import contextlib
import getpass
import json
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.store import StoreError

LINE_LIMIT: Final = 8 << 20  # bytes of one request or answer
GONE: Final = (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead)
ODD: Final = (ValueError, OverflowError, RecursionError, anyio.DelimiterNotFound)  # not JSON, or not what is asked for
POINTER: Final = "run.sock"
SHORT: Final = "orch-"  # so begins the name of a socket's folder
EXIT: Final = dict(
    refused=1, usage=2, config=2, ambiguous=2, not_ready=3, not_found=4, busy=5, lock_differs=6, internal=70
)
"""Exit code of each kind of failure. Whatever carries a `kind` from this table is such a failure."""
NAMED: Final = {
    "not_ready": ("ModelNotReady", "RoomError"),
    "usage": ("ModelUnknown", "BadArguments"),
    "config": ("ScriptError", "SuiteError"),
    "refused": ("ReferenceFailed", "StoreError", "GitError", "OSError"),
}
"""Failures of other packages and of the machine, which know no kinds of ours, by class: the first that fits."""

Answerer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Refusal(Exception):
    """What was asked is not done. The message says why, `remedies` are lines that say what to do instead, and `kind` is
    one of those that have an exit code."""

    def __init__(self, message: str, kind: str = "refused", *remedies: str) -> None:
        super().__init__(message)
        self.kind, self.remedies = kind, remedies

    def told(self) -> dict[str, Any]:
        """As JSON, for a program or for the other end of the socket."""
        # A message about a file begins with it.
        place = re.match(r"(?!-).+?\.(toml|lock|json|db)(:\d+)?(?=:? )", str(self))
        hint = "\n".join(self.remedies) or None
        return {"kind": self.kind, "message": str(self), "where": place and place[0], "hint": hint}

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Refusal":
        return cls(told["message"], told["kind"], *(told["hint"] or "").splitlines())


def failure_of(error: BaseException) -> Refusal:
    """The failure that an exception stands for, out of the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    classes = {base.__name__ for base in type(error).__mro__}
    named = next((kind for kind, names in NAMED.items() if classes.intersection(names)), "")
    if (kind := getattr(error, "kind", named)) in EXIT:
        return Refusal(str(error), kind, *getattr(error, "remedies", ()))
    return Refusal(f"our bug: {type(error).__name__}: {error}", "internal")


@contextlib.contextmanager
def usable(file: Path) -> Iterator[Path]:
    """What goes wrong in here goes wrong with a file of a run: a `Refusal` names it, and says what to do."""
    try:
        yield file
    except (OSError, ValueError, sqlite3.Error) as broken:
        words = f"{getattr(broken, 'filename', None) or file} cannot be used: {str(broken).partition(chr(10))[0]}"
        remedy = f"is it another user's? else put it back from a copy, or take {file.parent} away"
        raise Refusal(words, "refused", remedy) from broken


def who() -> str:
    """Who is at the keyboard, or started this process, for the journal."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return f"uid {os.getuid()}"


@contextlib.asynccontextmanager
async def listening(folder: Path, answer: Answerer) -> AsyncIterator[None]:
    """Answers requests while the context is open. A request that is being answered is not cut when its asker leaves."""
    pointer, new = folder / POINTER, anyio.Path(folder / f"{POINTER}.new")
    short = anyio.Path(tempfile.gettempdir()) / f"{SHORT}{secrets.token_hex(6)}"
    await new.write_text(str(short / "s"))  # before the folder is made, so that it is found whenever we are killed
    await short.mkdir(0o700)
    try:
        listener = await anyio.create_unix_listener(short / "s", mode=0o600)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, lambda stream: _converse(stream, answer))
            await new.replace(pointer)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
    finally:
        forget(folder)


def forget(folder: Path) -> None:
    """Removes the socket of a run's process, which was perhaps killed, with the folder that it lies in."""
    for pointer in (folder / POINTER, folder / f"{POINTER}.new"):
        with contextlib.suppress(FileNotFoundError):
            place = Path(pointer.read_text()).parent
            if place.name.startswith(SHORT):
                shutil.rmtree(place, ignore_errors=True)
            pointer.unlink()


async def _converse(stream: SocketStream, answer: Answerer) -> None:
    async with stream:
        with contextlib.suppress(*GONE):
            try:
                line = await BufferedByteReceiveStream(stream).receive_until(b"\n", LINE_LIMIT)
                result = {"result": await answer(json.loads(line))}
            except (StoreError, *GONE):
                raise
            except Exception as wrong:  # noqa: BLE001 - told to who asked, and our own bug in the run's log: no run's end
                failure = Refusal(str(wrong) or repr(wrong), "usage") if isinstance(wrong, ODD) else failure_of(wrong)
                if failure.kind == "internal":
                    traceback.print_exception(wrong)
                result = {"error": failure.told()}
            await stream.send(json.dumps(result).encode() + b"\n")
