"""The C compiler's judge on real torture cases, where this machine has the project's images and sources."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.project.furnishing import Furnished, Layers, furnish, furnish_reference, judge_plan
from orchestrator.project.loading import load
from orchestrator.project.project import Project
from sandbox import image
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.home import state_home
from sandbox.room import Labels
from verifiers.cases import expand
from verifiers.judge import RoomJudge
from verifiers.judging import Selection
from verifiers.locking import settle
from verifiers.scorecard import Outcome
from verifiers.suites import LockedCase

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parents[2] / "projects/c-compiler"
EVERY = 80  # of 1,592 cases: twenty


class Bench:
    """Judges trees of the project on a few of its cases."""

    def __init__(self, project: Project, scratch: Path) -> None:
        self._project = project
        self._scratch = scratch
        self._engine = BubblewrapEngine(state_home())

    def judge(self, furnished: Furnished, cases: tuple[LockedCase, ...]) -> RoomJudge:
        plan = judge_plan(self._project, furnished, cases, scratch=self._scratch, secret=b"s", cores=2)
        return RoomJudge(self._engine, plan, Labels("test-c-compiler", 1, "judge"))

    def tree(self, *layers: str) -> Layers:
        return Layers((FOLDER / "seed", *(FOLDER / layer for layer in layers)))

    async def close(self) -> None:
        await self._engine.sweep("test-c-compiler", 1_000)
        shutil.rmtree(self._scratch, ignore_errors=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    project = load(FOLDER)
    judge_image, reference = project.judge_image, project.reference
    assert judge_image is not None and reference is not None
    rich = replace(judge_image, packages=(*judge_image.packages, *reference.packages))
    if not all(image.find(spec, state_home()) for spec in (project.image, judge_image, rich)):
        pytest.skip("needs the project's images: python -m orchestrator project lock projects/c-compiler")
    (state_home() / "scratch").mkdir(exist_ok=True)
    bench = Bench(project, Path(tempfile.mkdtemp(prefix="test-", dir=state_home() / "scratch")))
    yield bench
    await bench.close()


async def test_the_reference_passes_the_empty_solution_scores_nothing_and_no_cheat_pays(bench: Bench) -> None:
    project = load(FOLDER)
    poor = await furnish(project, state_home(), local=False, progress=lambda _line: None)
    rich = await furnish_reference(project, state_home(), poor, lambda _line: None)
    cases = await expand(project.name, project.folder, poor.folders(), project.suites)
    settled, _dropped = await settle(bench.judge(rich, cases[::EVERY]), bench.tree("reference"))
    ids = {case.id for case in settled}
    assert len(ids) >= 18

    shown = Selection.of(frozenset({"torture"}))
    passed = {}
    for name in ("seed", "reference", "wrap-gcc", "exit-zero", "read-status"):
        furnished = rich if name == "reference" else poor
        layers = {"seed": (), "reference": ("reference",)}.get(name, ("reference", f"cheats/{name}"))
        judge = bench.judge(furnished, settled)
        card = await judge.judge(bench.tree(*layers), shown)
        assert card.build.ok and not card.void, (name, card.build, card.void)
        passed[name] = card.passed()
        inverses = {id_ for id_ in card.verdicts if judge.twist(id_) == "inverse"}
        everything = frozenset(card.verdicts)
    assert passed["reference"] == everything <= ids and len(inverses) >= 3
    assert not passed["seed"] and not passed["wrap-gcc"] and not passed["exit-zero"]
    assert passed["read-status"] == everything - inverses


async def test_the_seed_s_own_tests_are_read_and_can_be_asked_for_one_by_one(bench: Bench) -> None:
    project = load(FOLDER)
    furnished = await furnish(project, state_home(), local=False, progress=lambda _line: None)
    judge = bench.judge(furnished, ())
    card = await judge.judge(bench.tree(), Selection.of(frozenset({"unit"})))
    assert card.verdicts and card.passed() == set(card.verdicts) and not card.void
    one = sorted(card.passed())[0]
    again = await judge.judge(bench.tree(), Selection.of(frozenset({one, "unit/main::gone"})))
    assert {id_: verdict.outcome for id_, verdict in again.verdicts.items()} == {
        one: Outcome.PASS,
        "unit/main::gone": Outcome.MISSING,
    }
