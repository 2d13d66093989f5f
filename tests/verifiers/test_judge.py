"""What a judgement promises, with real rooms and a project of small cases."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.local import LocalEngine
from sandbox.room import Engine, Labels, Room, RoomError, RoomSpec
from tests.verifiers.tiny import HONEST, UNIT_OK, Files, candidate
from verifiers.judge import ReferenceFailed, RoomJudge
from verifiers.scorecard import Outcome, Scorecard, Selection, Tier
from verifiers.suites import JudgePlan

pytestmark = pytest.mark.anyio
LABELS = Labels("test", 1, "judge")


def judge_of(engine: Engine, plan: JudgePlan) -> RoomJudge:
    return RoomJudge(engine, plan, LABELS)


def building(plan: JudgePlan, run: str) -> JudgePlan:
    return replace(plan, build=plan.build.model_copy(update={"run": run}))


def end_cases(plan: JudgePlan, *, heldout: bool = False) -> set[str]:
    return {case.id for case in plan.cases if case.heldout is heldout}


def script(body: str) -> str:
    """A compiler whose programs are `body`."""
    return f'#!/bin/sh\nread -r _ well _ aborted <"$1"\ncat >"$2" <<END\n#!/bin/sh\n{body}\nEND\nchmod +x "$2"\n'


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_honest_pass_everything_and_every_asked_case_gets_one_verdict(
    engine: Engine, plan: JudgePlan
) -> None:
    card = await judge_of(engine, plan).judge(candidate(), Selection())
    assert not card.void and card.build.ok
    assert card.passed() == set(card.verdicts) == end_cases(plan) | {"unit/parser::sums", "unit/parser::calls"}


async def test_where_nothing_isolates_the_verdicts_are_the_same(plan: JudgePlan, rooms_home: Path) -> None:
    bare = replace(plan, image=None, judge_root=None)
    judge = judge_of(LocalEngine(rooms_home), bare)
    card = await judge.judge(candidate(), Selection())
    assert card.passed() == set(card.verdicts) == end_cases(plan) | {"unit/parser::sums", "unit/parser::calls"}
    card = await judge.judge(candidate(script("exit 0")), Selection(Tier.CASES, frozenset({"end"})))
    assert len(card.verdicts) == len(end_cases(plan)) and not card.passed()


@pytest.mark.parametrize(
    "solve",
    [
        script("exit 0"),
        script("kill -6 \\$\\$"),
        "#!/bin/sh\nexit 0\n",
        "#!/bin/sh\nexit 1\n",
    ],
    ids=["always exit 0", "always abort", "true", "false"],
)
async def test_a_compiler_that_does_not_read_the_case_scores_nothing(
    engine: Engine, plan: JudgePlan, solve: str
) -> None:
    card = await judge_of(engine, plan).judge(candidate(solve), Selection(Tier.CASES, frozenset({"end"})))
    assert len(card.verdicts) == len(end_cases(plan)) and not card.passed() and not card.void


async def test_a_compiler_that_reads_the_drawn_status_loses_exactly_the_inverses(
    engine: Engine, plan: JudgePlan
) -> None:
    judge = judge_of(engine, plan)
    card = await judge.judge(candidate(script("exit $well")), Selection(Tier.CASES, frozenset({"end"})))
    inverses = {case for case in card.verdicts if judge.twist(case) == "inverse"}
    assert len(inverses) > 3 and card.passed() == set(card.verdicts) - inverses
    assert {card.verdicts[case].reason for case in inverses} == {"run: ended well, expected: aborted"}


async def test_a_case_cannot_see_other_cases_the_expected_output_or_the_supervisor(
    engine: Engine, plan: JudgePlan
) -> None:
    spy = """#!/bin/sh
    canaries='CANARY-c[0-9]+-END|[d]ef prepare|[s]ecret of a run'
    seen=$(grep -rlE "$canaries" / --exclude-dir=proc --exclude-dir=sys 2>/dev/null)
    processes=$(ls -d /proc/[0-9]* | wc -l)
    net=$(grep -c : /proc/net/dev)
    touch "$1" "$ARTIFACTS/x" /case/x /x 2>/dev/null && seen="$seen written"
    left=$(ls -A /workspace /tmp | grep -cvE '^log$|^$|:$')
    echo $seen"; left $left; net $net; processes $((processes < 8)); $(set | grep -cE 'KEY|HOME=/root')"
    touch /tmp/left "$OUT/left"
    exit 1
    """
    card = await judge_of(engine, plan).judge(candidate(spy), Selection(Tier.CASES, frozenset({"end"})))
    reasons = {verdict.reason for verdict in card.verdicts.values()}
    assert reasons == {"compile: /case/files/case.txt; left 0; net 1; processes 1; 0"}


async def test_the_product_runs_with_nothing_beside_it_and_cannot_change_itself(
    engine: Engine, plan: JudgePlan
) -> None:
    empty = r'[ -z "\$(ls -A /case && ls -A /artifacts && ls -A /tmp)" ] && ! touch /workspace/x'
    alone = f"{empty} && [ -z \\$CASE\\$ARTIFACTS ] || exit 2\nexit $well"
    judge = judge_of(engine, plan)
    card = await judge.judge(candidate(script(alone)), Selection(Tier.CASES, frozenset({"end"})))
    assert card.passed() == {case for case in card.verdicts if judge.twist(case) == "status"}


async def test_nothing_that_a_compiler_writes_can_be_executed_while_it_compiles(
    engine: Engine, plan: JudgePlan
) -> None:
    smuggler = """#!/bin/sh
    for place in /tmp "$OUT" /workspace; do cp /bin/true "$place/run" && "$place/run" && echo "ran in $place"; done
    exit 1
    """
    one = sorted(end_cases(plan))[0]
    card = await judge_of(engine, plan).judge(candidate(smuggler), Selection(Tier.CASES, frozenset({one})))
    assert "Permission denied" in card.verdicts[one].reason


async def test_an_artifact_that_is_a_link_leads_nowhere_but_into_the_room(engine: Engine, plan: JudgePlan) -> None:
    secret = plan.folder / "suites/draw.py"
    linked = building(plan, f"mkdir out && ln -s {secret} out/solve || cp solve.sh out/solve")
    card = await judge_of(engine, linked).judge(candidate(), Selection(Tier.CASES, frozenset({"end"})))
    assert not card.void and len(card.verdicts) == len(end_cases(plan))
    assert not any("def prepare" in verdict.reason for verdict in card.verdicts.values())


async def test_a_case_over_its_time_is_a_timeout_and_the_others_go_on(engine: Engine, plan: JudgePlan) -> None:
    busy = HONEST + 'grep -q c03 "$1" && printf "#!/bin/sh\\nwhile :; do :; done\\n" >"$2"; true\n'
    asked = sorted(end_cases(plan))[:6]
    assert "end/c03" in asked
    end, unit = plan.suites
    short = replace(plan, suites=(end.model_copy(update={"time_s": 1.0}), unit))
    card = await judge_of(engine, short).judge(candidate(busy), Selection(Tier.CASES, frozenset(asked)))
    assert card.verdicts["end/c03"].outcome is Outcome.TIMEOUT and len(card.passed()) == 5


async def test_a_tree_that_does_not_build_runs_no_case_and_says_why(engine: Engine, plan: JudgePlan) -> None:
    broken = building(plan, "echo compiling; echo 'error[E0425]: no x' >&2; echo; exit 101")
    card = await judge_of(engine, broken).judge(candidate(), Selection())
    assert not card.build.ok and card.build.reason == "error[E0425]: no x" and "compiling" in card.build.log_tail
    assert not card.verdicts and not card.void
    empty = building(plan, "true")
    card = await judge_of(engine, empty).judge(candidate(), Selection())
    assert card.build.reason == "the build left no out/solve"


class Failing:
    """An engine whose case rooms fail: all of them, or each one's first try."""

    def __init__(self, engine: Engine, times: int) -> None:
        self._engine = engine
        self._times = times
        self.opened: Counter[str] = Counter()

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    async def open(self, spec: RoomSpec) -> Room:
        self.opened["case" if spec.brief else "other"] += 1
        if spec.brief and self.opened["case"] <= self._times:
            raise RoomError("no room")
        return await self._engine.open(spec)


