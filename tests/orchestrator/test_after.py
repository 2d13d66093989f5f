"""What is judged after landing: newest first; losses lead to culprits, tasks and reverts, held-out cases to nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import board
from orchestrator.after import After
from orchestrator.gate import Gate
from orchestrator.recording import FILE
from orchestrator.records import Change, ChangeState, Regression, Session, SessionState, Task, TaskSource, TaskState
from orchestrator.run import nothing_left
from orchestrator.store import Store, Tx, changes, rows, sessions
from orchestrator.watch.journal import entries
from orchestrator.watch.why import why
from tests.orchestrator.dying import AFTER
from tests.orchestrator.running import SUBMIT, Run, Step, Yard, faults, made, shell, small_project, small_team, yard
from tests.orchestrator.test_gate import Content, settle
from tests.orchestrator.workshop import git, make_repository
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Tree, Verdict

FAIL, PASS = Outcome.FAIL, Outcome.PASS


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Truth:
    """A `Judge` that looks at the files of a tree: `breaks` names for each slow case the file that makes it fail.

    `tells` are answers it gives instead, each once: by case and how often it was asked before on this tree.
    """

    folder: Path
    breaks: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    tells: dict[tuple[str, str, int], Outcome] = field(default_factory=dict)  # case, newest file, times
    asked: list[tuple[str, Selection]] = field(default_factory=list)  # newest file of the tree
    voids: int = 0
    needs: str = ""  # the gate's own case wants this file

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        files = git(self.folder, "ls-tree", "--name-only", tree.id).decode().split()
        newest = max((name for name in files if name.startswith("c")), default="seed")
        tier = selection.tier
        if tier is not Tier.FULL and "gate/a" not in selection.cases:
            before = sum(1 for name, _ in self.asked if name == newest)
            self.asked.append((newest, selection))
            if self.voids:
                self.voids -= 1
                return Scorecard(tree.id, tier, Build(True, 1.0), void="the disk is full")
        gate = {"gate/a": PASS if not self.needs or self.needs in files else FAIL}
        if tier is Tier.FULL or "gate/a" in selection.cases:
            found = gate
        else:
            broken = self.hidden if tier is Tier.HELDOUT else self.breaks
            wanted = broken.keys() & selection.cases if tier is Tier.CASES else broken.keys()
            found = {
                case: self.tells.get((case, newest, before), FAIL if broken[case] in files else PASS) for case in wanted
            }
        verdicts = {
            case: Verdict(case, outcome, reason="" if outcome is PASS else f"exit 1 on {newest}", value=1.5, unit="s")
            for case, outcome in sorted(found.items())
        }
        return Scorecard(tree.id, tier, Build(True, 1.0), verdicts)


@dataclass
class House:
    """A run's state and repository, the gate that lands changes, and the lanes behind it."""

    gate: Gate
    truth: Truth
    reverting: frozenset[str] = frozenset()

    @classmethod
    async def make(cls, folder: Path, **truth: Any) -> House:
        repository = await make_repository(folder)
        store = Store(folder / "state.db", lambda: datetime.now(UTC))
        await store.create("run", "{}")
        await store.begin_epoch()
        judge = Truth(repository.git.folder, **truth)
        gate = Gate(store, repository, judge, Content(), "run")
        await gate.judge_main()
        return cls(gate, judge)

    @property
    def store(self) -> Store:
        return self.gate.store

    def lanes(self, *tiers: Tier) -> After:
        judges = dict.fromkeys(tiers or (Tier.MAIN,), self.truth)
        gate = self.gate
        return After(self.store, gate.repository, judges, self.reverting, gate.changed, anyio.Lock())

    async def land(self, *files: str, without: str = "") -> None:
        """Lands one change after the other, each of which adds a file."""
        for name in files:
            repository = self.gate.repository
            main = await repository.main()
            there = git(repository.git.folder, "ls-tree", main).decode().splitlines()
            blob = git(repository.git.folder, "hash-object", "-w", "--stdin", stdin=name.encode()).decode().strip()
            kept = [line for line in there if not (without and line.endswith(f"\t{without}"))]
            entries = "\n".join([*kept, f"100644 blob {blob}\t{name}"])
            tree = git(repository.git.folder, "mktree", stdin=f"{entries}\n".encode()).decode().strip()
            commit = await repository.commit(tree, main, name, {}, at=datetime.now(UTC), author="agent-01")

            def submit(tx: Tx, name: str = name, main: str = main, commit: str = commit, tree: str = tree) -> Change:
                number = rows.next_number(tx, "change")
                session = f"agent-01/{number}"
                sessions.start(
                    tx, Session(session, "agent-01", number, "builder", "open", SessionState.ACTIVE, tx.now, main)
                )
                task = board.add_task(tx, f"make {name}", TaskSource.SEAT, by=session)
                whose = (session, "agent-01", task.id, ChangeState.QUEUED, tx.now, main, commit, tree, f"call {number}")
                change = Change(f"C{number}", *whose, summary=name)
                changes.add(tx, change)
                return change

            await settle(self.gate, await self.store.write(submit))

    async def catch_up(self, lanes: After) -> None:
        """Lets lanes and gate do all there is to do."""
        while not await self.store.read(lambda db: lanes.done(db) and not changes.live(db)):
            for tier in lanes.judges:
                while step := await self.store.read(lambda db, tier=tier: lanes._next(db, tier)):  # type: ignore[misc]
                    await step()
            for change in await self.store.read(changes.live):
                await settle(self.gate, change)

    async def tasks(self) -> list[Task]:
        return await self.store.read(lambda db: rows.find(db, Task, "WHERE source <> 'seat' ORDER BY number"))

    async def regressions(self) -> list[Regression]:
        return await self.store.read(lambda db: rows.find(db, Regression, "ORDER BY bad, case_id"))

    async def told(self, kind: str) -> list[str]:
        found = await self.store.read(lambda db: entries(db, "kind = ?", kind))
        return [f"{entry.word} {entry.text}" for entry in found]

    async def passes(self, case: str) -> str:
        """One letter for each judged main, the seed first."""
        mains = await self.store.read(lambda db: changes.mains(db, 0, 99))
        cards = [
            await self.store.read(lambda db, m=m: changes.scorecard_of(db, m.commit, Tier.MAIN))  # type: ignore[misc]
            for m in mains
        ]
        return "".join(card.verdicts[case].outcome.value if card else "?" for card in cards)


