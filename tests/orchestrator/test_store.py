from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from orchestrator.store import Fenced, NewerState, Store, StoreError, Tx, reading
from orchestrator.store.store import MIGRATIONS, read_payload

NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def note(tx: Tx, text: str) -> None:
    tx.run("INSERT INTO note (topic, session, at, text) VALUES ('t', ?, '', ?)", text, text)


def texts(db: sqlite3.Connection) -> set[str]:
    return {row["text"] for row in db.execute("SELECT text FROM note")}


@BACKENDS
def test_what_waits_together_shares_one_commit_and_is_durable_before_its_answer(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "state.db"
    statements: list[str] = []

    async def scenario() -> None:
        store = Store(path, lambda: NOW)
        go_on = threading.Event()

        async def write(text: str) -> None:
            await store.write(lambda tx: note(tx, text))
            with reading(path) as db:
                assert text in texts(db)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.write, lambda tx: go_on.wait())
            await anyio.wait_all_tasks_blocked()
            store._db.set_trace_callback(statements.append)
            for number in range(50):
                tasks.start_soon(write, f"note {number}")
            await anyio.wait_all_tasks_blocked()
            go_on.set()
        await store.close()

    anyio.run(scenario, backend=backend)
    assert statements.count("COMMIT") <= 2  # of the job that held the writer, and of the fifty
    with reading(path) as db:
        assert len(texts(db)) == 50


def test_a_job_that_raises_undoes_only_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: NOW)

        def half(tx: Tx) -> None:
            note(tx, "half")
            raise LookupError("midway")

        refused = []

        async def write(number: int) -> None:
            try:
                await store.write(half if number % 2 else lambda tx: note(tx, str(number)))
            except LookupError:
                refused.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(write, number)
        assert await store.read(texts) == {"0", "2", "4", "6", "8"} and len(refused) == 5
        await store.close()

    anyio.run(scenario)


@BACKENDS
def test_a_caller_that_goes_away_leaves_a_whole_transaction(tmp_path: Path, backend: str) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: NOW)

        def two(tx: Tx) -> None:
            note(tx, "one")
            note(tx, "two")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.write, two)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert await store.read(texts) in (set(), {"one", "two"})
        await store.close()

    anyio.run(scenario, backend=backend)


def test_a_process_of_an_earlier_epoch_can_write_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = (Store(tmp_path / "state.db", lambda: NOW) for _ in range(2))
        await first.create("run", "{}")
        assert await first.begin_epoch() == 1
        await first.write(lambda tx: note(tx, "mine"))
        assert await second.begin_epoch() == 2
        with pytest.raises(Fenced, match="epoch 2"):
            await first.write(lambda tx: note(tx, "a zombie's"))
        await second.write(lambda tx: note(tx, "ours"))
        assert await second.read(texts) == {"mine", "ours"}
        with pytest.raises(sqlite3.IntegrityError):
            await second.create("run", "{}")
        await first.close()
        await second.close()

    anyio.run(scenario)


def test_a_newer_state_is_refused_in_words_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    anyio.run(Store(path, lambda: NOW).close)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NewerState, match="use the orchestrator that wrote it"):
        Store(path, lambda: NOW)
    with pytest.raises(NewerState), reading(path):
        pass
    assert path.read_bytes() == before


def test_a_commit_is_on_the_disk_before_it_counts(tmp_path: Path) -> None:
    """No test here can cut the power; what makes SQLite safe against it is this setting."""
    store = Store(tmp_path / "state.db", lambda: NOW)
    settings = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    anyio.run(store.close)
    assert settings == [2, "wal"]


def test_an_event_has_the_fields_that_its_kind_declares(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: NOW)
        with pytest.raises(StoreError, match="event swept takes"):
            await store.write(lambda tx: tx.journal("swept", number=3))
        await store.write(lambda tx: tx.journal("swept", count=3))
        await store.close()

    anyio.run(scenario)


def test_a_payload_is_kept_once_and_comes_back_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: NOW)
        one = await store.write(lambda tx: tx.keep("text " * 1000))
        two = await store.write(lambda tx: tx.keep(b"text " * 1000))
        assert one == two and await store.read(lambda db: read_payload(db, one)) == b"text " * 1000
        with pytest.raises(StoreError, match="missing"):
            await store.read(lambda db: read_payload(db, "0" * 64))
        await store.close()

    anyio.run(scenario)


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import anyio
from orchestrator.store import Store

async def main() -> None:
    store = Store(Path(sys.argv[1]), lambda: datetime.now(UTC))
    epoch = await store.begin_epoch()

    async def write(writer: int) -> None:
        for number in range(1_000_000):
            text = f"{epoch}.{writer}.{number}"
            row = "INSERT INTO note (topic, session, at, text) VALUES ('t', ?, '', ?)"
            await store.write(lambda tx: tx.run(row, text, text))
            sys.stdout.write(text + "\\n")
            sys.stdout.flush()

    async with anyio.create_task_group() as tasks:
        for writer in range(8):
            tasks.start_soon(write, writer)

anyio.run(main)
"""


def test_a_kill_during_writes_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def create() -> None:
        store = Store(path, lambda: NOW)
        await store.create("run", "{}")
        await store.close()

    anyio.run(create)
    answered: set[str] = set()
    for lines in (1, 60, 300):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        answered.update(process.stdout.readline().strip() for _ in range(lines))
        process.kill()
        rest = process.stdout.read()
        process.wait()
        answered.update(line for line in rest.split("\n")[:-1] if line)
        with reading(path) as db:
            assert answered <= texts(db)
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