async def test_a_room_that_fails_once_is_tried_again_and_one_that_fails_twice_voids(
    engine: Engine, plan: JudgePlan
) -> None:
    one = Selection(Tier.CASES, frozenset({sorted(end_cases(plan))[0]}))
    card = await judge_of(Failing(engine, 1), plan).judge(candidate(), one)  # type: ignore[arg-type]  # delegates
    assert not card.void and len(card.passed()) == 1
    card = await judge_of(Failing(engine, 10**9), plan).judge(candidate(), one)  # type: ignore[arg-type]  # delegates
    assert card.void and {verdict.outcome for verdict in card.verdicts.values()} == {Outcome.ERROR}


async def test_a_runner_that_says_twice_that_it_broke_fails_its_case_and_voids_nothing(
    engine: Engine, plan: JudgePlan
) -> None:
    """The candidate's program runs beside it, and may make it say so."""
    [script] = [suite.steps[0].split()[0] for suite in plan.suites if suite.name == "end"]
    (plan.folder / script).write_text("#!/bin/sh\nexit 99\n")
    one = sorted(end_cases(plan))[0]
    card = await judge_of(engine, plan).judge(candidate(), Selection(Tier.CASES, frozenset({one})))
    assert not card.void and card.verdicts[one].outcome is Outcome.FAIL