@pytest.fixture
async def house(tmp_path: Path) -> Any:
    made = await House.make(tmp_path, breaks={"slow/k": "c2"})
    yield made
    await made.store.close()


# What is judged, and in which order


@pytest.mark.anyio
async def test_the_newest_main_is_judged_first_and_the_others_when_there_is_time(house: House) -> None:
    await house.land("c1", "c3")
    lanes = house.lanes()
    await house.catch_up(lanes)
    assert [name for name, _ in house.truth.asked] == ["c3", "c1", "seed"]
    assert all(selection == Selection(Tier.MAIN) for _, selection in house.truth.asked)
    assert await house.tasks() == [] and await house.regressions() == []


@pytest.mark.anyio
async def test_what_lands_while_another_is_judged_goes_before_older_ones(house: House) -> None:
    await house.land("c1", "c3")
    lanes = house.lanes()
    step = await house.store.read(lambda db: lanes._next(db, Tier.MAIN))
    assert step is not None
    await step()
    await house.land("c4")
    await house.catch_up(lanes)
    assert [name for name, _ in house.truth.asked] == ["c3", "c4", "c1", "seed"]


@pytest.mark.anyio
async def test_measured_values_are_kept(house: House) -> None:
    await house.catch_up(house.lanes())
    card = await house.store.read(lambda db: changes.newest_card(db, Tier.MAIN))
    assert card is not None and (card.verdicts["slow/k"].value, card.verdicts["slow/k"].unit) == (1.5, "s")


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_a_judgement_that_says_nothing_is_told_and_asked_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.after.VOID_WAIT_S", 0)
    house.truth.voids = 2
    lanes = house.lanes()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lanes.keep)
        with anyio.fail_after(30):
            while not await house.store.read(lanes.done):
                await house.gate.changed.coming.wait()
        tasks.cancel_scope.cancel()
    assert [line for line in await house.told("waiting")] == ["waits the disk is full"] * 2
    assert await house.passes("slow/k") == "P"


