"""`project lock` and `project check`: what is pinned, what a proof proves, and what it refuses to prove."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from orchestrator.control import EXIT, failure_of
from orchestrator.project.check import Report, _steady, check
from orchestrator.project.folder import overlaid
from orchestrator.project.furnishing import Furnished, furnish
from orchestrator.project.lock import Lock, LockDiffers, check_lock, lock, locked_cases, read_lock
from orchestrator.project.reading import ConfigError
from sandbox.debian import CommandFailed, SourceError
from sandbox.engines import choose
from sandbox.room import RoomError, RootFs
from verifiers.judge import ReferenceFailed
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict
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
def aimed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The proof of a project whose cheats aim at tests, at what is known and at luck, once caught and once not, and of
    whose honest variations one is none."""
    folder = small_hello(tmp_path_factory.mktemp("aimed"))
    kept = 'lost = ["unit/plain"]\n'
    cheats = {
        "deleted": ({}, 'caught = "missing"\nreason = "missing: "\npasses = 1.0\nlost = ["unit/gone"]\n'),
        "kept": ({}, f'caught = "missing"\npasses = 1.0\n{kept}'),
        "failing": ({"tests/plain.test.sh": "exit 1\n"}, f'caught = "floor"\nreason = "fail: "\npasses = 1.0\n{kept}'),
        "known": ({}, 'caught = "held-out"\npasses = 1.0\nheldout = 0.5\n'),
    }
    for name, (files, expect) in cheats.items():
        (folder / "cheats" / name).mkdir()
        (folder / "cheats" / name / "expect.toml").write_text(expect)
        for file, text in files.items():
            (folder / "cheats" / name / file).parent.mkdir()
            (folder / "cheats" / name / file).write_text(text)
    shutil.copytree(folder / "reference/greet", folder / "honest/same/greet")
    shutil.copytree(folder / "cheats/canned/greet", folder / "honest/wrong/greet")
    edit(folder / "project.toml", lambda text: text.replace("heldout = 0.2", "heldout = 0.5"))
    locked(folder)
    return proved(folder, quick=True)


def test_a_cheat_at_tests_must_lose_them_and_one_at_what_is_known_what_is_not(aimed: Report) -> None:
    missed = dict(line.split(": ", 1) for line in aimed.cheats.missed)
    assert missed.keys() == {"deleted", "kept", "known"}
    assert missed["deleted"] == "neither seed nor reference passes unit/gone, so it cannot be lost"
    assert missed["kept"] == "keeps unit/plain"
    assert "held-out cases, first greet/" in missed["known"]
    assert (aimed.cheats.caught, aimed.cheats.total) == (2, 5)


def test_an_honest_variation_that_is_judged_otherwise_than_the_reference_is_flagged(aimed: Report) -> None:
    assert aimed.honest.total == 2 and not aimed.ok
    [flagged] = aimed.honest.flagged
    assert flagged.startswith("wrong: loses 6 of 6 cases, first fail: ")


def test_what_is_not_answered_alike_each_time_is_lost() -> None:
    def card(**reasons: str) -> Scorecard:
        verdicts = {id: Verdict(id, Outcome.FAIL if why else Outcome.PASS, reason=why) for id, why in reasons.items()}
        return Scorecard("tree", "check", Build(True, 0.0), verdicts)

    both = _steady([card(a="", b="", c="x", d="x"), card(a="", b="no luck", c="x", d="y")])
    assert both.passed() == {"a"}
    assert {id: verdict.reason for id, verdict in both.verdicts.items()} == {
        "a": "",
        "b": "unsteady: fail: no luck | pass: ",
        "c": "x",
        "d": "unsteady: fail: x | fail: y",
    }


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
    assert report.wrong.keys() == {"reference", "seed", "cheat", "honest", "unsteady"}
    assert not any(report.wrong.values())
    assert report.empty["greet"] == (0, 6)
    assert (report.cheats.caught, report.cheats.total, report.cheats.missed) == (1, 1, ())
    assert report.agree and not report.honest.flagged
    assert report.cases > 6


def test_a_seed_that_passes_cases_is_no_proof(unsound: Report) -> None:
    assert not unsound.ok
    assert unsound.wrong["seed"] == ["passes greet/plain-one", "passes greet/plain-three"]


def test_a_cheat_that_passes_or_that_something_else_stops_is_missed(unsound: Report) -> None:
    stopped_by_chance, passing = unsound.wrong["cheat"]
    assert stopped_by_chance.startswith("canned: was not stopped by drawn-names; first greet/")
    assert passing == "honest: passes 6 of 6 cases, first greet/count-one"
    assert (unsound.cheats.caught, unsound.cheats.total) == (0, 2)
    assert unsound.cheats.missed == tuple(unsound.wrong["cheat"])


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


def test_a_lock_whose_rewritings_are_no_number_is_refused(locked_folder: Path) -> None:
    edit(locked_folder / "project.lock", lambda text: text.replace('"twists": {}', '"twists": {"x": "zz"}'))
    with pytest.raises(LockDiffers, match="is not a lock"):
        read_lock(locked_folder)