async def test_held_out_cases_are_never_in_fast_full_or_asked_for_by_name(engine: Engine, plan: JudgePlan) -> None:
    judge, hidden = judge_of(engine, plan), end_cases(plan, heldout=True)
    assert hidden
    for selection in (
        Selection(),
        Selection(Tier.FAST, seed="s"),
        Selection(Tier.CASES, frozenset({"end", "*", "end/c*"})),
    ):
        assert not hidden & set((await judge.judge(candidate(), selection)).verdicts)
    card = await judge.judge(candidate(), Selection(Tier.CASES, frozenset(hidden)))
    assert card.void and not card.passed()
    card = await judge.judge(candidate(), Selection(Tier.HELDOUT))
    assert set(card.verdicts) == hidden == card.passed()


async def test_suites_judged_after_landing_are_in_a_tier_of_their_own(engine: Engine, plan: JudgePlan) -> None:
    slow = [suite.model_copy(update={"when": "main"}) if suite.name == "end" else suite for suite in plan.suites]
    judge, shown = judge_of(engine, replace(plan, suites=tuple(slow))), end_cases(plan)
    for tier in (Tier.FAST, Tier.FULL):
        assert not shown & set((await judge.judge(candidate(), Selection(tier))).verdicts)
    assert set((await judge.judge(candidate(), Selection(Tier.MAIN))).verdicts) == shown
    one = frozenset({min(shown)})
    assert (await judge.judge(candidate(), Selection(Tier.CASES, one))).passed() == one  # as a confirmation asks


async def test_the_fast_tier_is_a_sample_of_at_least_twenty_that_its_seed_decides(
    engine: Engine, large: JudgePlan
) -> None:
    judge, seeds = judge_of(engine, large), ("agent-01", "agent-01", "agent-02")
    cards = [await judge.judge(candidate("exit 1"), Selection(Tier.FAST, seed=seed)) for seed in seeds]
    assert [len(card.verdicts) for card in cards] == [20, 20, 20]
    assert set(cards[0].verdicts) == set(cards[1].verdicts) != set(cards[2].verdicts)


async def test_an_unknown_case_is_an_error_and_a_double_one_refused(engine: Engine, plan: JudgePlan) -> None:
    card = await judge_of(engine, plan).judge(candidate(), Selection(Tier.CASES, frozenset({"end/nobody"})))
    assert card.void and card.verdicts["end/nobody"].outcome is Outcome.ERROR
    with pytest.raises(ValueError, match="names a case twice"):
        judge_of(engine, replace(plan, cases=(*plan.cases, plan.cases[0])))


async def unit_card(engine: Engine, plan: JudgePlan, unit: str, status: int, asked: str = "unit") -> Scorecard:
    return await judge_of(engine, plan).judge(
        candidate(unit=unit, status=status), Selection(Tier.CASES, frozenset({asked}))
    )


async def test_a_unit_test_that_vanishes_is_lost_by_the_ratchet(engine: Engine, plan: JudgePlan) -> None:
    floor = (await unit_card(engine, plan, UNIT_OK, 0)).passed()
    fewer = "running 1 test\ntest parser::sums ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0\n"
    assert (await unit_card(engine, plan, fewer, 0)).lost(floor) == ("unit/parser::calls",)
    card = await unit_card(engine, plan, "error[E0425]: no x\n", 101)
    assert card.lost(floor) == ("unit/parser::calls", "unit/parser::sums") and not card.void
    assert card.verdicts["unit/all"].outcome is Outcome.FAIL
    card = await unit_card(engine, plan, fewer, 0, "unit/parser::calls")
    assert {id_: verdict.outcome for id_, verdict in card.verdicts.items()} == {"unit/parser::calls": Outcome.MISSING}