# Losses


@pytest.mark.anyio
async def test_the_landing_that_lost_a_case_is_found_and_becomes_a_task_with_the_evidence(house: House) -> None:
    await house.catch_up(house.lanes())
    await house.land("c1", "c2", "c3")
    await house.catch_up(house.lanes())
    (task,) = await house.tasks()
    (lost,) = await house.regressions()
    assert (task.source, task.state, task.cases) == (TaskSource.REGRESSION, TaskState.READY, ("slow/k",))
    assert task.title == "slow/k: lost by C2"
    assert (lost.good, lost.bad, lost.culprit, lost.task, lost.revert) == (0, 3, 2, task.id, "")
    (main,) = await house.store.read(lambda db: changes.mains(db, 2, 2))
    assert task.why.splitlines() == [
        f"C2 by agent-01/2, on main as {main.commit[:7]}, lost what main passed",
        "ERROR slow/k: exit 1 on c2",
        "judged after landing; 3 landings searched with 2 builds",
    ]
    (line,) = await house.told("regressed")
    assert line == ("regressed slow/k by C2 (agent-01/2), T4: ERROR slow/k: exit 1 on c2 · found among 3, 2 built")
    answer = await house.store.read(lambda db: why(db, task.id))
    assert answer["facts"]["why"] == task.why.splitlines()
    assert any("regressed agent-01  slow/k by C2 (agent-01/2)" in line for line in answer["facts"]["history"])
    assert await house.passes("slow/k") == "PPFF"


@pytest.mark.anyio
async def test_a_loss_is_confirmed_by_runs_alone_and_cold_and_each_main_is_built_once_in_the_search(
    house: House,
) -> None:
    await house.catch_up(house.lanes())
    await house.land(*(f"c{n}" for n in range(1, 7)))
    house.truth.asked.clear()
    await house.catch_up(house.lanes())
    (lost,) = await house.store.read(lambda db: db.execute("SELECT * FROM regression").fetchall())
    searched = [name for name, selection in house.truth.asked if selection.tier is Tier.CASES]
    assert searched[:2] == ["c6", "seed"]
    assert len(searched[2:]) == len(set(searched[2:])) == lost["builds"] <= 3 and lost["landings"] == 6
    assert all(one.cold and one.cases == {"slow/k"} for _, one in house.truth.asked if one.tier is Tier.CASES)


@pytest.mark.anyio
async def test_each_culprit_gets_one_task_about_all_that_it_lost(tmp_path: Path) -> None:
    house = await House.make(tmp_path, breaks={"slow/a": "c1", "slow/b": "c3", "slow/c": "c3", "late/d": "c3"})
    await house.catch_up(house.lanes())
    await house.land("c1", "c2", "c3")
    await house.catch_up(house.lanes())
    tasks = {task.title: task.cases for task in await house.tasks()}
    assert tasks == {"slow/a: lost by C1": ("slow/a",), "late: 3 cases: lost by C3": ("late/d", "slow/b", "slow/c")}
    await house.store.close()


@pytest.mark.anyio
async def test_a_loss_that_older_mains_show_later_is_found_as_well(tmp_path: Path) -> None:
    """The seed fails the case, which the first landing mended and the third lost: only a look back tells."""
    house = await House.make(tmp_path, breaks={"slow/k": "README.md"})
    await house.catch_up(house.lanes())
    await house.land("c1", without="README.md")
    await house.land("c2")
    await house.land("README.md")
    await house.catch_up(house.lanes())
    assert await house.passes("slow/k") == "FPPF"
    (lost,) = await house.regressions()
    assert lost.culprit == 3
    (task,) = [task for task in await house.tasks() if task.state is TaskState.READY]
    assert (task.source, task.cases) == (TaskSource.REGRESSION, ("slow/k",))
    await house.store.close()


