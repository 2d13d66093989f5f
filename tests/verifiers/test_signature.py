"""One cause, one signature."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.scorecard import Outcome, Verdict
from verifiers.signature import signature

WORDS = st.text(string.ascii_letters, min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-z]{2,8}-[0-9]{1,3}", fullmatch=True)
NUMBERS = st.integers(0, 10**9)


def of(reason: str, case: str = "torture/pr1234-1", outcome: Outcome = Outcome.FAIL) -> str:
    return signature(Verdict(case, outcome, reason=reason))


@given(NUMBERS, NUMBERS, NAMES, NAMES, WORDS, WORDS)
def test_numbers_names_paths_and_addresses_do_not_tell_two_failures_apart(
    m: int, n: int, case: str, other: str, word: str, another: str
) -> None:
    def reason(number: int, name: str, quoted: str) -> str:
        return f"compile: error: /case/files/{name}.c:{number}: unknown type `{quoted}` at 0x{number:x}, depth {number}"

    one = of(reason(m, case, word), f"torture/{case}")
    assert one == of(reason(n, other, another), f"torture/{other}@x86_64")
    assert one == "torture | fail | compile: error: <path>: unknown type <name> at <hex>, depth <n> | "


@given(NUMBERS, NUMBERS)
def test_a_panic_is_known_by_its_message_and_file_not_its_line(m: int, n: int) -> None:
    old = f"compile: thread 'main' panicked at 'not yet implemented: bit-fields', src/lower.rs:{m}:5"
    assert (
        of(old)
        == of(old.replace(str(m), str(n)))
        == ("torture | fail | compile: panicked: not yet implemented: bit-fields | src/lower.rs")
    )
    assert of(old) != of(old.replace("lower.rs", "parse.rs"))
    assert of(old) != of(old.replace("bit-fields", "unions"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("run: SIGSEGV, expected: ended well", "run: SIGABRT, expected: ended well"),
        ("run: ended well, expected: called abort", "run: called abort, expected: ended well"),
        ("compile: error: expected expression", "compile: error: expected declaration"),
        ("error: 3: expected ';' before 'size_t'", "error: 3: expected ';' before '{'"),
    ],
)
def test_different_words_are_different_failures(one: str, other: str) -> None:
    assert of(one) != of(other)


def test_suite_and_kind_of_failure_are_part_of_it_and_success_has_none() -> None:
    assert len({of("x", "a/1"), of("x", "b/1"), of("x", "a/1", Outcome.TIMEOUT)}) == 3
    assert of("x", "a/1") == of("x", "a/2@arm")
    assert of("", outcome=Outcome.PASS) == ""


@given(st.text(max_size=400), st.text(max_size=20))
def test_any_text_has_a_short_signature_of_one_line(reason: str, name: str) -> None:
    made = of(reason, f"s/{name}")
    assert len(made.splitlines()) == 1 and len(made) < 600


@given(st.text(max_size=200))
def test_a_normalized_reason_stays_as_it_is_when_normalized_again(reason: str) -> None:
    once = of(reason, "s/x").split(" | ")[2]
    assert of(once, "s/x").split(" | ")[2] in (once, once.rstrip())
