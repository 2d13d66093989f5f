"""The C compiler's judge on real torture cases."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator.project.folder import load
from orchestrator.project.furnishing import Furnished, Layers, furnish, judge_plan
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.keep import state_home
from sandbox.room import Command, Labels, Room, RoomError, RoomSpec
from verifiers.cases import expand
from verifiers.drawing import Draw, load_plugin
from verifiers.judge import RoomJudge
from verifiers.scorecard import Outcome, Selection, Tier
from verifiers.suites import LockedCase

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parents[2] / "projects/c-compiler"
PROJECT = load(FOLDER)
PLUGIN = load_plugin(FOLDER / "suites/draw.py")
RUN = f"test-c-compiler-{os.getpid()}"  # another test run on this machine sweeps its own rooms alone
SELF_INCLUDING = "torture/vprintf-1"
EVERY = 80  # of 1,592 cases: twenty


class Bench:
    """Judges trees of the project on a few of its cases."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._engine = BubblewrapEngine(state_home())

    def judge(self, furnished: Furnished, cases: tuple[LockedCase, ...]) -> RoomJudge:
        plan = judge_plan(furnished, cases, scratch=self._scratch, secret=b"s", cores=2)
        return RoomJudge(self._engine, plan, Labels(RUN, 1, "judge"))

    @asynccontextmanager
    async def room(self, furnished: Furnished) -> AsyncIterator[Room]:
        """A room where the reference's tools are."""
        spec = RoomSpec("gcc", Labels(RUN, 1, "gcc"), root=furnished.images["judge"])
        room = await self._engine.open(spec)
        yield room
        await room.stop()

    def tree(self, *layers: str) -> Layers:
        return Layers((FOLDER / "seed", *(FOLDER / layer for layer in layers)))

    async def close(self) -> None:
        await self._engine.sweep(RUN, 1_000)
        shutil.rmtree(self._scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def rich() -> Furnished:
    """The rooms of the project, with what its reference may call; built here where that was not done before."""

    async def furnished() -> Furnished:
        engine = BubblewrapEngine(state_home())
        engine.check()
        return await furnish(PROJECT, engine, state_home(), print, for_reference=True)

    try:
        return anyio.run(furnished)
    except RoomError as error:
        if os.geteuid() == 0:
            raise  # the set-up installs what is missing, so that nothing is skipped as root
        pytest.skip(str(error))


@pytest.fixture
async def bench(rich: Furnished) -> AsyncIterator[Bench]:
    (state_home() / "scratch").mkdir(exist_ok=True)
    bench = Bench(Path(tempfile.mkdtemp(prefix="test-", dir=state_home() / "scratch")))
    yield bench
    await bench.close()


async def test_the_reference_passes_the_empty_solution_scores_nothing_and_no_cheat_pays(
    bench: Bench, rich: Furnished
) -> None:
    poor = await furnish(PROJECT, BubblewrapEngine(state_home()), state_home(), print)
    cases = expand(PROJECT.name, PROJECT.folder, poor.folders(), PROJECT.suites)
    some = (*cases[::EVERY], *(case for case in cases if case.id == SELF_INCLUDING))
    settled, _dropped = await bench.judge(rich, some).settle(bench.tree("reference"), print)
    ids = {case.id for case in settled}
    assert len(ids) >= 18 and SELF_INCLUDING in ids

    shown = Selection(Tier.CASES, frozenset({"torture"}))
    passed = {}
    supervisors = ("trace-supervisor", "write-supervisor")  # of which the second makes its runner say that it broke
    for name in ("seed", "reference", "wrap-gcc", "exit-zero", "read-status", "memfd", *supervisors):
        furnished = rich if name == "reference" else poor
        layers = {"seed": (), "reference": ("reference",)}.get(name, ("reference", f"cheats/{name}"))
        judge = bench.judge(furnished, settled)
        card = await judge.judge(bench.tree(*layers), shown)
        assert card.build.ok and bool(card.void) == (name == "write-supervisor"), (name, card.build, card.void)
        passed[name] = card.passed()
        inverses = {id_ for id_ in card.verdicts if judge.twist(id_) == "inverse"}
        everything = frozenset(card.verdicts)
    assert passed["reference"] == everything <= ids and len(inverses) >= 3
    assert not any(passed[name] for name in ("seed", "wrap-gcc", "exit-zero", "memfd", *supervisors))
    assert passed["read-status"] == everything - inverses


async def test_the_seed_s_own_tests_are_read_and_can_be_asked_for_one_by_one(bench: Bench, rich: Furnished) -> None:
    judge = bench.judge(rich, ())
    card = await judge.judge(bench.tree(), Selection(Tier.CASES, frozenset({"unit"})))
    assert card.verdicts and card.passed() == set(card.verdicts) and not card.void
    one = sorted(card.passed())[0]
    again = await judge.judge(bench.tree(), Selection(Tier.CASES, frozenset({one, "unit/main::gone"})))
    assert {id_: verdict.outcome for id_, verdict in again.verdicts.items()} == {
        one: Outcome.PASS,
        "unit/main::gone": Outcome.MISSING,
    }


@pytest.mark.parametrize(
    "text",
    [
        b"int f (int x) { return x * 2; }\nmain ()\n{\n  if (f (21) != 42)\n    abort ();\n  exit (0);\n}\n",
        b"#include <stdlib.h>\nint main (int argc, char **argv)\n{\n  if (argc < 1) abort ();\n  return 0;\n}\n",
        b"int main (void)\n{\n  if (1 != 1) __builtin_abort ();\n}\n",
        b"void main ()\n{\n  if (1 != 1) abort ();\n}\n",
    ],
    ids=["exit undeclared", "arguments and headers", "no return", "void"],
)
async def test_a_right_compiler_gives_the_drawn_answer_either_way(bench: Bench, rich: Furnished, text: bytes) -> None:
    async with bench.room(rich) as room:
        for twist in ("status", "inverse"):
            prepared = PLUGIN.prepare(text, "a.c", Draw(b"k", twist))
            await room.write("/tmp/a.c", prepared.files["a.c"])
            built = await room.run(Command(("gcc", "-w", "/tmp/a.c", "-o", "/tmp/a")))
            assert built.ok, built.stderr
            assert (await room.run(Command(("/tmp/a",)))).exit_code == prepared.expected_status