@pytest.mark.anyio
async def test_the_task_closes_when_a_later_main_passes_the_case_and_nothing_is_told_twice(house: House) -> None:
    await house.catch_up(house.lanes())
    await house.land("c1", "c2")
    await house.catch_up(house.lanes())
    await house.land("c4")
    await house.catch_up(house.lanes())
    await house.land("c5", without="c2")
    assert [task.state for task in await house.tasks()] == [TaskState.READY]
    await house.catch_up(house.lanes())
    assert [task.state for task in await house.tasks()] == [TaskState.CLOSED]
    assert len(await house.told("regressed")) == 1
    assert await house.passes("slow/k") == "PPFFP"


@pytest.mark.anyio
async def test_a_loss_that_is_mended_by_now_is_told_and_becomes_no_task(house: House) -> None:
    await house.land("c1", "c2")
    await house.land("c3", without="c2")
    await house.catch_up(house.lanes())
    assert await house.passes("slow/k") == "PPFP"
    (lost,) = await house.regressions()
    assert (lost.culprit, lost.task) == (2, "") and await house.tasks() == []


@pytest.mark.anyio
async def test_failing_cases_judged_after_landing_are_tasks_like_others_and_stay_so(tmp_path: Path) -> None:
    house = await House.make(tmp_path, breaks={"slow/k": "README.md"})
    await house.catch_up(house.lanes())
    await house.land("c1")
    (task,) = await house.tasks()
    assert (task.source, task.cases, task.state) == (TaskSource.CASES, ("slow/k",), TaskState.READY)
    await house.store.close()


@pytest.mark.anyio
async def test_a_change_that_landed_for_a_task_holds_it_until_main_is_judged(house: House) -> None:
    await house.catch_up(house.lanes())
    await house.land("c2")
    await house.catch_up(house.lanes())
    (task,) = await house.tasks()
    ready: Callable[[Any], list[str]] = lambda db: [one.id for one in board.ready(db) if one.id == task.id]  # noqa: E731
    assert await house.store.read(ready) == [task.id]
    await house.land("c3")
    await house.store.write(lambda tx: tx.run("UPDATE change SET fixes = ? WHERE id = 'C2'", task.cases))
    assert await house.store.read(ready) == []
    await house.catch_up(house.lanes())
    assert await house.store.read(ready) == [task.id]  # it did not help


# What is no loss


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.FAIL])
@pytest.mark.anyio
async def test_a_case_that_only_the_machine_lost_is_not_lost(tmp_path: Path, outcome: Outcome) -> None:
    """It passes when it is run alone; a timeout was the load, anything else is unsteady, here on the older main too."""
    tells = {("slow/k", "c1", 0): outcome, ("slow/k", "seed", 3): Outcome.FAIL}
    house = await House.make(tmp_path, breaks={"slow/k": "never"}, tells=tells)
    await house.catch_up(house.lanes())
    await house.land("c1")
    await house.catch_up(house.lanes())
    late = outcome is Outcome.TIMEOUT
    assert [one.culprit for one in await house.regressions()] == ([] if late else [0])
    assert await house.told("regressed") == []
    assert len(await house.told("main-unsteady")) == (not late)
    assert (await house.passes("slow/k"), len(await house.tasks())) == (("PP", 0) if late else ("PF", 1))
    await house.store.close()


@pytest.mark.anyio
async def test_a_case_that_became_unsteady_is_lost_by_the_landing_that_made_it_so(tmp_path: Path) -> None:
    """On c2 and what follows it fails every other time."""
    flips = {("slow/k", name, n): FAIL for name in ("c2", "c3") for n in (0, 2)}
    house = await House.make(tmp_path, breaks={"slow/k": "never"}, tells=flips)
    await house.catch_up(house.lanes())
    await house.land("c1", "c2", "c3")
    await house.catch_up(house.lanes())
    (lost, *_) = await house.regressions()
    assert lost.culprit == 2
    await house.store.close()


