"""Fault points: each is passed somewhere, told in the documents, and inert until it is armed."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys

import pytest

from sandbox.faults import POINTS, VARIABLE
from tests.test_house import PACKAGES, ROOT


def passed() -> list[str]:
    """The points that the four packages pass, one for each place."""
    found = []
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "faults.at":
                found.append(ast.literal_eval(node.args[0]))
    return found


def passing(armed: str, *points: str) -> subprocess.CompletedProcess[str]:
    """A process that passes points and then says so."""
    script = f"from sandbox import faults\nfor point in {points!r}: faults.at(point)\nprint('passed')"
    env = {"PATH": os.environ["PATH"], VARIABLE: armed}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_every_point_is_passed_at_one_place_and_no_place_has_a_point_that_nobody_named() -> None:
    assert sorted(passed()) == sorted(POINTS)


def test_the_document_has_every_point_and_no_other() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    table = page.partition("## Fault points")[2].partition("\n## ")[0]
    told = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert told.keys() == POINTS.keys()
    assert all(words in told[point] for point, words in POINTS.items())


def test_every_row_of_what_happens_names_a_test_that_there_is() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    rows = page.partition("## What happens when")[2].partition("\n## ")[0].splitlines()
    rows = [row for row in rows if row.startswith("|")][2:]
    assert rows
    for row in rows:
        (named,) = re.findall(r"\| `(tests/\S+\.py)::(test_\w+)` \|$", row)
        assert re.search(rf"def {named[1]}\(", (ROOT / named[0]).read_text()), row


def test_nothing_happens_at_a_point_that_is_not_armed() -> None:
    assert passing("", *POINTS).stdout == "passed\n"
    assert passing("commit=kill", "committed").stdout == "passed\n"


def test_a_point_kills_at_the_passing_it_was_armed_for() -> None:
    assert passing("commit*3=kill", "commit", "commit").stdout == "passed\n"
    assert passing("commit*3=kill", *["commit"] * 3).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("ENOSPC", "OSError: [Errno 28] No space left on device"),
        ("FULL", "sqlite3.OperationalError: database or disk is full"),
        ("IOERR", "sqlite3.OperationalError: disk I/O error"),
    ],
)
def test_a_point_fails_as_the_machine_would(deed: str, words: str) -> None:
    assert words in passing(f"ref-written={deed}", "ref-written").stderr


def test_a_point_delays_and_goes_on_once() -> None:
    assert passing("staged=sleep:0.01", "staged", "staged").stdout == "passed\n"


def test_a_point_stops_its_process_until_somebody_lets_it_go_on() -> None:
    script = "from sandbox import faults\nfaults.at('commit')\nprint('passed')"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, env={VARIABLE: "commit=stop"}, stdout=subprocess.PIPE) as child:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        child.send_signal(signal.SIGCONT)
        assert child.stdout is not None and child.stdout.read() == b"passed\n"


@pytest.mark.parametrize("armed", ["nowhere=kill", "commit", "commit="])
def test_a_point_that_nobody_passes_is_refused(armed: str) -> None:
    assert "is not POINT=DEED" in passing(armed).stderr


def test_the_four_packages_look_at_a_point_by_one_look_into_a_table() -> None:
    source = (ROOT / "sandbox/faults.py").read_text()
    (at,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "at"]
    assert [ast.unparse(line) for line in at.body[1:]] == ["if point in _armed:\n    _pass(point)"]
