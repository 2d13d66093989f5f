"""The gate over a real store and repository, with a judge that says what it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator import board
from orchestrator.gate import Gate
from orchestrator.records import Change, ChangeState, Session, SessionState, Task, TaskState
from orchestrator.store import Store, Tx, changes, sessions
from tests.orchestrator.workshop import git, make_repository
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tree, Verdict

pytestmark = pytest.mark.anyio
SESSION = "agent-01/1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Oracle:
    """A `Judge` to which one judgement after the other was told: why each case fails, "" where it passes."""

    def __init__(self, *told: dict[str, str]) -> None:
        self._told = iter(told)

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        verdicts = {
            case: Verdict(case, Outcome.FAIL if reason else Outcome.PASS, reason=reason)
            for case, reason in next(self._told).items()
        }
        return Scorecard(tree.id, selection.tier, Build(True, 1.0), verdicts)


async def test_a_landing_gives_the_board_what_of_its_task_fails_for_another_reason_now(tmp_path: Path) -> None:
    """The task was two cases of one cause. The change mends one of them and shows that the other has a second cause."""
    repository = await make_repository(tmp_path)
    judge = Oracle({"c/a": "no parser", "c/b": "no parser"}, {"c/a": "", "c/b": "no linker"})
    store = Store(tmp_path / "state.db", lambda: datetime.now(UTC))
    await store.create("run", "{}")
    await store.begin_epoch()
    gate = Gate(store, repository, judge, None, "run")
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
        queued = (group.id, ChangeState.QUEUED, tx.now, main, commit, tree, "call")
        change = Change("C1", SESSION, "agent-01", *queued, fixes=("c/a",))
        changes.add(tx, change)
        return change

    change = await store.write(submit)
    await gate.settle(change)

    def look(tx: Tx) -> tuple[Task, list[Task]]:
        return board.get(tx.db, change.task), board.open_tasks(tx.db)

    mine, (other,) = await store.write(look)
    assert (mine.cases, mine.state) == (("c/a",), TaskState.CLOSED)
    assert (other.cases, other.state) == (("c/b",), TaskState.READY)
    assert "no linker" in other.signature
    await store.close()