@pytest.mark.anyio
async def test_what_passed_by_chance_on_an_earlier_main_was_lost_by_nobody(tmp_path: Path) -> None:
    house = await House.make(tmp_path, breaks={"slow/k": "README.md"}, tells={("slow/k", "seed", 0): PASS})
    await house.catch_up(house.lanes())
    await house.land("c1")
    await house.catch_up(house.lanes())
    assert [one.culprit for one in await house.regressions()] == [0]
    assert await house.told("main-unsteady") and not await house.told("regressed")
    assert [task.source for task in await house.tasks()] == [TaskSource.CASES]
    await house.store.close()


@pytest.mark.anyio
async def test_of_heldout_cases_nothing_follows(tmp_path: Path) -> None:
    house = await House.make(tmp_path, hidden={"secret/h": "c2"})
    house.reverting = frozenset({"secret"})
    for name in ("c1", "c2", "c3"):
        await house.land(name)
        await house.catch_up(house.lanes(Tier.HELDOUT))
    assert {selection.tier for _, selection in house.truth.asked} == {Tier.HELDOUT}
    assert len(house.truth.asked) == 4  # each main once: nothing was searched
    assert await house.tasks() == [] and await house.regressions() == []
    assert len(await house.told("heldout-judged")) == 4
    told = await house.store.read(lambda db: entries(db))
    assert not any("secret" in entry.text or "secret" in str(entry.data) for entry in told)
    await house.store.close()


# Reverts


@pytest.mark.anyio
async def test_a_revert_goes_through_the_gate_and_the_case_passes_again(house: House) -> None:
    house.reverting = frozenset({"slow"})
    await house.catch_up(house.lanes())
    await house.land("c1", "c2", "c3")
    await house.catch_up(house.lanes())
    assert await house.passes("slow/k") == "PPFFP"
    (task,) = await house.tasks()
    assert (task.state, task.reason) == (TaskState.CLOSED, "1 of 1 cases pass")
    (lost,) = await house.regressions()
    change = await house.store.read(lambda db: rows.get(db, Change, lost.revert or ""))
    assert (change.state, change.seat, change.task, change.fixes) == ("landed", "orchestrator", task.id, ("slow/k",))
    said = git(house.truth.folder, "log", "-1", "--format=%an%n%B", "main").decode()
    assert said == (
        "orchestrator\nTake C2 back: it lost slow/k\n\n"
        f"Run: run\nSeat: orchestrator\nTask: {task.id}\nChange: {change.id}\n\n"
    )
    assert (await house.store.read(lambda db: why(db, change.id)))["outcome"] == "landed"
    files = git(house.truth.folder, "ls-tree", "--name-only", "main").decode().split()
    assert "c2" not in files and {"c1", "c3"} <= set(files)


@pytest.mark.anyio
async def test_the_task_is_held_while_its_revert_is_judged(house: House) -> None:
    house.reverting = frozenset({"slow"})
    await house.catch_up(house.lanes())
    await house.land("c2")
    lanes = house.lanes()
    while step := await house.store.read(lambda db: lanes._next(db, Tier.MAIN)):
        await step()
    (revert,) = await house.store.read(changes.live)
    assert not await house.store.read(board.ready)
    await settle(house.gate, revert)  # landed, and not yet judged after that
    assert not await house.store.read(board.ready)