async def test_a_unit_suite_that_reports_a_test_twice_is_refused_and_voids_nothing(
    engine: Engine, plan: JudgePlan
) -> None:
    double = UNIT_OK.replace("parser::calls", "parser::sums")
    card = await unit_card(engine, plan, double, 0)
    assert not card.void and not card.passed()
    assert card.verdicts["unit/all"].reason == "results refused: parser::sums is reported twice"


async def test_a_unit_suite_without_a_test_says_nothing_against_anybody(engine: Engine, plan: JudgePlan) -> None:
    """As in a crate that nobody has written a test for yet."""
    none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
    card = await unit_card(engine, plan, none, 0)
    assert not card.void and card.build.ok and card.verdicts == {}


async def test_a_unit_suite_can_not_say_that_the_judge_broke(engine: Engine, plan: JudgePlan) -> None:
    """Its tests run beside the runner and can end it as they like; a void judgement would be repeated for ever."""
    card = await unit_card(engine, plan, UNIT_OK, 99)
    assert not card.void
    assert card.verdicts["unit/all"].outcome is Outcome.FAIL


async def test_a_tree_that_no_room_can_hold_does_not_build_and_voids_nothing(engine: Engine, plan: JudgePlan) -> None:
    card = await judge_of(engine, plan).judge(Files({"n" * 300: "x"}), Selection())
    assert not card.void and not card.build.ok
    assert card.build.reason == "error: the tree cannot be unpacked"
    assert "File name too long" in card.build.log_tail


async def test_a_tree_is_built_once_unless_cold_and_nothing_is_left_behind(engine: Engine, plan: JudgePlan) -> None:
    counting = Failing(engine, 0)
    judge = judge_of(counting, plan)  # type: ignore[arg-type]  # delegates
    one = frozenset({"end/c03"})
    rooms = []
    for cold in (False, False, True):
        await judge.judge(candidate(), Selection(Tier.CASES, one, cold=cold))
        rooms.append(counting.opened["other"])
    assert rooms == [2, 2, 4]  # a build takes two rooms: the candidate's, and the one that copies
    assert len({path.name.split(".")[0] for path in plan.scratch.iterdir()}) == 1  # the kept artifacts
    await judge.close()
    assert not list(plan.scratch.iterdir())


async def test_a_plug_in_that_fails_for_a_draw_is_the_judges_error(engine: Engine, plan: JudgePlan) -> None:
    judge = judge_of(engine, plan)
    draw = plan.folder / "suites/draw.py"
    draw.write_text(draw.read_text().replace("    well,", "    draw.key != b'' and 1 / 0\n    well,"))
    card = await judge_of(engine, plan).judge(candidate(), Selection(Tier.CASES, frozenset({"end/c03"})))
    assert "draw.py fails on c03.txt: ZeroDivisionError" in card.void
    assert (await judge.judge(candidate(), Selection(Tier.CASES, frozenset({"end/c03"})))).passed()


async def test_settling_keeps_only_what_the_reference_gets_right(engine: Engine, plan: JudgePlan) -> None:
    (plan.folder / "cases/c03.txt").write_text("end nowhere\n")
    cannot_turn = HONEST.replace("exit 1; }", 'exit 1; }\ngrep -q c00 "$1" && grep -q \'end abort\' "$1" && exit 1')
    kept, dropped = await judge_of(engine, plan).settle(candidate(cannot_turn), print)
    assert dropped == {"end/c03": "fail: compile: cannot read this"}
    twists = {case.id: case.twists for case in kept}
    assert len(twists) == len(plan.cases) - 1
    assert (twists["end/c00"], twists["end/c01"], twists["end/c02"]) == (
        ("status",),
        ("inverse", "status"),
        ("status",),
    )
    with pytest.raises(ReferenceFailed, match="does not build"):
        broken = building(plan, "false")
        await judge_of(engine, broken).settle(candidate(), print)
