"""The published history in miniature: eleven changes that pass alone, as the eleven heads of one hour. Six of those did
not compile: duplicate definitions merged twice, both copies deleted, unit tests that do not compile. Here all six are
caught, because the gate judges what main would become.

Real git, a real build, suites and rooms; the language is one of shell functions whose build refuses a name that is
defined twice or not at all.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
import pytest

from orchestrator.gate import Gate
from orchestrator.records import Change, ChangeState
from orchestrator.repository import Repository
from orchestrator.store import Store, changes, rows
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.room import Engine, EngineUnavailable, Labels, RootFs
from tests.orchestrator.workshop import git, hand_in
from tests.verifiers.tiny import HONEST, make_plan, make_project, make_root
from verifiers.cache import Memory, Verdicts
from verifiers.cases import expand
from verifiers.judge import RoomJudge
from verifiers.scorecard import Build, Judge, Scorecard, Selection, Tree
from verifiers.suites import JudgePlan

pytestmark = pytest.mark.anyio

BUILD: Final = r"""
defined=" "
for file in src/*.sh; do
    while read -r name rest; do
        case $name in *"()") ;; *) continue ;; esac
        case "$defined$rest" in
            *"# weak") ;;
            *" $name "*) echo "error: $name is defined multiple times, last in $file"; exit 1 ;;
        esac
        defined="$defined$name "
    done <"$file"
done
for file in src/*.sh; do
    while read -r hash uses name rest; do
        case "$hash $uses$defined" in
            "# uses"*" $name() "*) ;;
            "# uses"*) echo "error: no $name() is found, which $file uses"; exit 1 ;;
        esac
    done <"$file"
done
mkdir out && { echo "#!/bin/sh"; cat src/*.sh; echo 'main "$@"'; } >out/solve && chmod +x out/solve
"""
UNIT: Final = r"""#!/bin/sh
for file in tests/t_*.sh; do
    while read -r hash uses name rest; do
        [ "$hash $uses" = "# uses" ] || continue
        grep -q "^$name() " tests/lib.sh || { echo "error: no $name() is found, which $file uses"; exit 101; }
    done <"$file"
done
set -- tests/t_*.sh
echo "running $# tests"
for file; do file=${file#tests/}; echo "test ${file%.sh} ... ok"; done
printf '\ntest result: ok. %s passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n' "$#"
"""
CHOOSE: Final = 'choose() { status=$well; if grep -q "end abort" "$1"; then status=$aborted; fi; }\n'
SEED: Final = {
    "src/main.sh": '# uses read_case\n# uses choose\n# uses emit\nmain() { read_case "$1"; choose "$1"; emit "$2"; }\n',
    "src/read.sh": 'read_case() { read -r _ well _ aborted <"$1"; }\n',
    "src/choose.sh": CHOOSE,
    "src/emit.sh": 'emit() { printf \'#!/bin/sh\\nexit %s\\n\' "$status" >"$1"; chmod +x "$1"; }\n',
    "src/log.sh": '# uses quote\nlog() { quote "$1"; }\n',
    "src/quote.sh": 'quote() { echo "<$1>"; } # weak\n',
    "src/compat.sh": 'quote() { echo "<$1>"; } # weak\n',
    "src/debug.sh": 'dump() { echo "$1"; }\n',
    "tests/lib.sh": "check_word() { true; }\n",
    "tests/t_reads.sh": "# uses check_word\n",
}


@dataclass(frozen=True)
class Head:
    """One of the eleven: its published commit, what it changes (None deletes), and why ours refuses it, "" where main
    compiled."""

    commit: str
    files: Mapping[str, str | None]
    refused: str = ""


ALIGN: Final = 'align() { echo "$1"; }\n'
WORD: Final = "word() { echo 8; }\n"
HEADS: Final = (
    Head("33daedfe", {"src/x86.sh": ALIGN, "tests/t_align.sh": "# uses check_word\n"}),
    Head("dc2c5d5d", {"src/arm.sh": ALIGN}, "align() is defined multiple times"),
    Head("9a6cabd1", {"src/riscv.sh": ALIGN}, "align() is defined multiple times"),
    Head(  # renames what the first one's new test uses
        "c71b9953",
        {"tests/lib.sh": "check_int() { true; }\n", "tests/t_reads.sh": "# uses check_int\n"},
        "loses unit/t_",
    ),
    Head("504183bb", {"src/quote.sh": None, "src/word.sh": WORD}),
    Head("ec573ecd", {"src/compat.sh": None}, "no quote() is found"),
    Head("8fe4994a", {"src/i686.sh": WORD}, "word() is defined multiple times"),
    Head("4b8027bd", {"src/trace.sh": '# uses dump\ntrace() { dump "$1"; }\n'}),
    Head("dc196034", {"src/debug.sh": 'show() { echo "$1"; }\n'}, "no dump() is found"),
    Head("be93bf56", {"src/elf.sh": 'section() { echo "$1"; }\n'}),
    Head("d1c6b392", {"tests/t_elf.sh": "# uses check_word\n"}),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> RootFs:
    return make_root(tmp_path_factory.mktemp("root"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="history-", dir="/var/tmp") as home:
        Path(home).chmod(0o755)  # every room's user can walk to it
        engine = BubblewrapEngine(Path(home))
        try:
            engine.check()
        except EngineUnavailable as error:
            pytest.skip(str(error))
        yield engine
        anyio.run(engine.sweep, "history", 1_000)


def plan_of(folder: Path, root: RootFs, cases: int) -> JudgePlan:
    suites = make_project(folder, cases)
    (folder / "suites/unit.sh").write_text(UNIT)
    plan = make_plan(folder, root, suites, expand("history", folder, {}, suites))
    return replace(plan, build=plan.build.model_copy(update={"run": BUILD}))


class Content:
    """A `Judge` to which every tree is well: what it is asked is left to the gate."""

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        return Scorecard(tree.id, selection.tier, Build(True, 0.0))


@dataclass(frozen=True)
class Team:
    """A run's gate, and the seats that hand in to it."""

    gate: Gate
    store: Store
    repository: Repository

    async def hand_in(self, *works: Mapping[str, str | None]) -> list[Change]:
        """Changes that were all made on the main of now."""
        return [await hand_in(self.store, self.repository, f"C{n}", files) for n, files in enumerate(works, 1)]

    async def judged(self, handed_in: Sequence[Change]) -> list[Change]:
        """Submits them in this order, and lets the gate work until each has come to its end."""
        for change in handed_in:
            await self.gate.submit(change)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.gate.keep)
            async for _ in self.gate.changed.rings():
                if not await self.store.read(changes.live):
                    break
            tasks.cancel_scope.cancel()
        return await self.store.read(lambda db: rows.find(db, Change, "ORDER BY number"))

    def mains(self) -> list[str]:
        return git(self.repository.git.folder, "rev-list", "--reverse", "main").decode().split()


@asynccontextmanager
async def team(folder: Path, judge: Judge, fast: Judge) -> AsyncIterator[Team]:
    for name, content in SEED.items():
        (folder / "seed" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "seed" / name).write_text(content)
    repository = await Repository.create(folder / "run", folder / "seed", durable=False)
    store = Store(folder / "state.db", lambda: datetime.now(UTC))
    await store.create("run", "{}")
    await store.begin_epoch()
    try:
        yield Team(Gate(store, repository, judge, fast, "run"), store, repository)
    finally:
        await store.close()


@pytest.mark.parametrize("fast", [True, False], ids=["with the fast tier", "the gate alone"])
async def test_of_the_eleven_heads_those_that_broke_main_are_all_caught(
    tmp_path: Path, engine: Engine, root: RootFs, fast: bool
) -> None:
    judge = RoomJudge(engine, plan_of(tmp_path / "project", root, 5), Labels("history", 1, "judge"))
    async with team(tmp_path, judge, judge if fast else Content()) as made:
        floor = (await made.gate.judge_main()).passed()
        handed_in = await made.hand_in(*(head.files for head in HEADS))
        for change in handed_in if fast else ():
            alone = await judge.judge(await made.repository.tree(change.commit), Selection())
            assert alone.build.ok and alone.passed() >= floor, f"{change.id} does not pass alone"
        ended = await made.judged(handed_in)
        for head, change in zip(HEADS, ended, strict=True):
            assert (change.state is ChangeState.BOUNCED) == bool(head.refused), (head.commit, change.reason)
            assert head.refused in change.reason
        assert len(made.mains()) == 1 + sum(not head.refused for head in HEADS)
        for main in made.mains():
            card = await judge.judge(await made.repository.tree(main), Selection(cold=True))
            assert card.build.ok and card.passed() >= floor
            floor = card.passed()
    await judge.close()


async def test_a_case_that_a_change_makes_unsteady_never_lands(tmp_path: Path, engine: Engine, root: RootFs) -> None:
    """Each of the cases fails three times in four: that all pass at once is one chance in a thousand million."""
    luck = "luck() { read -r word </proc/sys/kernel/random/uuid; case $word in [0-9ab]*) status=0 ;; esac; }\n"
    unsteady = {"src/choose.sh": "# uses luck\n" + CHOOSE.replace("fi; }", "fi; luck; }"), "src/luck.sh": luck}
    judge = RoomJudge(engine, plan_of(tmp_path / "project", root, 20), Labels("history", 1, "judge"))
    async with team(tmp_path, judge, Content()) as made:
        steady, shaky = await made.judged(await made.hand_in({"src/x86.sh": ALIGN}, unsteady))
        assert shaky.state is ChangeState.BOUNCED and shaky.lost
        assert steady.state is ChangeState.LANDED
        assert len(made.mains()) == 2
    await judge.close()


async def test_a_poisoned_cache_lands_nothing(tmp_path: Path, engine: Engine, root: RootFs) -> None:
    """Both caches say that a change which loses cases passes them all, before it is submitted."""
    plan, kept = plan_of(tmp_path / "project", root, 5), tmp_path / "verdicts"
    judge = RoomJudge(engine, plan, Labels("history", 1, "judge"), memory=Memory(Verdicts(kept)))
    async with team(tmp_path, judge, judge) as made:
        well = (await made.gate.judge_main()).passed()
        (change,) = await made.hand_in({"src/choose.sh": "choose() { status=$well; }\n"})
        tree = await made.repository.tree(change.commit)
        assert (await judge.judge(tree, Selection())).passed() < well
        with sqlite3.connect(kept) as db:
            db.execute("""UPDATE verdict SET said = json_set(CAST(said AS TEXT), '$.outcome', 'P')""")
        for solve in plan.scratch.glob("*/solve"):
            await anyio.Path(solve).write_text(HONEST)
        assert (await judge.judge(tree, Selection())).passed() == well, "there is no poison in it"
        assert (await judge.judge(tree, Selection(anew=True))).passed() == well, "there is no poison in it"
        (ended,) = await made.judged([change])
        assert ended.state is ChangeState.BOUNCED and ended.lost
        assert len(made.mains()) == 1
    await judge.close()
