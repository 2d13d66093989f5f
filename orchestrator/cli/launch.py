"""A run's process: spawning it, serving in it, talking to it, looking at it.

`orchestrator.run.serve(folder)` is the whole life of the process; `orchestrator.control.ask` reaches it, with the
requests that `Run.answer` takes.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import filelock

from orchestrator import control
from orchestrator.cli.failures import EXIT, Failure
from orchestrator.cli.places import STATE, live_pid
from orchestrator.settings import Settings
from orchestrator.store import Store, Tx, reading
from orchestrator.watch.journal import Entry, Line, follow
from orchestrator.watch.queries import state_of

POLL_S: Final = 0.1
ENDS: Final = frozenset({"run-ended", "run-stopped"})
OUTPUT: Final = "orchestrator.jsonl"


def utc_now() -> datetime:
    return datetime.now(UTC)


def who() -> str:
    """Who is at the keyboard, for the journal."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return f"uid {os.getuid()}"


def spawn(folder: Path) -> int:
    """Starts the run's process in a session of its own and returns its id once it answers.

    Raises the `Failure` with which the process ended when it ended before that.
    """
    if pid := live_pid(folder):
        raise Failure(
            "busy",
            f"process {pid} already works on {folder.name}",
            f"look: python -m orchestrator status {folder.name}",
        )
    output = folder / OUTPUT
    with output.open("ab") as log:
        begins = log.tell()
        command = [sys.executable, "-m", "orchestrator", "_serve", "--json", str(folder.resolve())]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    async def ready() -> None:
        while child.poll() is None:
            with contextlib.suppress(control.NotRunning, TimeoutError):
                if live_pid(folder) == child.pid:
                    await control.ask(folder, {"do": "ping", "by": who()}, timeout_s=30)
                    return
            await anyio.sleep(POLL_S)

    anyio.run(ready)
    if child.poll():
        raise _last_words(output, begins, child.returncode)
    return child.pid


def _last_words(output: Path, begins: int, code: int) -> Failure:
    for line in reversed(output.read_bytes()[begins:].decode(errors="replace").splitlines()):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            error = json.loads(line)["error"]
            hints = (error["hint"] or "").splitlines()
            return Failure(error["kind"] if error["kind"] in EXIT else "internal", error["message"], *hints)
    return Failure("internal", f"the run's process ended with code {code} before it was ready", where=str(output))


def serve(folder: Path) -> None:
    """The body of the run's process: takes the run's lock, says who it is, and serves until the run ends."""
    from orchestrator.run import serve as run  # the whole system: only the run's own process needs it

    try:
        with filelock.FileLock(folder / "run.lock", timeout=0):
            pid_file = folder / "run.pid"
            pid_file.write_text(str(os.getpid()))
            try:
                anyio.run(run, folder)
            except Exception as error:
                if getattr(error, "kind", None) not in EXIT:
                    crash = folder / "crash" / f"{utc_now():%Y%m%dT%H%M%S}-{os.getpid()}.txt"
                    crash.parent.mkdir(exist_ok=True)
                    crash.write_text(traceback.format_exc())
                raise
            finally:
                pid_file.unlink(missing_ok=True)
    except filelock.Timeout as taken:
        raise Failure("busy", f"another process owns {folder.name}") from taken


def serve_command(arguments: list[str]) -> None:
    """`_serve --json RUN_DIR`, as `spawn` calls it: a failure is one JSON line at the end of the run's own log."""
    serve(Path(arguments[-1]))


def tell(folder: Path, do: str, **fields: Any) -> dict[str, Any]:
    """Asks the run's process to do something. Raises `Failure` when none answers or it refuses."""
    request = {"do": do, "by": who(), **fields}
    try:
        return anyio.run(control.ask, folder, request)
    except control.NotRunning as silent:
        raise Failure("refused", str(silent), f"go on with it: python -m orchestrator resume {folder.name}") from silent
    except control.Refusal as refusal:
        raise Failure(refusal.kind if refusal.kind in EXIT else "refused", str(refusal)) from refusal


def write_offline(folder: Path, work: Callable[[Tx], None]) -> None:
    """Writes to a run in which no process lives, as an epoch of its own under the run's lock."""

    async def write() -> None:
        store = Store(folder / STATE, utc_now)
        try:
            await store.begin_epoch()
            await store.write(work)
        finally:
            await store.close()

    try:
        with filelock.FileLock(folder / "run.lock", timeout=0):
            anyio.run(write)
    except filelock.Timeout as taken:
        raise Failure("busy", f"another process owns {folder.name}") from taken


def reveal(folder: Path) -> None:
    """Journals, once, that the held-out results of a run have been shown."""
    with reading(folder / STATE) as db:
        if db.execute("SELECT 1 FROM journal WHERE kind = 'revealed'").fetchone():
            return
    if live_pid(folder):
        tell(folder, "reveal")
    else:
        write_offline(folder, lambda tx: tx.journal("revealed", by=who()))


def change_setting(folder: Path, key: str, field: str, value: Any) -> None:
    """Sets one of the run's settings, journalled as a changed condition; by the run's process where one lives."""
    if live_pid(folder):
        tell(folder, "set", key=field, value=value)
        return

    def work(tx: Tx) -> None:
        row = tx.one("SELECT settings FROM run")
        assert row is not None
        old = Settings.model_validate_json(row["settings"])
        new = old.model_copy(update={field: value})
        tx.run("UPDATE run SET settings = ?", new.model_dump_json())
        tx.journal("condition-changed", what=key, old=getattr(old, field), new=value, by=who())

    write_offline(folder, work)


def last_seq(folder: Path) -> int:
    with reading(folder / STATE) as db:
        return int(db.execute("SELECT coalesce(max(seq), 0) AS seq FROM journal").fetchone()["seq"])


def look(folder: Path, after: int, show: Callable[[Entry, Line], None], *, until_end: bool = True) -> str:
    """Shows what is journalled until the run's process is gone or the run has ended; returns the state it is in."""

    async def watch() -> None:
        async for entry, line in follow(folder / STATE, after, lambda: live_pid(folder) is not None):
            show(entry, line)
            if until_end and entry.kind in ENDS:
                return

    anyio.run(watch)
    with reading(folder / STATE) as db:
        return state_of(db, live_pid(folder) is not None)