@pytest.mark.anyio
async def test_a_revert_that_loses_what_main_passes_bounces_and_the_task_stays(tmp_path: Path) -> None:
    house = await House.make(tmp_path, breaks={"slow/k": "c2"}, needs="c2")
    house.reverting = frozenset({"slow"})
    await house.catch_up(house.lanes())
    await house.land("c2")
    await house.catch_up(house.lanes())
    (task,) = [one for one in await house.tasks() if one.source is TaskSource.REGRESSION]
    assert (task.state, task.bounces) == (TaskState.READY, 1)
    assert "loses gate/a" in (await house.told("bounced"))[0]
    assert await house.passes("slow/k") == "PF"
    await house.store.close()


@pytest.mark.anyio
async def test_a_culprit_that_conflicts_with_main_is_not_taken_back_and_that_is_told(house: House) -> None:
    house.reverting = frozenset({"slow"})
    await house.catch_up(house.lanes())
    await house.land("c2")
    # The same path with other content stands in the way of its removal.
    blob = "another"
    real = git(house.truth.folder, "hash-object", "-w", "--stdin", stdin=blob.encode()).decode().strip()

    async def overwrite() -> None:
        repository = house.gate.repository
        main = await repository.main()
        there = git(repository.git.folder, "ls-tree", main).decode().splitlines()
        lines = [line for line in there if not line.endswith("\tc2")] + [f"100644 blob {real}\tc2"]
        tree = git(repository.git.folder, "mktree", stdin=("\n".join(lines) + "\n").encode()).decode().strip()
        commit = await repository.commit(tree, main, "other words", {}, at=datetime.now(UTC), author="agent-01")

        def submit(tx: Tx) -> Change:
            sessions.start(
                tx, Session("agent-02/1", "agent-02", 1, "builder", "open", SessionState.ACTIVE, tx.now, main)
            )
            task = board.add_task(tx, "other words", TaskSource.SEAT, by="agent-02/1")
            whose = ("agent-02/1", "agent-02", task.id, ChangeState.QUEUED, tx.now, main, commit, tree, "call x")
            change = Change("C2", *whose)
            changes.add(tx, change)
            return change

        await settle(house.gate, await house.store.write(submit))

    await overwrite()
    await house.catch_up(house.lanes())
    (lost,) = await house.regressions()
    assert (lost.culprit, lost.revert) == (1, "")
    (line,) = await house.told("not-reverted")
    assert line.startswith("stays C1 is not taken back, ") and "conflicts with main in c2" in line
    assert await house.store.read(changes.live) == []
    assert [task.state for task in await house.tasks()] == [TaskState.READY]


@pytest.mark.anyio
async def test_what_takes_a_change_back_is_never_taken_back_itself(tmp_path: Path) -> None:
    """The case wants both: with c2 `slow/k` fails, without it `slow/j` does."""
    house = await House.make(tmp_path, breaks={"slow/k": "c2", "slow/j": "README.md"})
    house.reverting = frozenset({"slow"})
    await house.catch_up(house.lanes())
    await house.land("c2", without="README.md")
    await house.catch_up(house.lanes())
    reverts = await house.store.read(lambda db: rows.find(db, Change, "WHERE seat = 'orchestrator'"))
    assert [one.state for one in reverts] == ["landed"]
    assert [one.culprit for one in await house.regressions()] == [1, 2]
    (line,) = await house.told("not-reverted")
    assert "it takes another back itself" in line
    await house.store.close()


@pytest.mark.anyio
async def test_a_change_is_taken_back_once_whatever_else_it_is_found_to_have_lost(tmp_path: Path) -> None:
    """While that is tried, an older main shows a second case that the same change lost."""
    house = await House.make(tmp_path, breaks={"slow/k": "c2", "slow/j": "c2"}, needs="c2")
    house.truth.tells[("slow/j", "seed", 0)] = FAIL  # so that only c1 shows it as passing
    house.reverting = frozenset({"slow"})
    await house.catch_up(house.lanes())
    await house.land("c1", "c2")
    await house.catch_up(house.lanes())
    assert {one.case: one.culprit for one in await house.regressions()} == {"slow/j": 2, "slow/k": 2}
    assert len(await house.store.read(lambda db: rows.find(db, Change, "WHERE seat = 'orchestrator'"))) == 1
    (line,) = await house.told("not-reverted")
    assert "C2 is not taken back" in line and "C3, which was to do that, is queued" in line
    await house.store.close()


