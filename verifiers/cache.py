"""What the judges of a run remember: the artifacts of recent builds, and verdicts that need not be reached again, so
that a judgement that a kill has cut goes on where it was.

No landing depends on either: a cold judgement asks neither. So both may be lost, cut short or changed by whoever gets
at them, and the worst is a probe that was misled.
"""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from pydantic import TypeAdapter

from sandbox.room import GIB
from verifiers.scorecard import Build, Outcome, Tree, Verdict

log = structlog.get_logger()
BUILDS, BUILDS_BYTES = 32, 2 * GIB  # kept; a gate looks for culprits in trees that were built a moment ago
VERDICTS: Final = 200_000  # kept: fifty judgements of four thousand cases, at most some 50 MiB
LASTING: Final = frozenset({Outcome.PASS, Outcome.FAIL, Outcome.SKIP})  # the others may be the machine's, or its load's
TRIES: Final = 2
SCHEMA: Final = "CREATE TABLE IF NOT EXISTS verdict (n INTEGER PRIMARY KEY, key TEXT UNIQUE, said BLOB)"
ROW: Final = TypeAdapter(Verdict)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Built:
    """A tree's build and, when it went well, the host folder of its artifacts, with their size in bytes."""

    tree: Tree
    build: Build
    artifacts: Path
    size: int = 0


@dataclass
class Builds:
    """The artifacts of recent trees, the newest last. Whoever looks does not build: verify, fast and full of one tree
    build once, and so does the search for a culprit among trees that the fast tier has judged."""

    most: int = BUILDS
    most_bytes: int = BUILDS_BYTES
    kept: dict[str, Built] = field(default_factory=dict)
    used: list[Built] = field(default_factory=list)

    def keep(self, key: str, built: Built) -> list[Built]:
        """Keeps it as the newest. Returns what is kept no longer: an older one of the same tree, and the oldest until
        the newest alone is left or the rest is few and small enough."""
        out = [self.kept.pop(key)] if key in self.kept else []
        self.kept[key] = built
        while len(self.kept) > 1 and (
            len(self.kept) > self.most or sum(one.size for one in self.kept.values()) > self.most_bytes
        ):
            out.append(self.kept.pop(next(iter(self.kept))))
        return out

    def idle(self, built: Built) -> bool:
        """Whether its artifacts may go."""
        return not any(built is one for one in (*self.used, *self.kept.values()))


class Verdicts:
    """Verdicts in one SQLite file, by a key that says what was judged on what. Errors and timeouts are not kept.

    Never raises: a file that cannot be read is begun anew, with a line in the log, and one that cannot be had at all
    is done without.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._turn = CapacityLimiter(1)
        self._db: sqlite3.Connection | None = None
        self._tries = TRIES

    async def known(self, keys: Mapping[str, str]) -> Mapping[str, Verdict]:
        """The verdicts that are kept of these cases, given the key of each."""

        def read(db: sqlite3.Connection) -> Mapping[str, Verdict]:
            with db:
                db.execute("DELETE FROM verdict WHERE n <= (SELECT max(n) FROM verdict) - ?", (VERDICTS,))
            found: dict[str, Verdict] = {}
            for case, key in keys.items():
                for (said,) in db.execute("SELECT said FROM verdict WHERE key = ?", (key,)):
                    found[case] = ROW.validate_json(said)
                    if found[case].case != case or found[case].outcome not in LASTING:
                        raise ValueError(f"it has another verdict where {case} belongs")
            return found

        return await self._do(read, {})

    async def keep(self, key: str, verdict: Verdict) -> None:
        if verdict.outcome not in LASTING:
            return

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.execute("INSERT OR REPLACE INTO verdict VALUES (NULL, ?, ?)", (key, ROW.dump_json(verdict)))

        await self._do(write, None)

    async def close(self) -> None:
        await to_thread.run_sync(self._close, limiter=self._turn)

    async def _do(self, work: Callable[[sqlite3.Connection], Found], otherwise: Found) -> Found:
        return await to_thread.run_sync(self._try, work, otherwise, limiter=self._turn)

    def _try(self, work: Callable[[sqlite3.Connection], Found], otherwise: Found) -> Found:
        if not self._tries:
            return otherwise
        try:
            return work(self._open())
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self._tries -= 1
            then = "begun anew" if self._tries else "done without"
            log.warning("verdict-cache", file=str(self._file), wrong=f"{error}; {then}")
            self._close()
            with suppress(OSError):  # then it cannot be had the next time either
                for end in ("", "-wal", "-shm"):
                    self._file.with_name(self._file.name + end).unlink(missing_ok=True)
            return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch(0o600)  # before SQLite makes it, and its neighbours as it is
            self._db = sqlite3.connect(self._file, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost some; a kill costs none
            self._db.execute(SCHEMA)
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error), closing(self._db):
                self._db = None


@dataclass(frozen=True)
class Memory:
    """What one judge remembers, or several judges of one run share. Without `verdicts` each case is run each time."""

    verdicts: Verdicts | None = None
    builds: Builds = field(default_factory=Builds)
