"""What judges remember, what it saves, and that no cold judgement hears of it."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sandbox.room import Engine, Labels, Room, RoomSpec, RootFs
from tests.verifiers.test_judge import LABELS, Failing, building, end_cases, script
from tests.verifiers.tiny import HONEST, UNIT_OK, Files, candidate
from verifiers import cache
from verifiers.cache import Builds, Built, Memory, Verdicts
from verifiers.judge import RoomJudge
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Verdict
from verifiers.suites import JudgePlan

pytestmark = pytest.mark.anyio
END = Selection(Tier.CASES, frozenset({"end"}))
ROOT = Path(__file__).parents[2]
LIAR = script("exit 0")  # a compiler that loses every case


def remembering(engine: Engine, plan: JudgePlan, file: Path) -> RoomJudge:
    """As after a restart: of an earlier judge there is the file alone."""
    return RoomJudge(engine, plan, LABELS, memory=Memory(Verdicts(file)))


def counting(engine: Engine) -> Failing:
    return Failing(engine, 0)


class Watched(Failing):
    """Says when so many rooms of cases have been opened."""

    def __init__(self, engine: Engine, rooms: int) -> None:
        super().__init__(engine, 0)
        self._rooms = rooms
        self.reached = anyio.Event()

    async def open(self, spec: RoomSpec) -> Room:
        room = await super().open(spec)
        if self.opened["case"] >= self._rooms:
            self.reached.set()
        return room


def only(cases: set[str] | list[str]) -> Selection:
    return Selection(Tier.CASES, frozenset(cases))


def stored(file: Path) -> dict[str, Verdict]:
    with sqlite3.connect(file) as db:
        rows = [json.loads(said) for (said,) in db.execute("SELECT said FROM verdict ORDER BY n")]
    return {row["case"]: Verdict(**row | {"outcome": Outcome(row["outcome"])}) for row in rows}


def outcomes(card: Scorecard) -> dict[str, Outcome]:
    return {case: verdict.outcome for case, verdict in card.verdicts.items()}


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_judgement_that_was_cut_goes_on_where_it_was(engine: Engine, plan: JudgePlan, tmp_path: Path) -> None:
    cases = sorted(end_cases(plan))
    first = Watched(engine, 9)
    with anyio.CancelScope() as killed:
        judge = remembering(first, plan, tmp_path / "verdicts")  # type: ignore[arg-type]  # delegates
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(judge.judge, candidate(), END)
            await first.reached.wait()
            killed.cancel()
    known = stored(tmp_path / "verdicts")
    assert 0 < len(known) < len(cases)
    second = counting(engine)
    judge = remembering(second, plan, tmp_path / "verdicts")  # type: ignore[arg-type]  # delegates
    card = await judge.judge(candidate(), END)
    assert card.passed() == set(cases) == stored(tmp_path / "verdicts").keys()
    assert second.opened["case"] == 2 * (len(cases) - len(known))  # a compiler's room and a product's


async def test_a_cold_judgement_hears_of_no_poison_and_another_is_misled_at_worst(
    engine: Engine, plan: JudgePlan, tmp_path: Path
) -> None:
    file, tree, cases = tmp_path / "verdicts", candidate(LIAR), end_cases(plan)
    judge = remembering(engine, plan, file)
    assert not (await judge.judge(tree, END)).passed()
    with sqlite3.connect(file) as db:
        db.execute("""UPDATE verdict SET said = json_set(CAST(said AS TEXT), '$.outcome', 'P')""")
    assert (await judge.judge(tree, END)).passed() == cases  # the poison works
    [solve] = plan.scratch.glob("*/solve")
    solve.write_text(HONEST)
    assert (await judge.judge(tree, replace(END, anew=True))).passed()  # this one too
    cold = await judge.judge(tree, replace(END, cold=True))
    assert not cold.passed() and not cold.void and cold.verdicts.keys() == cases
    assert not (await judge.judge(tree, END)).passed()  # and what was found last is what is known


@pytest.mark.parametrize("asked", [replace(END, cold=True), replace(END, anew=True)], ids=["cold", "anew"])
async def test_every_case_is_run_where_that_is_asked_for(
    engine: Engine, plan: JudgePlan, tmp_path: Path, asked: Selection
) -> None:
    rooms = counting(engine)
    judge = remembering(rooms, plan, tmp_path / "verdicts")  # type: ignore[arg-type]  # delegates
    await judge.judge(candidate(), END)
    before = rooms.opened.copy()
    await judge.judge(candidate(), asked)
    assert rooms.opened["case"] == 2 * before["case"]
    assert rooms.opened["other"] == before["other"] + 2 * asked.cold  # a build is two rooms
    await judge.judge(candidate(), END)
    assert rooms.opened["case"] == 2 * before["case"]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def overwritten(file: Path) -> None:
    file.write_bytes(b"\xffnot a database" * 1000)


def of_strangers(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("UPDATE verdict SET said = ?", (b'{"case": "end/c00", "outcome": "X", "seconds": "long"}',))


def exchanged(file: Path) -> None:
    """Each case's verdict is another's."""
    with sqlite3.connect(file) as db:
        db.execute("UPDATE verdict SET said = (SELECT said FROM verdict AS other WHERE other.n = verdict.n % 5 + 1)")


def void(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("UPDATE verdict SET said = json_set(CAST(said AS TEXT), '$.outcome', 'E')")


def of_another_form(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("DROP TABLE verdict")
        db.execute("CREATE TABLE verdict (key TEXT)")


def a_folder(file: Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


@pytest.mark.parametrize("wrong", [cut_short, overwritten, of_strangers, exchanged, void, of_another_form, a_folder])
async def test_what_cannot_be_read_is_forgotten_with_a_line_in_the_log(
    engine: Engine, plan: JudgePlan, tmp_path: Path, wrong: Callable[[Path], None]
) -> None:
    file, asked = tmp_path / "verdicts", only(sorted(end_cases(plan))[:5])
    judge = remembering(engine, plan, file)
    whole = await judge.judge(candidate(), asked)
    assert judge._known
    await judge._known.close()
    wrong(file)
    with capture_logs() as lines:
        again = remembering(engine, plan, file)
        card = await again.judge(candidate(), asked)
    assert outcomes(card) == outcomes(whole) and not card.void
    assert {line["event"] for line in lines} == {"verdict-cache"}
    assert wrong is a_folder or stored(file).keys() == asked.cases  # begun anew, or done without


def changed(plan: JudgePlan, what: str) -> JudgePlan:
    end, unit = plan.suites
    if what in ("suites/make.sh", "suites/draw.py", "cases/c00.txt"):
        with (plan.folder / what).open("a") as file:
            file.write("\n# another\n")
        return plan
    return {
        "secret": replace(plan, secret=b"of another run"),
        "limits": replace(plan, limits=replace(plan.limits, memory=plan.limits.memory // 2)),
        "image": replace(plan, image=replace(image_of(plan), digest="sha256:other")),
        "judge's image": replace(plan, judge_root=replace(image_of(plan), digest="sha256:other")),
        "time": replace(plan, suites=(end.model_copy(update={"time_s": 3.0}), unit)),
        "build": building(plan, f"{plan.build.run} && true"),
    }[what]


def image_of(plan: JudgePlan) -> RootFs:
    assert plan.image
    return plan.image


WHAT = ["secret", "limits", "image", "judge's image", "time", "build"]


@pytest.mark.parametrize("what", [*WHAT, "suites/make.sh", "suites/draw.py", "cases/c00.txt"])
async def test_a_verdict_is_of_all_that_it_hangs_on(engine: Engine, plan: JudgePlan, tmp_path: Path, what: str) -> None:
    [case] = [case for case in plan.cases if case.id == "end/c00"]
    one = replace(plan, cases=(replace(case, heldout=False),))
    judge = remembering(engine, one, tmp_path / "verdicts")
    tree = candidate()
    [before] = judge._keys(tree, one.cases).values()
    assert [before] == [*remembering(engine, one, tmp_path / "verdicts")._keys(tree, one.cases).values()]
    assert [before] != [*judge._keys(candidate(LIAR), one.cases).values()]
    other = remembering(engine, changed(one, what), tmp_path / "verdicts")
    assert [before] != [*other._keys(tree, one.cases).values()]


async def test_a_unit_suite_is_run_each_time(engine: Engine, plan: JudgePlan, tmp_path: Path) -> None:
    judge = remembering(engine, plan, tmp_path / "verdicts")
    unit = only({"unit"})
    assert len((await judge.judge(candidate(), unit)).passed()) == 2
    assert not stored(tmp_path / "verdicts")


async def test_errors_and_timeouts_are_not_kept(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path / "verdicts")
    for outcome in Outcome:
        await verdicts.keep(outcome.name, Verdict(f"s/{outcome.name}", outcome))
    known = await verdicts.known({f"s/{outcome.name}": outcome.name for outcome in Outcome})
    assert {verdict.outcome for verdict in known.values()} == {Outcome.PASS, Outcome.FAIL, Outcome.SKIP}
    await verdicts.close()


async def test_the_oldest_verdicts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "VERDICTS", 3)
    verdicts = Verdicts(tmp_path / "verdicts")
    for number in (0, 1, 2, 3, 4, 1):
        await verdicts.keep(f"k{number}", Verdict(f"s/{number}", Outcome.PASS))
    assert sorted(await verdicts.known({f"s/{number}": f"k{number}" for number in range(5)})) == ["s/1", "s/3", "s/4"]
    await verdicts.close()


async def test_nobody_else_reads_the_verdicts(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path / "verdicts")
    await verdicts.keep("k", Verdict("s/1", Outcome.PASS))
    modes = {path.name: (await path.stat()).st_mode & 0o777 async for path in anyio.Path(tmp_path).iterdir()}
    assert modes == dict.fromkeys(("verdicts", "verdicts-wal", "verdicts-shm"), 0o600)
    await verdicts.close()


async def test_a_kill_costs_no_verdict_that_was_kept(tmp_path: Path) -> None:
    dying = """import os, sys, anyio, pathlib
