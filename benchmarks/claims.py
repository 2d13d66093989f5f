"""`python -m benchmarks.claims`: how fast a team can claim and release tasks, by three schemes.

ours        the board in the run's state: one transaction for a claim, one for its release
pushed      as published: a lock file committed and pushed to main, after a pull --rebase whenever somebody was quicker
update-ref  a ref made and deleted by the server's git, by compare-and-swap

Every client claims a task of its own, releases it, and goes on, as fast as it is answered. Rows: operations a second,
milliseconds for one (median and 95th percentile), retries for each, and clients that were never answered. An operation
that is not answered when time is up counts with the time it has waited.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from orchestrator import board
from orchestrator.records import Session, SessionState, TaskSource
from orchestrator.store import Store, Tx, sessions

ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_NAME": "client" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "client@orchestrator.invalid" for who in ("AUTHOR", "COMMITTER")},
}
NOBODY: Final = "0" * 40


@dataclass(frozen=True)
class Row:
    scheme: str
    clients: int
    ops_per_s: float
    p50_ms: float
    p95_ms: float
    retries_per_op: float
    starved: int


@dataclass
class Tally:
    """What one client saw. After `until` on the clock it gives up."""

    until: float
    seconds: list[float] = field(default_factory=list)
    unanswered: list[float] = field(default_factory=list)
    retries: int = 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except BaseException:
            self.unanswered.append(time.perf_counter() - began)
            raise
        self.seconds.append(time.perf_counter() - began)

    def retry(self) -> None:
        self.retries += 1
        if time.perf_counter() > self.until:
            raise TimeoutError


Claimer = Callable[[int, Tally], Awaitable[None]]
"""Claims and releases once for a client, and counts it."""


async def ours(folder: Path, clients: int) -> Claimer:
    store = Store(folder / "state.db", lambda: datetime.now(UTC))
    await store.create("claims", "{}")
    await store.begin_epoch()

    def prepare(tx: Tx) -> list[tuple[str, str]]:
        made = []
        for number in range(clients):
            seat = f"agent-{number:03d}"
            session = Session(f"{seat}/1", seat, 1, "builder", "open", SessionState.ACTIVE, tx.now, "")
            sessions.start(tx, session)
            task = board.put(tx, f"Task {number}", TaskSource.PROJECT, by="project")
            made.append((task.id, session.id))
        return made

    pairs = await store.write(prepare)

    async def once(client: int, tally: Tally) -> None:
        task, session = pairs[client]
        for work in (
            lambda tx: board.claim(tx, task, session),
            lambda tx: board.release(tx, session, "done", gave_up=False),
        ):
            with tally.timed():
                await store.write(work)

    return once


def git(folder: Path, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *argv], cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True, check=False)


def server(folder: Path) -> Path:
    """A bare repository with one commit on main."""
    bare, first = folder / "main.git", folder / "first"
    git(folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(folder, "clone", "-q", str(bare), str(first))
    (first / "current_tasks").mkdir()
    (first / "current_tasks/README").write_text("locks\n")
    git(first, "checkout", "-q", "-b", "main")
    git(first, "add", ".")
    git(first, "commit", "-q", "-m", "first")
    git(first, "push", "-q", "origin", "main")
    return bare


async def pushed(folder: Path, clients: int) -> Claimer:
    bare = server(folder)
    for client in range(clients):
        git(folder, "clone", "-q", str(bare), f"client-{client}")

    def once(client: int, tally: Tally) -> None:
        work = folder / f"client-{client}"
        lock = work / f"current_tasks/task-{client}.txt"
        for claiming in (True, False):
            with tally.timed():
                lock.write_text(f"{client}\n") if claiming else lock.unlink()
                git(work, "add", "-A")
                git(work, "commit", "-q", "-m", "claim" if claiming else "release")
                while git(work, "push", "-q", "origin", "HEAD:main").returncode:
                    tally.retry()
                    git(work, "pull", "-q", "--rebase", "origin", "main")

    return lambda client, tally: anyio.to_thread.run_sync(once, client, tally)


async def update_ref(folder: Path, clients: int) -> Claimer:
    bare = server(folder)
    head = git(bare, "rev-parse", "main").stdout.decode().strip()

    def once(client: int, tally: Tally) -> None:
        ref = f"refs/locks/task-{client}"
        for line in (f"create {ref} {head}\n", f"delete {ref} {head}\n"):
            with tally.timed():
                while git(bare, "update-ref", "--stdin", stdin=line.encode()).returncode:
                    tally.retry()

    return lambda client, tally: anyio.to_thread.run_sync(once, client, tally)


SCHEMES: Final = {"ours": ours, "pushed": pushed, "update-ref": update_ref}


async def measured(scheme: str, clients: int, seconds: float) -> Row:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        anyio.to_thread.current_default_thread_limiter().total_tokens = max(40, clients + 8)
        once = await SCHEMES[scheme](Path(place), clients)
        began = time.perf_counter()
        tallies = [Tally(began + seconds) for _ in range(clients)]

        async def client(number: int) -> None:
            with suppress(TimeoutError):
                while time.perf_counter() - began < seconds:
                    await once(number, tallies[number])

        async with anyio.create_task_group() as tasks:
            for number in range(clients):
                tasks.start_soon(client, number)
        took = time.perf_counter() - began
        done = [one for tally in tallies for one in tally.seconds]
        waited = [one for tally in tallies for one in tally.unanswered]
        cuts = statistics.quantiles([*done, *waited, took] if len(done) < 2 else [*done, *waited], n=20)
        retries = sum(tally.retries for tally in tallies) / max(len(done), 1)
        starved = sum(not tally.seconds for tally in tallies)
        milli = [round(1000 * cut, 2) for cut in (cuts[9], cuts[18])]
        return Row(scheme, clients, round(len(done) / took, 1), *milli, round(retries, 2), starved)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemes", nargs="*", default=list(SCHEMES), choices=list(SCHEMES))
    parser.add_argument("--clients", nargs="*", type=int, default=[16, 64, 256])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    given = parser.parse_args()
    if not given.json:
        say("  ".join(f"{name:>14}" for name in Row.__annotations__))
    for clients in given.clients:
        for scheme in given.schemes:
            row = asdict(anyio.run(measured, scheme, clients, given.seconds))
            say(json.dumps(row) if given.json else "  ".join(f"{value!s:>14}" for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
