"""Reads what a room's command left: its ending and its lines become a build's end, a verdict, or the results of tests.

No outcome is decided by what a candidate wrote, except where a runner of the project reads it, and in the output of
Rust's test harness. The tests are the candidate's own, so that output is too: a test may print lines that look like
results. What does not add up is refused as a whole, which loses every formerly known id; a candidate can gain nothing
here that it could not gain by writing a test that is always true.
"""

import re
import signal
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from sandbox.room import Ended, Result
from verifiers.drawing import Prepared
from verifiers.scorecard import Build, Outcome, Verdict

LOG_TAIL, REASON = 4000, 300  # characters
KILLED: Final = "killed: out of memory or processes"
EXITS: Final = {0: Outcome.PASS, 77: Outcome.SKIP, 99: Outcome.ERROR}  # automake's convention; others fail
MAX_TESTS = 20_000
_VALUE = re.compile(r"^VALUE (-?[0-9]+(?:\.[0-9]+)?)(?: (\S.{0,40}))?$")
_STARTED = re.compile(r"^ *Running (?:unittests )?(\S+\.rs)(?: \(|$)")
_COUNT = re.compile(r"^running (\d+) tests?$")
_RESULT = re.compile(r"^test ([\w:]{1,200})(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:,.*)?(?: <[\d.]+s>)?$")
_SUMMARY = re.compile(r"^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored;")
_WORDS = {"ok": Outcome.PASS, "FAILED": Outcome.FAIL, "ignored": Outcome.SKIP}


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
            read = [sum(outcome is kind for outcome in block.values()) for kind in _WORDS.values()]
            if read != told or sum(told) > announced:
                raise ResultsError(f"its summary says {told} passed, failed, ignored of {announced}; its lines {read}")
            block, details = None, False
        elif line == "failures:":
            details = True
        elif not details and (result := _RESULT.match(line)):
            name = root + result[1]
            if name in outcomes:
                raise ResultsError(f"{name} is reported twice")
            block[name] = outcomes[name] = _WORDS[result[2]]
            if len(outcomes) > MAX_TESTS:
                raise ResultsError(f"more than {MAX_TESTS} tests")
    return outcomes


def reported(case: str, result: Result, *, alone: bool = True) -> Verdict:
    """What a runner of the project said of a case: its exit status and its last `ERROR ` and `VALUE ` lines.

    One that is not `alone`, but runs what the candidate wrote, cannot say that the judge broke: that would void any
    judgement of it.
    """
    lines = result.stdout.decode("utf-8", "replace").split("\n")[::-1]
    said = one_line(next((line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")), ""))
    measured = next(filter(None, map(_VALUE.match, lines)), None)
    value, unit = (float(measured[1]), measured[2] or "") if measured else (None, "")
    outcome = EXITS.get(result.exit_code, Outcome.FAIL)
    if outcome is Outcome.ERROR and not alone:
        outcome = Outcome.FAIL
    reason = f"{_ending(result)}: {last_line(result.stderr)}" if result.exit_code else ""
    if result.ended is Ended.TIMEOUT:
        outcome, reason = Outcome.TIMEOUT, "over its time limit"
    elif result.ended is Ended.KILLED:
        outcome, reason = Outcome.FAIL, KILLED
    return Verdict(case, outcome, result.seconds, said or reason, value, unit)


def compared(case: str, result: Result, answer: Prepared) -> Verdict:
    """Whether the candidate's product ended as `prepare` wrote down. Drawn numbers never appear in a reason."""
    wanted, killed = answer.expected_status, result.ended is Ended.KILLED
    outcome, reason = Outcome.FAIL, ""
    if result.ended is Ended.TIMEOUT:
        outcome, reason = Outcome.TIMEOUT, "run: over its time limit"
    elif killed or result.exit_code != wanted:
        expected = answer.meanings.get(wanted, "another end" if wanted else "exit status 0")
        how = KILLED if killed else answer.meanings.get(result.exit_code, _ending(result))
        reason = f"run: {how}, expected: {expected}"
    elif answer.expected_stdout not in (None, result.stdout):
        reason = "run: its output differs from the expected"
    else:
        outcome = Outcome.PASS
    return Verdict(case, outcome, result.seconds, reason)


def _ending(result: Result) -> str:
    number = result.exit_code - 128
    return signal.Signals(number).name if 0 < number < signal.SIGRTMIN - 2 else f"exit status {result.exit_code}"


def build_of(done: Result, time_s: float) -> Build:
    """How a build's command went."""
    log, reason = done.stdout.decode("utf-8", "replace"), ""
    if done.ended is Ended.TIMEOUT:
        reason = f"not done after {time_s:g} s"
    elif done.ended is Ended.KILLED:
        reason = KILLED
    elif done.exit_code:
        errors = (line for line in log.splitlines() if line.startswith("error"))
        reason = one_line(next(errors, "")) or last_line(done.stdout)
    return Build(not reason, done.seconds, reason, log[-LOG_TAIL:])


def one_line(text: str) -> str:
    """Untrusted text as one short line without control characters."""
    line = "".join(char if char.isprintable() else " " for char in text).strip()
    return line if len(line) <= REASON else line[: REASON - 1] + "…"


def last_line(text: bytes) -> str:
    """The last line that says anything."""
    lines = reversed(text.decode("utf-8", "replace").split("\n"))
    return one_line(next((line for line in lines if line.strip()), "no output"))
