"""One SQLite file, one writer at a time, short transactions, group commit.

Everything that waits to be written when a commit begins shares it, with `synchronous=FULL`, so sixteen busy seats pay
for one fsync. Each job runs in a savepoint of its own: one that raises undoes only itself. A write by a
process of an earlier epoch is refused (`Fenced`), so what a zombie does after a resume has no effect (P4).
"""

import hashlib
import json
import sqlite3
import tomllib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import anyio

from sandbox import faults
from sandbox.threads import done_by, loop_caller

T = TypeVar("T")

READERS: Final = 8  # threads: a read is short, and Python runs one of them at a time
BUSY_MS: Final = 30_000
HERE: Final = Path(__file__).parent
MIGRATIONS: Final = tuple(file.read_text() for file in sorted((HERE / "migrations").glob("*.sql")))
EVENTS: Final = tomllib.loads((HERE / "events.toml").read_text())
KINDS: Final = {kind: frozenset(event["fields"].split()) for part in EVENTS.values() for kind, event in part.items()}


class StoreError(Exception):
    """The state could not be read or written."""


class NewerState(StoreError):
    """The state was written by a newer orchestrator than this one."""


class Fenced(StoreError):
    """A later process owns the run; this one may not write any more."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def iso(at: datetime) -> str:
    """A UTC time as it is stored; sorts as text."""
    if at.tzinfo is None:
        raise ValueError("a stored time must know its zone")
    return at.isoformat(timespec="microseconds")


sqlite3.register_adapter(datetime, iso)
sqlite3.register_adapter(tuple, json.dumps)


class Tx:
    """One transaction of the writer, handed to a job. Its methods are synchronous: they run in the writer's thread."""

    def __init__(self, db: sqlite3.Connection, epoch: int, now: datetime) -> None:
        self.db, self.epoch, self.now = db, epoch, now
        self.told: set[str] = set()  # sessions for which it leaves a message

    def journal(self, kind: str, seat: str = "", /, **data: Any) -> None:
        """Appends a typed event. Its fields must be those that `events.toml` declares for the kind."""
        declared = KINDS[kind]
        if data.keys() != declared:
            raise StoreError(f"event {kind} takes {sorted(declared)}, got {sorted(data)}")
        row = (self.now, self.epoch, kind, seat, json.dumps(data, sort_keys=True))
        self.db.execute("INSERT INTO journal (at, epoch, kind, seat, data) VALUES (?, ?, ?, ?, ?)", row)

    def keep(self, body: str | bytes) -> str:
        """Stores a payload once and returns its hash."""
        data = body.encode() if isinstance(body, str) else body
        digest = hashlib.sha256(data).hexdigest()
        row = (digest, len(data), zlib.compress(data, 1))
        self.db.execute("INSERT OR IGNORE INTO payload (hash, size, body) VALUES (?, ?, ?)", row)
        return digest

    def one(self, sql: str, *parameters: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.db.execute(sql, parameters).fetchone()
        return row

    def run(self, sql: str, *parameters: Any) -> int:
        """Executes one statement and returns how many rows it changed."""
        return self.db.execute(sql, parameters).rowcount


@dataclass(eq=False, slots=True)
class _Job:
    """Work that waits to be written; once `done` is set, by the event loop that `soon` calls, what came of it."""

    work: Callable[[Tx], Any]
    done: anyio.Event
    soon: Callable[..., Any]
    result: Any = None
    error: Exception | None = None


def _wake(jobs: list[_Job]) -> None:
    for job in jobs:
        job.done.set()


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
        db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
        migrate(db)
    return db


def migrate(db: sqlite3.Connection) -> None:
    """Brings the schema to this version."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


class Store:
    """The run's state. `write` for changes, `read` for short read transactions; both leave the event loop free."""

    def __init__(self, path: Path, utc_now: Callable[[], datetime]) -> None:
        self.path = path
        self.epoch = 0
        self.utc_now = utc_now
        self.told: set[str] = set()
        """Sessions that may have messages to hear."""
        self._waiting: SimpleQueue[_Job] = SimpleQueue()
        self._calls, self._heard = 0, 0  # of the writer: made, and begun to be followed
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._reader = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._readers: list[sqlite3.Connection] = []  # that nobody reads with now
        self._db = connect(path, write=True)

    async def create(self, name: str, settings: str) -> None:
        """Writes the run's one row, in epoch 0."""
        sql = "INSERT INTO run (one, name, epoch, state, created, settings) VALUES (1, ?, 0, 'running', ?, ?)"
        await self.write(lambda tx: tx.run(sql, name, tx.now, settings))

    async def begin_epoch(self) -> int:
        """Takes the run over: every earlier process is fenced from here on."""
        sql = "UPDATE run SET epoch = epoch + 1 RETURNING epoch"
        (self.epoch,) = await self._submit(lambda tx: tuple(tx.db.execute(sql).fetchone()))
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
        """Runs `query` on a connection that cannot write and is its own meanwhile, in one consistent snapshot."""

        def work() -> T:
            try:
                db = self._readers.pop()
            except IndexError:
                db = connect(self.path)
            try:
                db.execute("BEGIN")
                return query(db)
            finally:
                db.rollback()
                self._readers.append(db)

        return await done_by(self._reader, work)

    async def close(self) -> None:
        self._reader.shutdown()
        for db in (*self._readers, self._db):
            await done_by(self._writer, db.close)
        self._writer.shutdown()

    async def _submit(self, work: Callable[[Tx], T]) -> T:
        """The writer, called by the first who waits, commits for all who wait when it begins."""
        job = _Job(work, anyio.Event(), loop_caller())
        self._waiting.put(job)
        if self._calls == self._heard:
            self._writer.submit(self._commit)
            self._calls += 1
        with anyio.CancelScope(shield=True):
            await job.done.wait()
        if job.error:
            raise job.error
        result: T = job.result
        return result

    def _commit(self) -> None:
        """One commit for all who wait; nobody hears of a result before it is durable."""
        self._heard += 1  # before the look: who comes after it calls again
        batch = [self._waiting.get() for _ in range(self._waiting.qsize())]
        told = set[str]()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._db.execute("SAVEPOINT job")
                tx = Tx(self._db, self.epoch, self.utc_now())
                try:
                    job.result = job.work(tx)
                except Exception as raised:  # noqa: BLE001 - handed to the caller of write(), who raises it
                    self._db.execute("ROLLBACK TO job")
                    job.error = raised
                self._db.execute("RELEASE job")
                told |= tx.told
            faults.at("commit")
            self._db.execute("COMMIT")
            faults.at("committed")
            self.told |= told
        except (sqlite3.Error, OSError) as failure:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            error = StoreError(f"the state could not be written: {failure}")
            error.__cause__ = failure
            for job in batch:
                job.error = error
        waking = defaultdict[Callable[..., Any], list[_Job]](list)
        for job in batch:
            waking[job.soon].append(job)
        for soon, jobs in waking.items():  # one event loop, so one call of it for all
            soon(_wake, jobs)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection in one snapshot; also how other commands look at a run, live or not. What an older
    orchestrator left is read as migrations will leave it, from a copy on disk that is gone afterwards."""
    with closing(connect(path)) as db, closing(sqlite3.connect("", isolation_level=None)) as copy:
        if 0 < db.execute("PRAGMA user_version").fetchone()[0] < len(MIGRATIONS):
            copy.row_factory = sqlite3.Row
            db.backup(copy)
            migrate(copy)
            db = copy
        db.execute("BEGIN")
        yield db
