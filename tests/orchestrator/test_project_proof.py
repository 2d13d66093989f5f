"""`project lock` and `project check`: what is pinned, what a proof proves, and what it refuses to prove."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from orchestrator.control import EXIT
from orchestrator.project.check import Report, check
from orchestrator.project.folder import overlaid
from orchestrator.project.furnishing import Furnished
from orchestrator.project.lock import Lock, LockDiffers, check_lock, lock, locked_cases, read_lock
from sandbox.engines import choose
from sandbox.room import RootFs
from verifiers.judge import ReferenceFailed
from verifiers.suites import LockedCase

HELLO = Path(__file__).parents[2] / "projects" / "hello"
KEPT = ("plain-one", "plain-three", "loud-one", "loud-blanks", "count-one", "longest-three")


def small_hello(into: Path) -> Path:
    """`hello` with six cases, for the `local` engine: no image to build, and the whole of the judge's work to do."""
    folder = Path(shutil.copytree(HELLO, into / "hello"))
    for case in (folder / "suites/greet").iterdir():
        if case.stem not in KEPT:
            case.unlink()
    (folder / "project.lock").unlink(missing_ok=True)
    return folder


def locked(folder: Path) -> Lock:
    async def work() -> Lock:
        home = folder.parent / "home"
        return await lock(folder, choose("local", home), home, cores=2, progress=lambda _line: None)

    return anyio.run(work)


def proved(folder: Path, *, quick: bool) -> Report:
    async def work() -> Report:
        home = folder.parent / "home"
        return await check(folder, choose("local", home), home, cores=2, quick=quick, progress=lambda _line: None)

    return anyio.run(work)


def cases_of(folder: Path, using: Lock | None) -> tuple[LockedCase, ...]:
    with overlaid(folder) as project:
        return locked_cases(Furnished(project, {}, {}), using)


