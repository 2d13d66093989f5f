"""What is read from the output of Rust's test harness, from runners and from products."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.room import Ended, Result
from verifiers.drawing import Prepared
from verifiers.results import ResultsError, compared, libtest, reported
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

CARGO = """\
   Compiling ccc v0.1.0 (/workspace)
warning: unused variable: `x`
    Finished test [unoptimized + debuginfo] target(s) in 0.51s
     Running unittests src/lib.rs (target/debug/deps/ccc-1af)

running 3 tests
test lexer::tests::numbers ... ok
test lexer::tests::panics - should panic ... ok
test slow ... ignored

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running unittests src/main.rs (target/debug/deps/ccc-99c)

running 2 tests
test lexer::tests::numbers ... ok
test broken ... FAILED

failures:

---- broken stdout ----
test lexer::tests::forged ... ok
test result of mine: ok
running 7 tests
thread 'broken' panicked at 'assertion failed: false', src/main.rs:5:18

failures:
    broken

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/end.rs (target/debug/deps/end-5)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: test failed, to rerun pass `--bin ccc`
"""


def test_tests_are_read_by_path_and_those_of_other_programs_by_their_root() -> None:
    assert libtest(CARGO) == {
        "lexer::tests::numbers": Outcome.PASS,
        "lexer::tests::panics": Outcome.PASS,
        "slow": Outcome.SKIP,
        "main::lexer::tests::numbers": Outcome.PASS,
        "main::broken": Outcome.FAIL,
    }


def test_what_a_failing_test_prints_adds_no_result() -> None:
    assert "main::lexer::tests::forged" not in libtest(CARGO)


@pytest.mark.parametrize(
    "output",
    [
        "running 2 tests\ntest a ... ok\ntest a ... ok\n",
        "running 1 test\ntest a ... ok\ntest b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0\n",
        "running 1 test\ntest a ... ok\n\ntest result: ok. 0 passed; 1 failed; 0 ignored; 0\n",
        "running 1 test\nrunning 1 test\ntest a ... ok\n",
        "running 9 tests\n" + "".join(f"test t{n} ... ok\n" for n in range(20_001)),
    ],
    ids=["double id", "more lines than summed", "summary lies", "two starts", "too many"],
)
def test_output_that_does_not_add_up_is_refused_as_a_whole(output: str) -> None:
    with pytest.raises(ResultsError):
        libtest(output)


def test_a_harness_that_dies_keeps_what_it_reported() -> None:
    assert libtest("running 3 tests\ntest a ... ok\ntest b ... FAILED\n") == {"a": Outcome.PASS, "b": Outcome.FAIL}


@given(st.text(), st.text())
def test_any_output_is_read_or_refused(before: str, between: str) -> None:
    try:
        found = libtest(f"{before}\nrunning 1 test\n{between}\ntest a ... ok\n")
    except ResultsError:
        return
    assert all(isinstance(outcome, Outcome) for outcome in found.values())


def result(code: int, out: str = "", ended: Ended = Ended.EXITED) -> Result:
    return Result(code, out.encode(), b"it said\n", 0.1, ended)


@pytest.mark.parametrize(
    ("given_result", "outcome", "reason"),
    [
        (result(0), Outcome.PASS, ""),
        (result(77), Outcome.SKIP, "exit status 77: it said"),
        (result(99), Outcome.ERROR, "exit status 99: it said"),
        (result(1, "ERROR first\nERROR compile: no main\nmore\n"), Outcome.FAIL, "compile: no main"),
        (result(139), Outcome.FAIL, "SIGSEGV: it said"),
        (result(152), Outcome.FAIL, "SIGXCPU: it said"),  # a CPU limit is the engine's to see, which says TIMEOUT
        (result(0, "", Ended.TIMEOUT), Outcome.TIMEOUT, "over its time limit"),
        (result(137, "", Ended.KILLED), Outcome.FAIL, "killed: out of memory or processes"),
        (result(1, "ERROR \x1b[31mred\x07\n"), Outcome.FAIL, "[31mred"),
    ],
)
def test_a_runner_speaks_by_exit_status_and_error_line(given_result: Result, outcome: Outcome, reason: str) -> None:
    verdict = reported("s/x", given_result)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_the_last_value_line_is_the_measurement() -> None:
    verdict = reported("s/x", result(0, "VALUE 9 ms\nVALUE 1.83 x-gcc-O0\nVALUE none\n"))
    assert (verdict.value, verdict.unit) == (1.83, "x-gcc-O0")


def test_a_product_is_compared_outside_and_drawn_numbers_stay_there() -> None:
    answer = Prepared({}, 41, b"out\n", {41: "ended well", 57: "called abort"})
    assert compared("s/x", result(41, "out\n"), answer).outcome is Outcome.PASS
    wrong = {
        (57, "out\n", Ended.EXITED): "run: called abort, expected: ended well",
        (134, "out\n", Ended.EXITED): "run: SIGABRT, expected: ended well",
        (0, "out\n", Ended.EXITED): "run: exit status 0, expected: ended well",
        (41, "other\n", Ended.EXITED): "run: its output differs from the expected",
        (41, "out\n", Ended.KILLED): "run: killed: out of memory or processes, expected: ended well",
    }
    for (code, out, ended), reason in wrong.items():
        verdict = compared("s/x", result(code, out, ended), answer)
        assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, reason)
    assert compared("s/x", result(41, "out\n", Ended.TIMEOUT), answer).outcome is Outcome.TIMEOUT
    assert "57" not in compared("s/x", result(3), Prepared({}, 57)).reason


OUTCOMES = st.dictionaries(st.sampled_from([f"s/{n}" for n in range(8)]), st.sampled_from(Outcome))


def card(outcomes: dict[str, Outcome]) -> Scorecard:
    return Scorecard("t", "full", Build(True, 0), {id_: Verdict(id_, outcome) for id_, outcome in outcomes.items()})


@given(OUTCOMES, OUTCOMES)
def test_the_ratchet_loses_exactly_what_passed_before_and_does_not_now(
    before: dict[str, Outcome], after: dict[str, Outcome]
) -> None:
    floor = card(before).passed()
    lost, gained = card(after).lost(floor), card(after).passed() - floor
    assert set(lost) == {id_ for id_ in before if before[id_] is Outcome.PASS and after.get(id_) is not Outcome.PASS}
    assert not set(lost) & gained and list(lost) == sorted(lost)
    assert (floor - set(lost)) | gained == card(after).passed()


@given(OUTCOMES, OUTCOMES)
def test_nothing_is_lost_by_the_card_that_made_the_floor_and_the_rest_by_a_later_one(
    first: dict[str, Outcome], second: dict[str, Outcome]
) -> None:
    floor = card(first).passed()
    assert not card(first).lost(floor)
    assert set(card(second).lost(floor | card(second).passed())) == floor - card(second).passed()
