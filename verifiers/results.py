"""Reads what a whole-suite command printed: the output of Rust's test harness.

The tests are the candidate's own, so their output is too: a test may print lines that look like results. What does not
add up is refused as a whole, which loses every formerly known id; a candidate can gain nothing here that it could not
gain by writing a test that is always true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from verifiers.scorecard import Outcome

MAX_TESTS = 20_000
_STARTED = re.compile(r"^ *Running (?:unittests )?(\S+\.rs)(?: \(|$)")
_COUNT = re.compile(r"^running (\d+) tests?$")
_RESULT = re.compile(r"^test ([\w:]{1,200})(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:,.*)?(?: <[\d.]+s>)?$")
_SUMMARY = re.compile(r"^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored;")
_OUTCOMES = {"ok": Outcome.PASS, "FAILED": Outcome.FAIL, "ignored": Outcome.SKIP}


class ResultsError(Exception):
    """The output contradicts itself; the message is one line."""


def libtest(output: str) -> Mapping[str, Outcome]:
    """Outcome by test path. A test outside `src/lib.rs` is named with its crate root first: `main::parser::sums`.

    `output` holds stdout and, if ids of several test programs are to differ, cargo's "Running …" lines (stderr).
    A program that died before its summary keeps the results it printed; the rest is missing. Raises `ResultsError`.
    """
    outcomes: dict[str, Outcome] = {}
    root, announced = "", 0
    block: dict[str, Outcome] | None = None  # of the harness that runs; None between two
    details = False  # what follows is what failing tests printed, up to the summary
    for line in output.split("\n"):
        if started := _STARTED.match(line):
            root = "" if started[1] == "src/lib.rs" else f"{PurePosixPath(started[1]).stem}::"
            block, details = None, False
        elif not details and (count := _COUNT.match(line)):
            if block is not None:
                raise ResultsError("a second 'running N tests' before the first was summed up")
            announced, block = int(count[1]), {}
        elif block is None:
            continue
        elif summary := _SUMMARY.match(line):
            told = [int(number) for number in summary.groups()]
            read = [sum(outcome is kind for outcome in block.values()) for kind in _OUTCOMES.values()]
            if read != told or sum(told) > announced:
                raise ResultsError(f"its summary says {told} passed, failed, ignored of {announced}; its lines {read}")
            block, details = None, False
        elif line == "failures:":
            details = True
        elif not details and (result := _RESULT.match(line)):
            name = root + result[1]
            if name in outcomes:
                raise ResultsError(f"{name} is reported twice")
            block[name] = outcomes[name] = _OUTCOMES[result[2]]
            if len(outcomes) > MAX_TESTS:
                raise ResultsError(f"more than {MAX_TESTS} tests")
    return outcomes
