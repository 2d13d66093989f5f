"""One SQLite file, one writer thread, short transactions, group commit.

Everything that waits to be written when the writer wakes shares one commit with `synchronous=FULL`, so sixteen busy
seats pay for one fsync. Each job runs in a savepoint of its own: one that raises undoes only itself. A write by a
process of an earlier epoch is refused (`Fenced`), so what a zombie does after a resume has no effect (P4).
"""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from orchestrator.store.events import KINDS

T = TypeVar("T")

GROUP: Final = 256  # jobs in one commit, at most
BUSY_MS: Final = 30_000
MIGRATIONS: Final = tuple(file.read_text() for file in sorted((Path(__file__).parent / "migrations").glob("*.sql")))


class StoreError(Exception):
    """The state could not be read or written."""


class NewerState(StoreError):
    """The state was written by a newer orchestrator than this one."""


class Fenced(StoreError):
    """A later process owns the run; this one may not write any more."""


def iso(at: datetime) -> str:
    """A UTC time as it is stored; sorts as text."""
    if at.tzinfo is None:
        raise ValueError("a stored time must know its zone")
    return at.isoformat(timespec="microseconds")


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Tx:
    """One transaction of the writer, handed to a job. Its methods are synchronous: they run in the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, epoch: int, now: datetime) -> None:
        self.db = connection
        self.epoch = epoch
        self.now = now

    def journal(self, kind: str, seat: str = "", /, **data: Any) -> None:
        """Appends a typed event. Its fields must be those that `events.py` declares for the kind."""
        declared = KINDS[kind]
        if data.keys() != declared:
            raise StoreError(f"event {kind} takes {sorted(declared)}, got {sorted(data)}")
        row = (iso(self.now), self.epoch, kind, seat, json.dumps(data, sort_keys=True))
        self.db.execute("INSERT INTO journal (at, epoch, kind, seat, data) VALUES (?, ?, ?, ?, ?)", row)

    def keep(self, body: str | bytes) -> str:
        """Stores a payload once and returns its hash."""
        data = body.encode() if isinstance(body, str) else body
        digest = hashlib.sha256(data).hexdigest()
        row = (digest, len(data), zlib.compress(data, 1))
        self.db.execute("INSERT OR IGNORE INTO payload (hash, size, body) VALUES (?, ?, ?)", row)
        return digest

    def payload(self, digest: str) -> bytes:
        return read_payload(self.db, digest)

    def one(self, sql: str, *parameters: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.db.execute(sql, parameters).fetchone()
        return row

    def all(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        return self.db.execute(sql, parameters).fetchall()

    def run(self, sql: str, *parameters: Any) -> int:
        """Executes one statement and returns how many rows it changed."""
        return self.db.execute(sql, parameters).rowcount


def read_payload(db: sqlite3.Connection, digest: str) -> bytes:
    row = db.execute("SELECT body FROM payload WHERE hash = ?", (digest,)).fetchone()
    if row is None:
        raise StoreError(f"payload {digest} is missing from the state")
    return zlib.decompress(row["body"])


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Opens the state. Without `write` the connection cannot change it. Raises `NewerState`."""
    mode = "rwc" if write else "ro"
    db = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        db.close()
        raise NewerState(
            f"{path} has schema {version}, this orchestrator knows {len(MIGRATIONS)}: "
            "use the orchestrator that wrote it, or a newer one"
        )
    if write:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        migrate(db)
    return db


