"""A run from outside: which one is meant, and what a query says of it; its process: spawning it, serving in it, talking
to it, following what it does."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final

import anyio
import filelock
import psutil
import typer

from orchestrator.control import LINE_LIMIT, POINTER, Refusal, failure_of, forget, usable, who
from orchestrator.store import Store, Tx, reading
from orchestrator.store.store import utc_now
from orchestrator.watch.journal import PARTS, Entry, entries, spoken
from orchestrator.watch.queries import frame
from orchestrator.watch.render import Answer, clock

STATE: Final = "state.db"
POLL_S: Final = 0.2
NEWS_S: Final = 60.0  # how often somebody who waits hears something: seldom, as it may stand between answers
Query = Callable[[Connection, Answer], Answer]
"""What answers a question about a run, from its state and the answer's beginning: run, state, as of when."""


@contextlib.contextmanager
def state(folder: Path) -> Iterator[Connection]:
    """What is stored of a run, in one snapshot. Raises `Refusal` when it cannot be read."""
    with usable(folder / STATE) as file, reading(file) as db:
        yield db


def asked(folder: Path, query: Query) -> Answer:
    """What a query answers, after the beginning that it is handed."""
    with state(folder) as db:
        begin = frame(db, live_pid(folder) is not None, utc_now())
        return begin | query(db, begin)


def runs_in(logs: Path) -> list[Path]:
    """The folders of all runs, oldest first. Raises `Refusal` when there is none."""
    found = [file.parent for file in logs.glob(f"*/{STATE}")]
    if not found:
        first = "start one: python -m orchestrator start DIR --agents N --model ID"
        raise Refusal(f"there is no run in {logs}", "not_found", first, "elsewhere? give --logs DIR")
    return sorted(found, key=lambda folder: ((folder / STATE).stat().st_ctime_ns, folder.name))


def live_pid(folder: Path) -> int | None:
    """The process that works on a run. A later process that was given the same number is not it."""
    pid_file = folder / "run.pid"
    with contextlib.suppress(OSError, ValueError, OverflowError, psutil.Error):
        process = psutil.Process(int(pid_file.read_text()))
        began = process.create_time()
        if process.status() != psutil.STATUS_ZOMBIE and began <= pid_file.stat().st_mtime + 1:
            return process.pid
    return None


def find(logs: Path, name: str | None = None) -> Path:
    """The run of that name; without one the only live run, else the newest."""
    runs = {folder.name: folder for folder in runs_in(logs)}
    if name is not None and name not in runs:
        raise Refusal(f"there is no run {name!r} in {logs}", "not_found", f"runs here: {', '.join([*runs][-8:])}")
    live = [one for one in runs if live_pid(runs[one])]
    if name is None and len(live) > 1:
        raise Refusal(f"{len(live)} runs are live: name one", "ambiguous", ", ".join(live))
    return runs[name or [*runs, *live][-1]]


def spawn(folder: Path) -> int:
    """Starts the run's process in a session of its own and returns its id once it listens.

    Raises the `Refusal` with which the process ended when it ended before that, or because the folder is not whole.
    """
    output = folder / "orchestrator.jsonl"
    with usable(folder / "lock.json") as lock, output.open("ab") as log:
        json.loads(lock.read_bytes())
        for part in ("secret", "repo.git/HEAD", "public.git/HEAD"):
            (folder / part).stat()
        begins = log.tell()
        command = [sys.executable, "-m", "orchestrator", "_serve", "--json", str(folder.resolve())]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while child.poll() is None and not (live_pid(folder) == child.pid and (folder / POINTER).exists()):
        time.sleep(POLL_S)
    if child.returncode:
        for line in reversed(output.read_bytes()[begins:].splitlines()):
            with contextlib.suppress(ValueError, LookupError, TypeError):
                raise Refusal.of(json.loads(line)["error"])
        raise Refusal(f"the run's process ended with code {child.returncode} before it was ready: {output}", "internal")
    return child.pid


def serve(folder: Path) -> None:
    """The body of the run's process: takes the run's lock, says who it is, and serves until the run ends."""
    from orchestrator.run import serve as run  # the whole system: only the run's own process needs it

    with _owned(folder):
        forget(folder)  # what a killed process left; whoever starts this one waits for ours
        pid_file = folder / "run.pid"
        pid_file.write_text(str(os.getpid()))
        try:
            anyio.run(run, folder)
        except Exception as error:
            if failure_of(error).kind in ("internal", "refused"):
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

    Raises `Refusal` in its words, or because no process answers.
    """
    began, request = time.monotonic(), json.dumps({"do": do, "by": who(), **fields}).encode() + b"\n"
    if len(request) > LINE_LIMIT:
        raise Refusal(f"a request may hold {LINE_LIMIT >> 20} MiB, this has {len(request) >> 20}", "usage")
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect((folder / POINTER).read_text())
            line.sendall(request)
            while not select.select([line], [], [], NEWS_S)[0]:
                typer.echo(f"… {time.monotonic() - began:.0f} s{_news(folder, do)}", err=True)
            answer: dict[str, dict[str, Any]] = json.loads(line.makefile(encoding="utf-8").readline())
    except (OSError, ValueError) as silent:
        remedy = f"go on with it: python -m orchestrator resume {folder.name}"
        raise Refusal(f"{folder.name}: no process answers for this run", "refused", remedy) from silent
    if "error" in answer:
        raise Refusal.of(answer["error"])
    return answer["result"]


def _news(folder: Path, do: str) -> str:
    """What the gate did last. Seats are not told: what is held out is judged there too."""
    if do == "seat":
        return ""
    with state(folder) as db:
        return "".join(f"; {spoken(entry, clock(entry.at))}" for entry in entries(db, PARTS["gate"])[-1:])


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
        with state(folder) as db:
            for entry in entries(db, f"seq > ? AND ({where})", after, *values):
                after = entry.seq
                yield entry
        time.sleep(POLL_S * alive)
