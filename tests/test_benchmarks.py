"""The benchmarks run and count what they say. How fast anything is, is no test's business."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from benchmarks import claims, overhead, scale
from benchmarks.team import Played, a_run
from orchestrator import board, seat
from orchestrator.seat import next_session
from orchestrator.store import Tx


def test_a_session_of_ours_is_measured_to_its_end() -> None:
    found = anyio.run(overhead.session, 3, "local")
    assert found.keys() == {"own_s", "children_s", "wall_s", "peak_mib"} and found["children_s"] > 0


def test_the_bare_command_of_a_room_is_the_vector_that_the_room_runs() -> None:
    rows = anyio.run(overhead.execs, 1, 1)
    assert [row["exec"] for row in rows[:2]] == ["bubblewrap, Room.run", "bubblewrap, the same vector bare"]


@pytest.mark.parametrize("scheme", ["ours", "pushed", "update-ref"])
def test_every_scheme_claims_and_releases(scheme: str) -> None:
    row = anyio.run(claims.measured, scheme, 2, 1.0)
    assert row.ops_per_s > 0 and row.starved < 2


def test_seats_that_call_verbs_alone_touch_no_room() -> None:
    row = anyio.run(scale.measured, 3, 0.05, 2.0)
    assert row.seats == 3 and row.turns_per_s > 0 and row.claim_p95_ms is not None


def test_a_change_that_wakes_idle_seats_is_looked_at_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    real = seat.begin

    async def counted(who: Any, desk: Any) -> Any:
        looks.append(who.name)
        return await real(who, desk)

    async def scenario() -> None:
        model: Any = Played(lambda _, turn: "Done.")
        engine: Any = scale.Untouchable()
        async with a_run(tmp_path, model, engine, None, seats=9) as desk, anyio.create_task_group() as tasks:

            def drop(tx: Tx) -> None:
                for task in board.open_tasks(tx.db):
                    board.drop_task(tx, task.id, "not now", "test")

            await desk.store.write(drop)
            sql = "SELECT count(DISTINCT seat) FROM journal WHERE kind = 'seat-idle'"
            for idle, one in enumerate(desk.seats, start=1):  # who has waited longer is woken first
                tasks.start_soon(next_session, one, desk)
                while await desk.store.read(lambda db: db.execute(sql).fetchone()[0]) < idle:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                await anyio.wait_all_tasks_blocked()
            looks.clear()
            desk.changed.ring()
            while len(looks) < 1 or desk.refused[0] != desk.changed.rung:  # noqa: ASYNC110  # a thread's work
                await anyio.sleep(0.01)
            await anyio.wait_all_tasks_blocked()
            assert looks == ["agent-01"]
            desk.draining = "over"
            desk.changed.ring()

    monkeypatch.setattr(seat, "begin", counted)
    anyio.run(scenario)
