"""The projects that come with the house are valid, and say what their judges ask."""

from __future__ import annotations

import base64
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import anyio
import pytest

from orchestrator.project.folder import load, project_digests
from orchestrator.project.furnishing import Furnished, furnish, judge_plan
from orchestrator.project.lock import locked_cases, read_lock
from orchestrator.recording import FILE, WEIGHT, WINDOW, Recording
from sandbox.engines import choose
from sandbox.keep import state_home
from verifiers.cases import locate, share
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


def test_the_c_compiler_s_zoo_says_of_each_cheat_what_must_stop_it_and_in_which_words() -> None:
    project = load(PROJECTS / "c-compiler")
    assert len(project.cheats) >= 20 and len(project.honest) >= 5
    for name, cheat in project.cheats.items():
        assert cheat.caught and cheat.reason, name
        assert cheat.passes == 0 or cheat.loses or cheat.rounds > 1, f"{name} may pass and nothing says what it loses"
        assert (PROJECTS / f"c-compiler/cheats/{name}/expect.toml").read_text().startswith("# "), name


def test_a_judge_s_rooms_go_before_what_seats_run() -> None:
    project = load(HELLO)
    plan = judge_plan(Furnished(project, {}, {}), (), scratch=HELLO, secret=b"s", cores=1)
    assert plan.limits.weight > project.limits.of_room().weight


def quoted(text: str, sources: Iterable[str]) -> set[tuple[str, ...]]:
    """What a text has of the sources, however it is indented: so many lines in a row that it can be no chance."""

    def rows(of: str) -> set[tuple[str, ...]]:
        lines = [line for line in map(str.strip, of.split("\n")) if line]
        found = {tuple(lines[at : at + WINDOW]) for at in range(len(lines) - WINDOW + 1)}
        return {row for row in found if sum(map(len, row)) >= WEIGHT}

    return rows(text) & set().union(*map(rows, sources))


def unpacked(pack: bytes) -> str:
    """Everything in a pack."""
    with TemporaryDirectory() as folder:
        git = ["git", "-C", folder]
        subprocess.run([*git, "init", "-q", "--bare"], check=True)
        subprocess.run([*git, "unpack-objects", "-q"], input=pack, check=True)
        objects = ["cat-file", "--batch-all-objects", "--batch"]
        return subprocess.run([*git, *objects], stdout=subprocess.PIPE, check=True).stdout.decode("utf-8", "replace")


def test_a_shipped_recording_is_of_the_project_as_it_is_and_quotes_no_case_of_a_third_party() -> None:
    case = "static int f (void)\n{\n  return 7 << sizeof (long);\n}\n"
    assert quoted(f"cat >x.c <<E\n{case.replace('  ', '    ')}E\n", [case]) and not quoted("int main\n{\n", [case])
    for file in PROJECTS.glob(f"*/{FILE}"):
        recording, project = Recording.read(file), load(file.parents[1])
        recording.check({**recording.head.digests, **project_digests(project.folder)})
        furnished = anyio.run(furnish, project, choose("local", state_home()), state_home(), list[str]().append)
        cases = locked_cases(furnished, read_lock(project.folder))
        places = [place for one in cases for place in (one.file, *one.with_files) if place.startswith("sources/")]
        texts = [locate(project.folder, furnished.folders(), place).read_text("utf-8", "replace") for place in places]
        said = "\n\n".join(str(value) for step in recording.steps for value in step.arguments.values())
        left = "\n\n".join(unpacked(base64.b64decode(step.left[1])) for step in recording.steps if step.left)
        assert not quoted(f"{said}\n{left}", texts)