from verifiers.cache import Verdicts
from verifiers.scorecard import Outcome, Verdict
async def die():
    verdicts = Verdicts(pathlib.Path(sys.argv[1]))
    for number in range(50):
        await verdicts.keep(f"k{number}", Verdict(f"s/{number}", Outcome.PASS))
    os.kill(os.getpid(), 9)
anyio.run(die)
"""
    file = tmp_path / "verdicts"
    done = await anyio.run_process([sys.executable, "-c", dying, str(file)], check=False, cwd=ROOT)
    assert done.returncode == -9
    verdicts = Verdicts(file)
    assert len(await verdicts.known({f"s/{number}": f"k{number}" for number in range(50)})) == 50
    await verdicts.close()


KEPT = st.tuples(
    st.sampled_from("abc"),
    st.builds(
        Verdict,
        st.just("s/1"),
        st.sampled_from(sorted(cache.LASTING)),
        st.floats(0, 1e9),
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8"), max_size=5),
    ),
)


@given(st.lists(KEPT, max_size=12), st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_was_kept_last_is_what_is_known(kept: list[tuple[str, Verdict]], restart: bool) -> None:
    async def known(file: Path) -> Mapping[str, Mapping[str, Verdict]]:
        verdicts = Verdicts(file)
        for key, verdict in kept:
            await verdicts.keep(key, verdict)
        if restart:
            await verdicts.close()
            verdicts = Verdicts(file)
        found = {key: await verdicts.known({"s/1": key}) for key in "abc"}
        await verdicts.close()
        return found

    with TemporaryDirectory() as folder:
        found = anyio.run(known, Path(folder, "verdicts"))
    assert {key: one["s/1"] for key, one in found.items() if one} == dict(kept)


MIXED = """#!/bin/sh
read -r _ well _ aborted <"$1"
grep -qE 'c0[0-3]' "$1" && well=1
grep -qE 'c0[45]' "$1" && { echo "cannot read this"; exit 1; }
printf '#!/bin/sh\\nexit %s\\n' "$well" >"$2"
chmod +x "$2"
"""


@given(st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_remembered_agrees_with_what_is_run(engine: Engine, plan: JudgePlan, data: st.DataObject) -> None:
    """Any judgements of one tree, one after the other, of which later ones ask in part for what is known."""
    cases = sorted(end_cases(plan))
    asked = data.draw(st.lists(st.sets(st.sampled_from(cases), min_size=1, max_size=4), min_size=1, max_size=3))

    async def agree(file: Path) -> None:
        judge, plain, tree = remembering(engine, plan, file), RoomJudge(engine, plan, LABELS), candidate(MIXED)
        for some in asked:
            card = await judge.judge(tree, only(some))
            assert outcomes(card) == outcomes(await plain.judge(tree, only(some)))
            assert card.verdicts.keys() == some and not card.void
        await judge.close()
        await plain.close()

    with TemporaryDirectory() as folder:
        anyio.run(agree, Path(folder, "verdicts"))


# Artifacts


async def test_judges_of_a_run_build_a_tree_once_and_each_can_read_what_another_built(
    engine: Engine, plan: JudgePlan
) -> None:
    closed = building(plan, f"{plan.build.run} && chmod 700 out out/solve")
    rooms, memory = counting(engine), Memory()
    lanes = {
        user: RoomJudge(rooms, replace(closed, scratch=plan.scratch / lane), LABELS, user, memory)  # type: ignore[arg-type]  # delegates
        for user, lane in ((3, "verify"), (1, "gate"))
    }
    for judge in lanes.values():
        card = await judge.judge(candidate(), END)
        assert card.passed() == end_cases(plan)
    assert rooms.opened["other"] == 2
    await lanes[3].close()
    await lanes[1].close()
    assert not [path for lane in plan.scratch.iterdir() for path in lane.iterdir()]


async def test_judges_that_build_one_tree_at_once_leave_nothing_behind(engine: Engine, plan: JudgePlan) -> None:
    memory = Memory()
    lanes = [RoomJudge(engine, replace(plan, scratch=plan.scratch / lane), LABELS, 1, memory) for lane in ("a", "b")]
    async with anyio.create_task_group() as tasks:
        for judge in lanes:
            tasks.start_soon(judge.judge, candidate(), only({"end/c03"}))
    assert len({path.name.split(".")[0] for lane in plan.scratch.iterdir() for path in lane.iterdir()}) == 1
    await lanes[0].close()
    assert not [path for lane in plan.scratch.iterdir() for path in lane.iterdir()]


async def test_old_artifacts_make_room_for_new_ones(engine: Engine, plan: JudgePlan) -> None:
    rooms, one = counting(engine), only({"end/c03"})
    judge = RoomJudge(rooms, plan, LABELS, memory=Memory(builds=Builds(most=2)))  # type: ignore[arg-type]  # delegates
    trees = [candidate(unit=UNIT_OK + "\n" * number) for number in range(3)]
    for tree in (*trees, trees[2], trees[1]):
        await judge.judge(tree, one)
    assert rooms.opened["other"] == 2 * 3
    assert len({path.name.split(".")[0] for path in plan.scratch.iterdir()}) == 2
    await judge.judge(trees[0], one)
    assert rooms.opened["other"] == 2 * 4
    await judge.close()


async def test_artifacts_are_as_large_as_they_are(engine: Engine, plan: JudgePlan) -> None:
    builds = Builds()
    large = building(plan, f"{plan.build.run} && head -c 3000000 /dev/zero >>out/solve")
    await RoomJudge(engine, large, LABELS, memory=Memory(builds=builds)).judge(candidate(), only({"end/c03"}))
    [built] = builds.kept.values()
    assert 3_000_000 < built.size < 4_000_000


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), min_size=1, max_size=30))
def test_no_more_is_kept_than_may_be_and_always_the_newest(made: list[tuple[int, int]]) -> None:
    builds, gone = Builds(most=4, most_bytes=100), list[Built]()
    for number, size in made:
        built = Built(Files({}), Build(True, 0.0), Path(f"{len(gone)}"), size)
        over = builds.keep(str(number), built)
        gone += over
        kept = [*builds.kept.values()]
        assert kept[-1] is built and len(kept) <= 4
        assert len(kept) == 1 or sum(one.size for one in kept) <= 100
        assert all(builds.idle(one) for one in over) and not any(map(builds.idle, kept))
    assert len(gone) + len(builds.kept) == len(made)


# A judgement that need not go on


def alone(plan: JudgePlan) -> JudgePlan:
    """With one core, so that it is known how many cases ran when."""
    return replace(plan, cores=1)


async def test_a_judgement_stops_when_more_is_lost_than_there_is_patience_for(engine: Engine, plan: JudgePlan) -> None:
    judge, floor = RoomJudge(engine, alone(plan), LABELS), frozenset(end_cases(plan))
    card = await judge.judge(candidate(LIAR), replace(END, floor=floor, patience=2))
    assert len(card.verdicts) == 3 and not card.void
    assert card.stopped == f"3 cases lost, {len(floor) - 3} not run"
    assert card.failed(floor) == tuple(sorted(card.verdicts))  # what was not run is no culprit's
    assert card.lost(floor) == tuple(sorted(floor))  # and has not passed


@pytest.mark.parametrize("patience", [0, 100])
async def test_a_judgement_with_patience_runs_everything(engine: Engine, plan: JudgePlan, patience: int) -> None:
    judge, floor = RoomJudge(engine, plan, LABELS), frozenset(end_cases(plan))
    card = await judge.judge(candidate(LIAR), replace(END, floor=floor, patience=patience))
    assert not card.stopped and card.verdicts.keys() == floor == {*card.failed(floor)} == {*card.lost(floor)}


async def test_only_what_main_passes_wears_patience_out(engine: Engine, plan: JudgePlan) -> None:
    judge, floor = RoomJudge(engine, alone(plan), LABELS), frozenset({"end/c03"})
    card = await judge.judge(candidate(LIAR), replace(END, floor=floor, patience=1))
    assert not card.stopped and card.verdicts.keys() == end_cases(plan)


async def test_tests_that_vanish_wear_patience_out_as_well(engine: Engine, plan: JudgePlan) -> None:
    floor = frozenset({"unit/parser::sums", "unit/parser::calls", "unit/gone", "unit/too", *end_cases(plan)})
    card = await RoomJudge(engine, alone(plan), LABELS).judge(candidate(), Selection(floor=floor, patience=1))
    assert card.stopped and card.failed(floor) == ("unit/gone", "unit/too")
    assert card.verdicts["unit/gone"].outcome is Outcome.MISSING


async def test_a_broken_room_wears_nothing_out(engine: Engine, plan: JudgePlan) -> None:
    floor = frozenset(end_cases(plan))
    dead = Failing(engine, 10**9)
    judge = RoomJudge(dead, alone(plan), LABELS)  # type: ignore[arg-type]  # delegates
    card = await judge.judge(candidate(), replace(END, floor=floor, patience=1))
    assert card.void and not card.stopped and card.verdicts.keys() == floor


async def test_known_losses_stop_a_judgement_before_it_runs_a_case(
    engine: Engine, plan: JudgePlan, tmp_path: Path
) -> None:
    rooms, floor = counting(engine), frozenset(end_cases(plan))
    judge = remembering(rooms, plan, tmp_path / "verdicts")  # type: ignore[arg-type]  # delegates
    known = sorted(floor)[:4]
    await judge.judge(candidate(LIAR), only(known))
    before = rooms.opened["case"]
    card = await judge.judge(candidate(LIAR), replace(END, floor=floor, patience=3))
    assert card.stopped and card.failed(floor) == tuple(known) and rooms.opened["case"] == before


async def test_a_short_judgement_does_not_wait_for_all_of_a_long_one(engine: Engine, plan: JudgePlan) -> None:
    rooms, done = Watched(engine, 1), list[str]()
    judge = RoomJudge(rooms, alone(plan), Labels("test", 1, "judge"))  # type: ignore[arg-type]  # delegates

    async def judged(name: str, selection: Selection) -> None:
        await judge.judge(candidate(), selection)
        done.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(judged, "long", END)
        await rooms.reached.wait()
        await judged("short", only({"end/c03"}))
    assert done == ["short", "long"]
