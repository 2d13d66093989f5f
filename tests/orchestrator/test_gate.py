"""The gate over a real store and repository, with a judge that says what it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator import board
from orchestrator.gate import Gate
from orchestrator.records import Change, ChangeState, Session, SessionState, Task, TaskState
from orchestrator.store import Store, Tx, changes, rows, sessions
from tests.orchestrator.workshop import git, make_repository
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tree, Verdict

pytestmark = pytest.mark.anyio
SESSION = "agent-01/1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Oracle:
    """A `Judge` to which one judgement after the other was told: why each case fails, "" where it passes; or, as a
    text, why it says nothing."""

    def __init__(self, *told: dict[str, str] | str) -> None:
        self.left = list(told)
        self.asked: list[Selection] = []

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        told = self.left.pop(0)
        self.asked.append(selection)
        if isinstance(told, str):
            return Scorecard(tree.id, selection.tier, Build(True, 1.0), void=told)
        verdicts = {
            case: Verdict(case, Outcome.FAIL if reason else Outcome.PASS, reason=reason)
            for case, reason in told.items()
        }
        return Scorecard(tree.id, selection.tier, Build(True, 1.0), verdicts)


class Content:
    """A `Judge` to which every tree is well."""

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        return Scorecard(tree.id, selection.tier, Build(True, 1.0))


async def settle(gate: Gate, change: Change) -> None:
    """Submits a change and runs the gate once."""
    await gate.submit(change)
    queue = await gate.open()
    if queue.stack:
        await queue.cycle()


async def queued(folder: Path, judge: Oracle) -> tuple[Gate, Change]:
    """A gate whose main is judged, and a change for the board's one group of failing cases."""
    repository = await make_repository(folder)
    store = Store(folder / "state.db", lambda: datetime.now(UTC))
    await store.create("run", "{}")
    await store.begin_epoch()
    gate = Gate(store, repository, judge, Content(), "run")
    await gate.judge_main()
    main = await repository.main()
    blob = git(repository.git.folder, "hash-object", "-w", "--stdin", stdin=b"parser\n").decode().strip()
    tree = git(repository.git.folder, "mktree", stdin=f"100644 blob {blob}\tparser\n".encode()).decode().strip()
    commit = await repository.commit(tree, main, "A parser", {}, at=datetime.now(UTC), author="agent-01")

    def submit(tx: Tx) -> Change:
        (group,) = board.open_tasks(tx.db)
        assert group.cases == ("c/a", "c/b")
        sessions.start(tx, Session(SESSION, "agent-01", 1, "builder", "open", SessionState.ACTIVE, tx.now, main))
        board.claim(tx, group.id, SESSION)
        whose = (group.id, ChangeState.QUEUED, tx.now, main, commit, tree, "call")
        change = Change("C1", SESSION, "agent-01", *whose, fixes=("c/a",))
        changes.add(tx, change)
        return change

    return gate, await store.write(submit)


SEED = {"c/a": "no parser", "c/b": "no parser"}


async def test_a_landing_gives_the_board_what_of_its_task_fails_for_another_reason_now(tmp_path: Path) -> None:
    """The task was two cases of one cause. The change mends one of them and shows that the other has a second cause."""
    gate, change = await queued(tmp_path, Oracle(SEED, {"c/a": "", "c/b": "no linker"}, {"c/a": ""}))
    await settle(gate, change)

    def look(tx: Tx) -> tuple[Task, list[Task]]:
        return board.get(tx.db, change.task), board.open_tasks(tx.db)

    mine, (other,) = await gate.store.write(look)
    assert (mine.cases, mine.state) == (("c/a",), TaskState.CLOSED)
    assert (other.cases, other.state) == (("c/b",), TaskState.READY)
    assert "no linker" in other.signature
    await gate.store.close()


async def test_what_passes_by_chance_is_not_what_main_has_to_pass_from_then_on(tmp_path: Path) -> None:
    again = {"c/a": "", "c/b": "wrong now", "unit/t_1": "the suite did not report this test"}
    judge = Oracle(SEED, {"c/a": "", "c/b": "", "unit/t_1": ""}, again)
    gate, change = await queued(tmp_path, judge)
    await settle(gate, change)
    assert judge.asked[-1].cases == {"c/a", "c/b", "unit/t_1"}
    assert (await gate.judge_main()).passed() == {"c/a"}
    recorded = await gate.store.read(lambda db: db.execute("SELECT ordinal FROM judged WHERE suite = 'c'").fetchall())
    assert [ordinal for (ordinal,) in recorded] == [0, 1], "the seed and the landing are in the matrix"
    (landed,) = await gate.store.read(
        lambda db: db.execute("SELECT data FROM journal WHERE kind = 'landed'").fetchall()
    )
    assert '"gained": 1' in landed["data"]
    await gate.store.close()


async def test_a_gain_that_the_second_judgement_does_not_speak_of_is_none(tmp_path: Path) -> None:
    gate, change = await queued(tmp_path, Oracle(SEED, {"c/a": "", "c/b": "no linker"}, {}))
    await settle(gate, change)
    assert (await gate.judge_main()).passed() == frozenset()
    assert (await gate.store.read(lambda db: rows.get(db, Change, "C1"))).state is ChangeState.LANDED
    await gate.store.close()


async def test_a_change_that_alone_keeps_the_judge_from_its_end_is_bounced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.queue.VOID_WAIT_S", 0)
    gate, change = await queued(tmp_path, Oracle(SEED, "hm", "hm", "the machine", "hm", "it hangs", SEED))
    states = []
    for _ in range(4):
        await settle(gate, change)
        states.append((await gate.store.read(lambda db: rows.get(db, Change, "C1"))).state)
    # Twice it may be the machine; then main is judged as well, and says nothing at first either.
    assert states == [ChangeState.STAGED] * 3 + [ChangeState.BOUNCED]
    ended = await gate.store.read(lambda db: rows.get(db, Change, "C1"))
    assert ended.reason.startswith("cannot be judged, while main can: it hangs")
    await gate.store.close()
