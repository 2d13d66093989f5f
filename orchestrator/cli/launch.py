"""A run's process: spawning it, serving in it, talking to it, following what it does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import filelock
import typer

from orchestrator import control
from orchestrator.cli.failures import EXIT, Failure
from orchestrator.cli.screen import STATE, live_pid, utc_now
from orchestrator.control import who
from orchestrator.signals import unwrapped
from orchestrator.store import Store, Tx, reading
from orchestrator.watch.journal import Entry, entries, spoken
from orchestrator.watch.text import clock

NEWS_S: Final = 60.0
POLL_S: Final = 0.2
OUTPUT: Final = "orchestrator.jsonl"


def spawn(folder: Path) -> int:
    """Starts the run's process in a session of its own and returns its id once it answers.

    Raises the `Failure` with which the process ended when it ended before that.
    """
    output = folder / OUTPUT
    with output.open("ab") as log:
        begins = log.tell()
        command = [sys.executable, "-m", "orchestrator", "_serve", "--json", str(folder.resolve())]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while child.poll() is None:
        with contextlib.suppress(control.NotRunning, TimeoutError):
            if live_pid(folder) == child.pid:
                anyio.run(control.ask, folder, {"do": "ping", "by": who()}, 30)
                break
        time.sleep(POLL_S)
    if not child.returncode:
        return child.pid
    for line in reversed(output.read_bytes()[begins:].decode(errors="replace").splitlines()):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            error = json.loads(line)["error"]
            raise Failure(error["kind"], error["message"], *(error["hint"] or "").splitlines())
    said = f"the run's process ended with code {child.returncode} before it was ready"
    raise Failure("internal", said, where=str(output))


def serve(folder: Path) -> None:
    """The body of the run's process: takes the run's lock, says who it is, and serves until the run ends."""
    from orchestrator.run import serve as run  # the whole system: only the run's own process needs it

    with _owned(folder):
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


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Holds the run's lock. Raises `Failure` when another process does."""
    try:
        with filelock.FileLock(folder / "run.lock", timeout=0):
            yield
    except filelock.Timeout as taken:
        look = f"look: python -m orchestrator status {folder.name}"
        raise Failure("busy", f"another process works on {folder.name}", look) from taken


def tell(folder: Path, do: str, **fields: Any) -> dict[str, Any]:
    """Asks the run's process to do something. Raises `NotRunning`, and `Refusal` in its words."""

    async def asked() -> dict[str, Any]:
        with unwrapped():
            async with anyio.create_task_group() as beside:
                beside.start_soon(_reassure, folder)
                answer = await control.ask(folder, {"do": do, "by": who(), **fields})
                beside.cancel_scope.cancel()
        return answer

    return anyio.run(asked)


async def _reassure(folder: Path) -> None:
    """Says on stderr, while somebody waits, for how long and what the gate did last."""
    began = anyio.current_time()
    while True:
        await anyio.sleep(NEWS_S)
        with reading(folder / STATE) as db:
            newest = entries(db, "kind IN ('judging', 'judged', 'landed', 'bounced', 'voided')")[-1:]
        last = f"; the gate's last word: {spoken(newest[0], clock(newest[0].at))}" if newest else ""
        typer.echo(f"… {anyio.current_time() - began:.0f} s{last}", err=True)


def change(folder: Path, offline: Callable[[Tx], None], do: str, **fields: Any) -> None:
    """Has the run's process change something; where none lives, `offline` does it in an epoch of its own."""

    async def write() -> None:
        store = Store(folder / STATE, utc_now)
        try:
            await store.begin_epoch()
            await store.write(offline)
        finally:
            await store.close()

    if live_pid(folder):
        tell(folder, do, **fields)
        return
    with _owned(folder):
        anyio.run(write)


def reveal(folder: Path) -> None:
    """Journals, once, that the held-out results of a run have been shown."""
    with reading(folder / STATE) as db:
        known = entries(db, "kind = 'revealed'")
    if not known:
        change(folder, lambda tx: tx.journal("revealed", by=who()), "reveal")


def last_seq(folder: Path) -> int:
    with reading(folder / STATE) as db:
        return int(db.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()[0])


def follow(folder: Path, after: int, where: str = "1", *values: object) -> Iterator[Entry]:
    """Entries as they are stored, until the run's process is gone and all has been told."""
    while True:
        last_look = live_pid(folder) is None
        with reading(folder / STATE) as db:
            for entry in entries(db, f"seq > ? AND ({where})", after, *values):
                after = entry.seq
                yield entry
        if last_look:
            return
        time.sleep(POLL_S)