@pytest.mark.anyio
async def test_a_test_that_vanishes_once_is_asked_for_again(tmp_path: Path) -> None:
    house = await House.make(tmp_path, breaks={"slow/k": "never"}, tells={("slow/k", "c1", 0): Outcome.MISSING})
    await house.catch_up(house.lanes())
    await house.land("c1")
    await house.catch_up(house.lanes())
    assert [one.culprit for one in await house.regressions()] == [1]  # it was there each time before c1
    await house.store.close()


@pytest.mark.anyio
async def test_the_goal_is_reached_when_the_newest_main_passes_what_is_judged_after_landing(house: House) -> None:
    async def reached() -> bool:
        main = await house.gate.repository.main()
        return await house.store.read(lambda db: house.lanes().all_pass(db, main))

    seen = [await reached()]
    await house.catch_up(house.lanes())
    seen.append(await reached())
    for name in ("c1", "c2"):
        await house.land(name)
        seen.append(await reached())
        await house.catch_up(house.lanes())
        seen.append(await reached())
    assert seen == [False, True, False, True, False, False]


@pytest.mark.anyio
async def test_a_run_with_a_fix_that_is_still_judged_has_something_left(house: House) -> None:
    await house.catch_up(house.lanes())
    await house.land("c2")
    await house.catch_up(house.lanes())
    (task,) = await house.tasks()

    def alone(tx: Tx) -> None:
        tx.run("UPDATE session SET state = 'ended'")
        tx.run("UPDATE task SET state = 'closed' WHERE id <> ?", task.id)

    await house.land("c3")
    await house.store.write(alone)
    assert not await house.store.read(lambda db: nothing_left(db, set()))
    await house.store.write(lambda tx: tx.run("UPDATE change SET fixes = ? WHERE id = 'C2'", task.cases))
    assert not await house.store.read(board.ready)
    assert not await house.store.read(lambda db: nothing_left(db, set()))


# Crashes


class Killed(Exception):
    pass