def migrate(db: sqlite3.Connection) -> None:
    """Brings the schema to this version."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


@dataclass
class _Job:
    """Work on its way to the writer; `done` is set in the event loop once the outcome is durable."""

    work: Callable[[Tx], Any]
    done: anyio.Event = field(default_factory=anyio.Event)
    token: anyio.lowlevel.EventLoopToken = field(default_factory=anyio.lowlevel.current_token)
    value: Any = None
    error: BaseException | None = None


class Store:
    """The run's state. `write` for changes, `read` for short read transactions; both leave the event loop free."""

    def __init__(self, path: Path, utc_now: Callable[[], datetime]) -> None:
        self.path = path
        self._utc_now = utc_now
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.epoch = 0
        self._db = connect(path, write=True)
        self._thread = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
        self._thread.start()

    async def create(self, name: str, settings: str) -> None:
        """Writes the run's one row, in epoch 0. Raises `StoreError` when it is there."""

        def work(tx: Tx) -> None:
            if tx.one("SELECT 1 FROM run") is not None:
                raise StoreError(f"{self.path} already holds a run")
            row = (name, 0, "running", iso(tx.now), settings)
            tx.run("INSERT INTO run (one, name, epoch, state, created, settings) VALUES (1, ?, ?, ?, ?, ?)", *row)

        await self.write(work)

    async def begin_epoch(self) -> int:
        """Takes the run over: every earlier process is fenced from here on."""

        def work(tx: Tx) -> int:
            row = tx.one("UPDATE run SET epoch = epoch + 1 RETURNING epoch")
            if row is None:
                raise StoreError(f"{self.path} holds no run")
            return int(row["epoch"])

        self.epoch = await self._submit(work)
        return self.epoch

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Runs `work` in one durable transaction and returns what it returned, after the commit.

        What `work` raises is raised here and undoes only that work. Raises `Fenced` when a later epoch began.
        Once handed over it is not cancelled: the caller that goes away leaves a whole transaction behind.
        """
        expected = self.epoch

        def fenced(tx: Tx) -> T:
            row = tx.one("SELECT epoch FROM run")
            if row is not None and row["epoch"] != expected:
                raise Fenced(f"the run is in epoch {row['epoch']}, this process belongs to epoch {expected}")
            return work(tx)

        return await self._submit(fenced)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `query` on a connection of its own that cannot write, in one consistent snapshot."""

        def work() -> T:
            with reading(self.path) as db:
                return query(db)

        return await anyio.to_thread.run_sync(work)

    async def close(self) -> None:
        self._jobs.put(None)
        await anyio.to_thread.run_sync(self._thread.join)
        self._db.close()

    async def _submit(self, work: Callable[[Tx], T]) -> T:
        job = _Job(work)
        self._jobs.put(job)
        with anyio.CancelScope(shield=True):
            await job.done.wait()
        if job.error is not None:
            raise job.error
        result: T = job.value
        return result

    def _write_all(self) -> None:
        """The writer's thread, until `close` puts None behind the last job."""
        while True:
            waiting = [self._jobs.get()]
            while len(waiting) < GROUP and not self._jobs.empty():
                waiting.append(self._jobs.get())
            batch = [job for job in waiting if job is not None]
            if batch:
                self._commit(batch)
            if len(batch) < len(waiting):
                return

    def _commit(self, batch: list[_Job]) -> None:
        """One commit for the batch; nobody hears of a result before it is durable."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._attempt(job)
            self._db.execute("COMMIT")
        except sqlite3.Error as failure:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            for job in batch:
                job.error = StoreError(f"the state could not be written: {failure}")
                job.error.__cause__ = failure
        anyio.from_thread.run_sync(_wake, batch, token=batch[0].token)

    def _attempt(self, job: _Job) -> None:
        self._db.execute("SAVEPOINT job")
        try:
            job.value = job.work(Tx(self._db, self.epoch, self._utc_now()))
        except Exception as raised:  # noqa: BLE001 - handed to the caller of write(), who raises it
            self._db.execute("ROLLBACK TO job")
            job.error = raised
        self._db.execute("RELEASE job")


def _wake(batch: list[_Job]) -> None:
    for job in batch:
        job.done.set()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection in one snapshot; also how other commands look at a run, live or not."""
    db = connect(path)
    try:
        db.execute("BEGIN")
        yield db
    finally:
        db.close()
