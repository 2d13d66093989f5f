"""The laws of the merge queue over real git: whatever is submitted and wherever the run dies, main's history is lawful.

What a tree passes is written in its files, so that the truth about any commit can be read from git, whatever the queue
and its book believe.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import anyio
import anyio.lowlevel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestrator.gate import Gate
from orchestrator.records import Change, ChangeState
from orchestrator.repository import Repository
from orchestrator.store import Store, changes, rows
from orchestrator.store.store import connect
from tests.orchestrator.workshop import git, hand_in
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Tree, Verdict

NOON: Final = datetime(2025, 3, 14, 12, 0, tzinfo=UTC)
CASES: Final = frozenset(f"s/{number}" for number in range(6))
AREAS: Final = ("a", "b")  # files that many changes edit
Files = dict[str, str]


@dataclass(frozen=True)
class Sort:
    """What a change is like. It edits the same line of an area's file as every other change there, loses cases alone,
    breaks a case together with any other change of its kind, does not build, makes a case fail every other time, gains
    a case, or passes a new one by chance."""

    area: str = ""
    loses: frozenset[str] = frozenset()
    together: str = ""
    builds: bool = True
    unsteady: str = ""
    gains: bool = False
    lucky: bool = False

    def files(self, id: str) -> Files:
        found = {f"own/{id}": id}
        found |= {f"area/{self.area}": "".join(f"line {n}\n" for n in range(9)) + f"{id}\n"} if self.area else {}
        found |= {f"loses/{id}": " ".join(sorted(self.loses))} if self.loses else {}
        found |= {f"together/{self.together}/{id}": ""} if self.together else {}
        found |= {f"broken/{id}": ""} if not self.builds else {}
        found |= {f"unsteady/{id}": self.unsteady} if self.unsteady else {}
        found |= {f"gains/{id}": ""} if self.gains else {}
        return found | ({f"lucky/{id}": ""} if self.lucky else {})

    @property
    def innocent(self) -> bool:
        return self.builds and not (self.loses or self.together or self.unsteady)


@dataclass(frozen=True)
class Truth:
    """What is so of a tree, from its files alone."""

    builds: bool
    passes: frozenset[str]  # each time
    unsteady: frozenset[str]
    lucky: frozenset[str]  # pass once in a while

    @classmethod
    def of(cls, files: Files) -> Truth:
        def under(folder: str) -> list[str]:
            return [name.removeprefix(f"{folder}/") for name in files if name.startswith(f"{folder}/")]

        pairs = [name.partition("/")[0] for name in under("together")]
        lost = {case for id in under("loses") for case in files[f"loses/{id}"].split()}
        lost |= {f"s/{kind}" for kind in pairs if pairs.count(kind) > 1}
        shaky = frozenset(files[f"unsteady/{id}"] for id in under("unsteady")) - lost
        gained = {f"gain/{id}" for id in under("gains")}
        lucky = frozenset(f"luck/{id}" for id in under("lucky"))
        return cls(not under("broken"), frozenset(CASES | gained) - lost - shaky, shaky, lucky)


class Died(BaseException):
    """The process is gone."""


@dataclass
class Death:
    """Counts the steps that the queue takes over its seams, and dies in front of one of them. Never, when it is None:
    the steps before and after each call on trees, judge and book are those that a crash can fall between."""

    at: int | None = None
    steps: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        self.steps.append(name)
        if self.at is not None and len(self.steps) > self.at:
            raise Died(name)

    def watch(self, seam: Any, *names: str) -> Any:
        """The seam, mortal."""
        return _Mortal(seam, self, names)


class _Mortal:
    def __init__(self, seam: Any, death: Death, names: Collection[str]) -> None:
        self._seam, self._death, self._names = seam, death, names

    def __getattr__(self, name: str) -> Any:
        whole: Callable[..., Any] = getattr(self._seam, name)
        if name not in self._names:
            return whole

        async def mortal(*arguments: Any, **named: Any) -> Any:
            self._death.step(f"before {name}")
            result = await whole(*arguments, **named)
            self._death.step(f"after {name}")
            return result

        return mortal


class Reader:
    """A `Judge` that reads what a tree passes from its files. A case that a tree makes unsteady fails in every whole
    suite, and every other time alone. `void`: its judgements, by number, that say nothing."""

    def __init__(self, void: Iterable[int]) -> None:
        self.void, self.void_met = set(void), list[int]()
        self.passed: dict[str, frozenset[str]] = {}  # by tree: what its last whole suite passed
        self._truths: dict[str, Truth] = {}
        self._judgements = 0
        self._alone: Counter[str] = Counter()

    async def truth(self, tree: Tree) -> Truth:
        if tree.id not in self._truths:
            data = b"".join([piece async for piece in tree.tar()])
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                read = {one.name: tar.extractfile(one) for one in tar if one.isfile()}
                self._truths[tree.id] = Truth.of({name: file.read().decode() for name, file in read.items() if file})
        return self._truths[tree.id]

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        self._judgements += 1
        truth, passing = await self.truth(tree), frozenset[str]()
        if self._judgements in self.void:
            self.void_met.append(self._judgements)
            return Scorecard(tree.id, selection.tier, Build(True, 0.0), void="the machine is tired")
        if not truth.builds:
            return Scorecard(tree.id, selection.tier, Build(False, 0.0, "error: no"))
        asked = selection.cases or CASES | truth.passes | truth.lucky
        if selection.tier is Tier.FULL:
            self.passed[tree.id] = passing = truth.passes | truth.lucky
        elif selection.tier is Tier.FAST:
            asked, passing = frozenset(sorted(CASES)[::3]), truth.passes | truth.unsteady
        else:
            self._alone[tree.id] += 1
            passing = truth.passes | (truth.unsteady if self._alone[tree.id] % 2 else frozenset())
        verdicts = {case: Verdict(case, Outcome.PASS if case in passing else Outcome.FAIL) for case in sorted(asked)}
        return Scorecard(tree.id, selection.tier, Build(True, 0.0), verdicts)


@dataclass
class Yard:
    """One run's folder, with real repositories, a real store and the real gate, over such changes."""

    folder: Path
    sorts: dict[str, Sort]
    death: Death
    reader: Reader

    async def drive(self, pauses: Iterable[int] | None) -> None:
        """One process: it recovers, submits the changes at such moments, if any, and works until each has its end."""
        repository = Repository(self.folder, durable=False)
        store = Store(self.folder / "state.db", lambda: NOON)
        if pauses is not None:
            await store.create("run", "{}")
        await store.begin_epoch()
        mortal = self.death.watch(repository, "merge", "commit", "land")
        judge = self.death.watch(self.reader, "judge")
        gate = Gate(self.death.watch(store, "write"), mortal, judge, self.reader, "run")
        try:
            await repository.recover()
            await gate.recover()
            queue = await gate.open()
            whole = queue.cycle

            async def cycle() -> None:
                before, void = await store.read(_live), len(self.reader.void_met)
                await whole()
                ended = before - await store.read(_live)
                assert ended or len(self.reader.void_met) > void, "a cycle that ended no change"

            queue.cycle = cycle  # type: ignore[method-assign]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gate.keep)
                for id, pause in zip(self.sorts, pauses or (), strict=False):
                    for _ in range(pause):
                        await anyio.lowlevel.checkpoint()
                    tasks.start_soon(gate.submit, await hand_in(store, repository, id, self.sorts[id].files(id)))
                with anyio.fail_after(300):  # it hangs
                    async for _ in gate.changed.rings():
                        if not await store.read(_live):
                            break
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()

    # The laws

    async def check(self) -> None:
        repository = Repository(self.folder, durable=False)
        with closing(connect(self.folder / "state.db")) as db:
            ended = rows.find(db, Change)
            told = [row["data"] for row in db.execute("SELECT data FROM journal WHERE kind IN ('landed', 'bounced')")]
            sql = "SELECT DISTINCT commit_id FROM landing JOIN scorecard ON scorecard.id = scorecard ORDER BY number"
            mains = [row["commit_id"] for row in db.execute(sql)]
            cards = {main: changes.scorecard_of(db, main) for main in mains}
        # Each change comes to one end, and is told so once.
        assert sorted(json.loads(data)["change"] for data in told) == sorted(change.id for change in ended)
        assert all(change.state.terminal for change in ended)
        # Main is the landed changes, each as one commit with its own files and no other's.
        pretty = "--format=%H %P %(trailers:key=Change,valueonly,separator=)"
        log = git(self.folder / "repo.git", "log", "--reverse", pretty, "main").decode().splitlines()[1:]
        history = [line.split() for line in log]
        landed = {change.landed_as: change.id for change in ended if change.state is ChangeState.LANDED}
        assert {commit: id for commit, _, id in history} == landed and len(landed) == len(history)
        for commit, parent, id in history:
            difference = git(self.folder / "repo.git", "diff-tree", "-r", "--name-only", parent, commit).decode()
            assert set(difference.split()) == set(self.sorts[id].files(id)), "it carries what is not its own"
        # Wherever main was, the whole suite had been judged on that very tree, and passed what every main before did.
        best = CASES
        assert mains[-1:] == [commit for commit, _, _ in history][-1:]
        for main in mains:
            tree, card = await repository.tree(main), cards[main]
            truth = await self.reader.truth(tree)
            assert truth.builds and truth.passes >= best and not truth.unsteady
            assert card and card.tree == tree.id and self.reader.passed[tree.id] >= card.passed() >= best
            assert card.passed() <= truth.passes, "what passed by chance is held against later changes"
            best = truth.passes
        # Nobody pays for another's breakage, unless luck made a case look as if it had two answers.
        if not any(sort.unsteady for sort in self.sorts.values()):
            for change in ended:
                sort = self.sorts[change.id]
                assert change.state is ChangeState.LANDED or not sort.innocent or sort.area
                assert set(change.lost) <= sort.loses | {f"s/{sort.together}"}


