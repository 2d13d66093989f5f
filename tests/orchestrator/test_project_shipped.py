"""The projects that come with the house are valid, and say what their judges ask."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.project.folder import load, project_digests
from orchestrator.project.furnishing import Furnished, judge_plan
from orchestrator.project.lock import read_lock
from verifiers.cases import share
from verifiers.drawing import Draw, load_plugin

PROJECTS = Path(__file__).parents[2] / "projects"
HELLO = PROJECTS / "hello"
EXAMPLES = sorted((HELLO / "suites/greet").glob("*.txt"))
NAMES = [file.stem for file in EXAMPLES]


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    module = ModuleType("draw")
    exec((HELLO / "suites/draw.py").read_text(), module.__dict__)
    return module


@pytest.mark.parametrize("name", ["hello", "c-compiler"])
def test_a_shipped_project_loads_and_is_locked(name: str) -> None:
    project = load(PROJECTS / name)
    lock = read_lock(project.folder)
    assert {suite.name for suite in project.suites if suite.cases} == set(lock.suites)
    assert project.cheats and project.reference


def test_the_compilers_plan_names_only_cases_that_are_shown() -> None:
    project = load(PROJECTS / "c-compiler")
    (suite,) = [suite for suite in project.suites if suite.name == "torture"]
    dropped = read_lock(project.folder).suites["torture"].dropped
    for task in project.plan:
        for case in task.cases:
            file = suite.cases.replace("*", case.removeprefix("torture/"))
            assert share(project.name, file) >= suite.heldout, f"{task.name}: {case} is held out"
            assert case not in dropped, f"{task.name}: {case} was dropped"


@pytest.mark.parametrize("file", EXAMPLES, ids=NAMES)
def test_an_example_of_hello_shows_what_the_judge_asks(file: Path, draw: ModuleType) -> None:
    program, given, wanted = draw.example(file.read_bytes())
    assert draw.answer(program, given) == wanted


@pytest.mark.parametrize("file", EXAMPLES, ids=NAMES)
def test_no_drawn_answer_of_hello_is_the_one_in_the_example(file: Path, draw: ModuleType) -> None:
    plugin = load_plugin(HELLO / "suites/draw.py")
    text = file.read_bytes()
    shown = "\n".join([*draw.example(text)[2], ""]).encode()
    answers = [plugin.prepare(text, file.name, Draw(bytes([number]))).expected_stdout for number in range(200)]
    assert shown not in answers
    assert len(set(answers)) > 3


def test_the_scripted_team_writes_the_reference() -> None:
    """The same programs, so that a run by the script ends where the reference is."""
    script = tomllib.loads((HELLO / "team.toml").read_text())
    written = "\n".join(
        step["command"] for one in script["session"] for step in one.get("on_bounce", one["calls"]) if "command" in step
    )
    for program in (HELLO / "reference/greet").glob("*.sh"):
        assert f"cat >greet/{program.name} <<'SH'\n{program.read_text()}SH\n" in written


def test_the_seeds_own_tests_pass() -> None:
    done = subprocess.run(["sh", HELLO / "seed/tests/run.sh"], capture_output=True, text=True, check=True)
    assert "test result: ok. 1 passed" in done.stdout


@pytest.mark.parametrize("name", ["hello", "c-compiler"])
def test_a_shipped_lock_is_of_the_folder_as_it_is(name: str) -> None:
    """If this fails, the folder was edited: python -m orchestrator project lock projects/NAME."""
    assert read_lock(PROJECTS / name).digests == project_digests(PROJECTS / name)


def test_a_judge_s_rooms_go_before_what_seats_run() -> None:
    project = load(HELLO)
    plan = judge_plan(Furnished(project, {}, {}), (), scratch=HELLO, secret=b"s", cores=1)
    assert plan.limits.weight > project.limits.of_room().weight