@contextmanager
def dying(store: Store, after: int, *, before: bool) -> Iterator[None]:
    """The process dies at the so manieth write, before it or when it is done."""
    whole, left = store.write, after

    async def write(work: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and before:
            raise Killed
        done = await whole(work)
        if left < 0:
            raise Killed
        return done

    store.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        store.write = whole  # type: ignore[method-assign]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.anyio
async def test_a_kill_between_any_two_steps_goes_on(tmp_path: Path, before: bool) -> None:
    """At each write of the way in turn, until a process gets to its end."""
    for deaths in range(99):
        house = await House.make(tmp_path / str(deaths), breaks={"slow/k": "c2"})
        house.reverting = frozenset({"slow"})
        await house.catch_up(house.lanes())
        await house.land("c2", "c3")
        try:
            with dying(house.store, deaths, before=before):
                await house.catch_up(house.lanes())
            killed = False
        except Killed:
            killed = True
            gate = house.gate
            house.gate = Gate(gate.store, gate.repository, gate.judge, gate.fast, gate.run)
            await house.gate.recover()
            await house.catch_up(house.lanes())
        assert await house.passes("slow/k") == "PFFP"
        assert [task.state for task in await house.tasks()] == [TaskState.CLOSED]
        assert [one.culprit for one in await house.regressions()] == [1]
        assert len(await house.told("regressed")) == 1
        assert len(await house.store.read(lambda db: rows.find(db, Change, "WHERE seat = 'orchestrator'"))) == 1
        await house.store.close()
        if not killed:
            break
    assert deaths >= 8  # two judgements, the culprit, the revert, four of its landing


# A whole run, in real rooms

SLOW = """#!/bin/sh
sleep 1
read -r name <"$CASE"
[ ! -e "$ARTIFACTS/parts/$name" ] || { echo "ERROR there is a $name"; exit 1; }
"""
SPOIL = (
    "git log --format=%s | grep -q Spoil && echo hard >parts/hard || touch parts/spoiler; git add -A; git commit -qm X"
)


def slow_run(place: Yard) -> Run:
    """Three landings of one seat: the second is a try at a hard part that spoils what a slow suite asks for."""
    project = small_project(place.folder / "small", ("blue", "hard", "red"))
    suite = (
        '[[suite]]\nname = "slow"\ncases = "suites/slow/*.txt"\nrun = "suites/slow.sh"\nwhen = "main"\nrevert = true\n'
    )
    file = project / "project.toml"
    file.write_text(file.read_text().replace("[roles]", f"{suite}[roles]"))
    (project / "suites/slow").mkdir()
    for name in ("spoiler", "other"):
        (project / f"suites/slow/no-{name}.txt").write_text(f"{name}\n")
    (project / "suites/slow.sh").write_text(SLOW)
    (project / "suites/slow.sh").chmod(0o755)

    def calls(part: str) -> list[Step]:
        return [shell(SPOIL), SUBMIT | {"summary": "Spoil"}] if part == "hard" else [made(part), SUBMIT]

    team = small_team(place.folder / "team.toml", ("blue", "hard", "red"), calls)
    return place.create(project, 1, models={"": f"scripted:{team}"}, budget=50_000_000)


def test_a_run_finds_takes_back_and_tells_what_a_slow_suite_lost_though_it_is_killed_on_the_way() -> None:
    with yard() as place:
        run = slow_run(place)
        for point in AFTER:
            run.serve(dying=point)
            run.died()
        run.serve()
        run.finish()
        assert faults(run) == []
        (lost,) = run.rows("SELECT * FROM regression")
        (culprit,) = run.rows(
            "SELECT c.* FROM change c JOIN landing l ON l.change = c.id WHERE l.number = ?", lost["culprit"]
        )
        assert (lost["case_id"], lost["line"]) == ("slow/no-spoiler", "ERROR slow/no-spoiler: there is a spoiler")
        assert culprit["summary"] == "Spoil" and "hard" in culprit["fixes"]
        (back,) = run.rows("SELECT * FROM change WHERE seat = 'orchestrator'")
        assert (back["id"], back["state"], back["files"]) == (lost["revert"], "landed", '["parts/spoiler"]')
        (task,) = run.rows("SELECT * FROM task WHERE source = 'regression'")
        assert (task["id"], task["state"]) == (lost["task"], "closed")
        assert set((run.outcomes(run.commits()[-1], "main") or {}).values()) == {"PASS"}
        assert set((run.outcomes(run.commits()[-1]) or {}).values()) == {"PASS"}
        assert all(run.outcomes(commit, "main") for commit in run.commits())  # those between, when there was time
        assert run.one("SELECT count(*) FROM journal WHERE kind = 'regressed'") == 1
        told = place.say("why", task["id"]).stdout
        assert f"slow/no-spoiler: lost by {culprit['id']}" in told and "searched with" in told
        logs = place.say("logs", "run", "run").stdout
        assert f"regressed agent-01  slow/no-spoiler by {culprit['id']} ({culprit['session']})" in logs
        shown = json.loads(place.say("status", "--json").stdout)
        assert {name: one["passed"] for name, one in shown["suites"].items()} == {"parts": 4, "slow": 2}
        assert [seat["seat"] for seat in shown["seats"]] == ["agent-01"]
        project = place.folder / "small"
        assert place.say("record", "run", str(project / "recording")).returncode == 0
        again = place.create(project, 1, name="again", models={"": "recorded"})
        again.serve("after its culprit is named")
        again.died()
        again.serve()
        again.finish()
        assert again.commits() == run.commits(), again.tail()
        assert place.say("record", "again", str(place.folder / "made")).returncode == 0
        assert (place.folder / "made/recording.jsonl.xz").read_bytes() == (project / FILE).read_bytes()
        assert faults(again) == [] and place.leftovers() == []