def _live(db: sqlite3.Connection) -> set[str]:
    return {change.id for change in changes.live(db)}


_TEMPLATE: Final = tempfile.TemporaryDirectory()


@cache
def template() -> Path:
    """A run's repositories with a seed, made once."""
    made, seed = Path(_TEMPLATE.name, "run"), Path(_TEMPLATE.name, "seed")
    (seed / "area").mkdir(parents=True)
    for area in AREAS:
        (seed / "area" / area).write_text("".join(f"line {n}\n" for n in range(10)))
    anyio.run(partial(Repository.create, made, seed, durable=False))
    return made


def run(work: Sequence[tuple[Sort, int]], *, dies: int | None = None, void: Iterable[int] = ()) -> dict[str, Change]:
    """A run to its end, or to its death and then resumed; the laws are checked. Returns the changes as they ended."""
    made = template()
    with tempfile.TemporaryDirectory() as name, patch("orchestrator.queue.VOID_WAIT_S", 0):
        folder = Path(name, "run")
        shutil.copytree(made, folder)
        yard = Yard(folder, {f"C{n}": sort for n, (sort, _) in enumerate(work, 1)}, Death(dies), Reader(void))

        async def whole() -> None:
            try:
                await yard.drive([pause for _, pause in work])
            except* Died:
                yard.death = Death()
                await yard.drive(None)
            await yard.check()

        anyio.run(whole)
        with closing(connect(folder / "state.db")) as db:
            return {change.id: change for change in rows.find(db, Change)}


