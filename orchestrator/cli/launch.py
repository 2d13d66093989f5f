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
from orchestrator.cli.failures import failure_of
from orchestrator.cli.screen import STATE, live_pid, utc_now
from orchestrator.control import Refusal
from orchestrator.store import Store, Tx, reading
from orchestrator.watch.journal import PARTS, Entry, entries, spoken
from orchestrator.watch.text import clock

POLL_S: Final = 0.2
OUTPUT: Final = "orchestrator.jsonl"


def spawn(folder: Path) -> int:
    """Starts the run's process in a session of its own and returns its id once it answers.

    Raises the `Refusal` with which the process ended when it ended before that.
    """
    output = folder / OUTPUT
    with output.open("ab") as log:
        begins = log.tell()
        command = [sys.executable, "-m", "orchestrator", "_serve", "--json", str(folder.resolve())]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while child.poll() is None:
        with contextlib.suppress(Refusal):
            if live_pid(folder) == child.pid:
                tell(folder, "ping")
                break
        time.sleep(POLL_S)
    if child.returncode:
        for line in reversed(output.read_bytes()[begins:].splitlines()):
            with contextlib.suppress(ValueError, LookupError, TypeError):
                raise Refusal.of(json.loads(line)["error"])
        said = f"the run's process ended with code {child.returncode} before it was ready: {output}"
        raise Refusal(said, "internal")
    return child.pid


def serve(folder: Path) -> None:
    """The body of the run's process: takes the run's lock, says who it is, and serves until the run ends."""
    from orchestrator.run import serve as run  # the whole system: only the run's own process needs it

    with _owned(folder):
        pid_file = folder / "run.pid"
        pid_file.write_text(str(os.getpid()))
        try:
            anyio.run(run, folder)
        except Exception as error:
            if failure_of(error).kind == "internal":
                trace = folder / "crash" / f"{utc_now():%Y%m%dT%H%M%S}-{os.getpid()}.txt"
                trace.parent.mkdir(exist_ok=True)
                trace.write_text(traceback.format_exc())
            raise
        finally:
            pid_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Holds the run's lock. Raises `Refusal` when another process does."""
    try:
        with filelock.FileLock(folder / "run.lock", timeout=0):
            yield
    except filelock.Timeout as taken:
        look = f"look: python -m orchestrator status {folder.name}"
        raise Refusal(f"another process works on {folder.name}", "busy", look) from taken


def tell(folder: Path, do: str, **fields: Any) -> dict[str, Any]:
    """Asks the run's process to do something. Who waits long hears on stderr for how long, and what the gate did last.

    Raises `Refusal`.
    """
    began = time.monotonic()

    def reassure() -> None:
        with reading(folder / STATE) as db:
            last = [f"; {spoken(entry, clock(entry.at))}" for entry in entries(db, PARTS["gate"])[-1:]]
        typer.echo(f"… {time.monotonic() - began:.0f} s{''.join(last)}", err=True)

    return control.ask(folder, {"do": do, "by": control.who(), **fields}, reassure)


def change(folder: Path, offline: Callable[[Tx], object], do: str, **fields: Any) -> None:
    """Has the run's process change something; where none lives, `offline` does it in an epoch of its own."""

    async def write() -> None:
        store = Store(folder / STATE, utc_now)
        await store.begin_epoch()
        await store.write(offline)
        await store.close()

    if live_pid(folder):
        tell(folder, do, **fields)
    else:
        with _owned(folder):
            anyio.run(write)


def follow(folder: Path, where: str, *values: object) -> Iterator[Entry]:
    """Entries as they are stored, until the run's process is gone and all has been told."""
    after, alive = 0, True
    while alive:
        alive = live_pid(folder) is not None
        with reading(folder / STATE) as db:
            for entry in entries(db, f"seq > ? AND ({where})", after, *values):
                after = entry.seq
                yield entry
        time.sleep(POLL_S * alive)