def test_a_reference_that_passes_nothing_locks_nothing(folder: Path) -> None:
    edit(folder / "suites/look.sh", lambda text: text.replace("#!/bin/sh\n", "#!/bin/sh\necho ERROR no luck; exit 1\n"))
    words = r"passes none of the \d shown cases of suite greet, first greet/count-one; most often: fail: no luck"
    with pytest.raises(ReferenceFailed, match=words) as caught:
        locked(folder)
    assert EXIT[failure_of(caught.value).kind] == 1
    assert not (folder / "project.lock").exists()


def test_a_lock_that_holds_no_case_proves_and_starts_nothing(locked_folder: Path) -> None:
    edit(locked_folder / "project.lock", lambda text: json.dumps({**json.loads(text), "suites": {}}))
    with pytest.raises(LockDiffers, match=r"suites\.greet gives other cases than project.lock holds, or it holds none"):
        proved(locked_folder, quick=True)


# What is replaced in which file, by what, and what is answered when the cases are known.
NOTHING = {
    "all held out": ("project.toml", "heldout = 0.2", "heldout = 1", "project.toml:23: suite greet shows no case"),
    "milestone": ("project.toml", "greet = 1.0", '"greet/x-*" = 1.0', r"project.toml:46: greet/x-\* is no case"),
    "task": ("plan.toml", "plain-one", "plain-onne", "plan.toml:5: greet/plain-onne is no shown case"),
    "twist": (
        "cheats/canned/expect.toml",
        "caught",
        "loses = 'inverze'\ncaught",
        "expect.toml:1: loses: no case is ever",
    ),
    "prepare that raises": (
        "suites/draw.py",
        "def prepare(",
        "def prepare(text, name, draw):\n    1 / 0\n\n\ndef other(",
        "project.toml:21: draw.py fails on count-one.txt: ZeroDivisionError",
    ),
    "prepare of other arguments": (
        "suites/draw.py",
        "def prepare(",
        "def prepare(text): ...\n\n\ndef other(",
        r"project.toml:21: draw.py fails on count-one.txt: TypeError: prepare\(\) takes 1 positional",
    ),
    "prepare without the case": (
        "suites/draw.py",
        "Prepared(files",
        "Prepared({}",
        "project.toml:21: draw.py fails on count-one.txt: KeyError",
    ),
    "no prepare": ("suites/draw.py", "def prepare(", "def prepared(", "project.toml:21: draw.py must define prepare"),
    "no Python": ("suites/draw.py", "", ")", "project.toml:21: draw.py cannot be loaded: SyntaxError"),
}


@pytest.mark.parametrize("mistake", NOTHING, ids=lambda name: name.replace(" ", "-"))
def test_what_stands_for_nothing_is_refused_when_the_cases_are_known(mistake: str, folder: Path) -> None:
    name, old, new, words = NOTHING[mistake]
    (folder / "plan.toml").write_text("[[task]]\nname='a'\ntitle='A'\nwhy='w'\ncases=['greet/plain-one']\n")
    edit(folder / name, lambda text: text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words):
        locked(folder)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SourceError("x: no such folder in the source"), r"project\.toml:49: x: no such folder in the source"),
        (
            CommandFailed("apt-get ended with 100:\nE: Unable to locate package no-such"),
            "toml:49: Unable to locate package",
        ),
        (
            CommandFailed("apt-get ended with 100:\nE: Unable to find a source package for x"),
            "toml:49: Unable to find a",
        ),
        (CommandFailed("apt-get ended with 100:\nE: Version '9' for 'x' was not found"), "toml:49: Version '9' for"),
    ],
)
def test_a_source_that_does_not_exist_is_a_mistake_of_its_line(
    error: RoomError, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_given: object, **_named: object) -> None:
        raise error

    edit(folder / "project.toml", lambda text: text + '\n[sources]\nlua = { deb = "no-such" }\n')
    monkeypatch.setattr("sandbox.debian.fetch", fail)
    with pytest.raises(ConfigError, match=words):
        locked(folder)
    error.args = ("apt-get ended with 100:\nE: Failed to fetch x  Connection refused",)
    with pytest.raises(CommandFailed if isinstance(error, CommandFailed) else ConfigError, match="Failed to fetch"):
        locked(folder)


@pytest.mark.parametrize(("for_reference", "where"), [(False, r"project\.toml:4"), (True, r"reference/expect\.toml:2")])
def test_a_package_that_does_not_exist_is_a_mistake_of_its_line(
    for_reference: bool, where: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_given: object, **_named: object) -> None:
        raise CommandFailed("mmdebstrap ended with 25:\nE: Unable to locate package gti\nE: apt failed")

    (folder / "reference/expect.toml").write_text("# For this check alone.\npackages = ['gti']\n")
    monkeypatch.setattr("sandbox.image.build", fail)
    engine = choose("local", folder.parent / "home")
    monkeypatch.setattr(engine, "name", "bubblewrap")
    with overlaid(folder) as project, pytest.raises(ConfigError, match=f"{where}: Unable to locate package gti$"):
        anyio.run(partial(furnish, project, engine, folder.parent, print, for_reference=for_reference))