def edit(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_hello(tmp_path)


@pytest.fixture(scope="module")
def once_locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_hello(tmp_path_factory.mktemp("locked"))
    locked(folder)
    return folder


@pytest.fixture
def locked_folder(once_locked: Path, tmp_path: Path) -> Path:
    """A copy to edit: a lock is about what a folder holds, not where it lies."""
    return Path(shutil.copytree(once_locked, tmp_path / "hello"))


@pytest.fixture(scope="module")
def unsound(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The proof of a project with everything wrong: a seed that passes cases, a failing reference, cheats that pass."""
    folder = small_hello(tmp_path_factory.mktemp("unsound"))
    shutil.copy(folder / "reference/greet/plain.sh", folder / "seed/greet/plain.sh")
    (folder / "reference/tests/plain.test.sh").write_text("exit 1\n")
    shutil.copytree(folder / "cheats/canned", folder / "cheats/honest")
    shutil.copytree(folder / "reference/greet", folder / "cheats/honest/greet", dirs_exist_ok=True)
    edit(folder / "cheats/canned/expect.toml", lambda text: text.replace("output differs", "forbidden program"))
    locked(folder)
    return proved(folder, quick=True)


def test_a_sound_project_is_proved(locked_folder: Path) -> None:
    report = proved(locked_folder, quick=False)
    assert report.ok
    assert report.reference["greet"] == (6, 6)
    assert report.wrong.keys() == {"reference", "seed", "cheat", "unsteady"}
    assert not any(report.wrong.values())
    assert report.cheats == 1
    assert report.cases > 6


def test_a_seed_that_passes_cases_is_no_proof(unsound: Report) -> None:
    assert not unsound.ok
    assert unsound.wrong["seed"] == ["passes greet/plain-one", "passes greet/plain-three"]


def test_a_cheat_that_passes_or_that_something_else_stops_is_missed(unsound: Report) -> None:
    stopped_by_chance, passing = unsound.wrong["cheat"]
    assert stopped_by_chance.startswith("canned: was not stopped by drawn-names; first greet/")
    assert passing == "honest: passes 6 of 6 cases, first greet/count-one"
    assert unsound.cheats == 2


def test_a_reference_below_its_expectation_is_missed(unsound: Report) -> None:
    (missed,) = unsound.wrong["reference"]
    assert missed.startswith("unit 10/11, expected 1; first unit/plain")


def test_the_reference_settles_cases_and_their_rewritings(folder: Path) -> None:
    (folder / "reference/greet/loud.sh").unlink()
    twists = (
        "\n\ndef twists(case_text, name):\n    return {'as-is': 1, 'other': 1} if 'plain' in name else {'as-is': 1}\n"
    )
    edit(folder / "suites/draw.py", lambda text: text + twists)
    made = locked(folder)
    assert made.suites["greet"].dropped == {
        "greet/loud-blanks": "fail: there is no loud program yet",
        "greet/loud-one": "fail: there is no loud program yet",
    }
    found = {case.id.removeprefix("greet/"): case.twists for case in cases_of(folder, made)}
    left = [name for name in KEPT if "loud" not in name]
    assert found == {name: ("as-is", "other") if "plain" in name else ("as-is",) for name in left}


def test_a_reference_that_does_not_build_locks_nothing(folder: Path) -> None:
    (folder / "reference/greet/plain.sh").write_text("if then\n")
    with pytest.raises(ReferenceFailed, match="the reference does not build"):
        locked(folder)


def test_locking_twice_gives_the_same_lock(locked_folder: Path) -> None:
    first = (locked_folder / "project.lock").read_bytes()
    locked(locked_folder)
    assert (locked_folder / "project.lock").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("goal.md", "project"),
        ("prompts/all.md", "prompts"),
        ("seed/README.md", "project, seed"),
        ("suites/look.sh", "project, verifiers"),
    ],
)
def test_a_folder_edited_after_its_lock_is_refused_with_exit_code_6(locked_folder: Path, name: str, parts: str) -> None:
    edit(locked_folder / name, lambda text: text + "# more\n")
    with overlaid(locked_folder) as project, pytest.raises(LockDiffers, match=f": {parts} differ from") as caught:
        check_lock(Furnished(project, {}, {}), read_lock(locked_folder))
    assert EXIT[caught.value.kind] == 6


def test_packages_that_moved_are_told_and_not_refused(locked_folder: Path, tmp_path: Path) -> None:
    status = tmp_path / "tree/var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text("Package: git\nStatus: install ok installed\nVersion: 1:2.39.6\n")
    image = RootFs("sha256:2", tmp_path / "tree", tmp_path / "image.tar")
    edit(
        locked_folder / "project.lock",
        lambda text: json.dumps({**json.loads(text), "packages": {"image": {"git": "1:2.39.5"}}}),
    )
    with overlaid(locked_folder) as project:
        furnished = Furnished(project, {"image": image, "judge": image}, {})
        drift = check_lock(furnished, read_lock(locked_folder))
    assert drift == ("image: package git was 1:2.39.5 when the project was locked and is 1:2.39.6",)


def test_cases_that_are_not_those_of_the_lock_are_refused(locked_folder: Path) -> None:
    (locked_folder / "suites/greet/plain-three.txt").rename(locked_folder / "suites/greet/plain-four.txt")
    with pytest.raises(LockDiffers, match=r"suites\.greet gives other cases"):
        cases_of(locked_folder, read_lock(locked_folder))


def test_without_a_lock_every_case_is_taken(folder: Path) -> None:
    assert len(cases_of(folder, None)) == len(KEPT)


def test_a_missing_or_broken_lock_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(LockDiffers, match=r"project\.lock is missing; make it: python -m orchestrator project lock"):
        read_lock(folder)
    (folder / "project.lock").write_text(json.dumps({"schema": 1}))
    with pytest.raises(LockDiffers, match=r"is not a lock .* make it: python -m orchestrator"):
        read_lock(folder)