SORTS: Final = st.builds(
    Sort,
    area=st.sampled_from(["", "", *AREAS]),
    loses=st.sampled_from([frozenset(), frozenset(), frozenset({"s/0"}), frozenset({"s/1", "s/2"})]),
    together=st.sampled_from(["", "", "3"]),
    builds=st.sampled_from([True, True, True, True, False]),
    unsteady=st.sampled_from(["", "", "", "s/5"]),
    gains=st.booleans(),
    lucky=st.booleans(),
)
WORK: Final = st.lists(st.tuples(SORTS, st.integers(0, 40)), min_size=1, max_size=6)
few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # a failing example is small already, and dear
)


@few
@given(WORK, st.sets(st.integers(2, 12), max_size=2))  # the first is the seed's
def test_whatever_is_submitted_mains_history_is_lawful(work: list[tuple[Sort, int]], void: set[int]) -> None:
    run(work, void=void)


@few
@given(WORK, st.integers(0, 80))
def test_wherever_the_gate_dies_the_resumed_one_gives_a_lawful_history(work: list[tuple[Sort, int]], at: int) -> None:
    run(work, dies=at)


PAIR: Final = [(Sort(together="3"), 0), (Sort(), 0), (Sort(together="3", gains=True), 0), (Sort(area="a"), 0)]


def test_of_changes_that_fail_together_and_pass_alone_one_lands() -> None:
    ended = run(PAIR)
    assert [ended[id].state for id in ("C1", "C2", "C4")] == [ChangeState.LANDED] * 3
    assert (ended["C3"].state, ended["C3"].lost) == (ChangeState.BOUNCED, ("s/3",))
