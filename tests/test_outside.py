"""`benchmarks.outside`: its programs do what they state, and it says rightly what a compiler makes of a program."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import git
import pytest

from benchmarks import outside
from benchmarks.outside import Candidate, Ending, Judged, NotComparable, Outcome, Program, Reference, Report
from orchestrator.project.folder import load
from orchestrator.project.furnishing import Furnished, Layers, furnish
from sandbox import image
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.keep import state_home
from sandbox.room import RoomError
from verifiers.building import Workshop
from verifiers.cache import Built
from verifiers.scorecard import Build

FOLDER = Path(__file__).parents[1] / "projects/c-compiler"
FAKE = """#!/bin/sh
case $(cat "$1") in
    *refused*) echo "case.c:1: error: refused"; exit 1 ;;
    *endless*) while :; do :; done ;;
    *forgotten*) exit 0 ;;
    *broken*) kill -SEGV $$ ;;
esac
exec gcc -w "$1" -o "$3"
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def rich() -> Furnished:
    """The C compiler's rooms, with gcc in those where cases run."""

    async def furnished() -> Furnished:
        engine = BubblewrapEngine(state_home())
        engine.check()
        return await furnish(load(FOLDER), engine, state_home(), print, for_reference=True)

    try:
        return anyio.run(furnished)
    except RoomError as error:
        if os.geteuid() == 0:
            raise
        pytest.skip(str(error))


@pytest.fixture
def artifacts() -> Iterator[Path]:
    """A folder that a room's user can walk to."""
    with TemporaryDirectory(prefix="outside-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def shop_of(rich: Furnished) -> AsyncIterator[Workshop]:
    async with outside.workshop(BubblewrapEngine(state_home()), rich, state_home()) as shop:
        yield shop


@pytest.mark.anyio
async def test_fifty_programs_do_with_gcc_what_they_state(rich: Furnished) -> None:
    programs = outside.own()
    assert len(programs) == 50
    tree = Layers((FOLDER / "seed", FOLDER / "reference"))
    async with shop_of(rich) as shop:
        found = await outside.judge(shop, rich, tree, programs, 2)
    assert [one for one in found if one.outcome is not Outcome.PASS] == []


@pytest.mark.anyio
async def test_what_a_compiler_makes_of_a_program_is_told_apart(
    rich: Furnished, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "CASE_S", 1.0)
    (artifacts / "ccc").write_text(FAKE)
    (artifacts / "ccc").chmod(0o755)
    built = Built(Layers(()), Build(True, 0.0), artifacts)
    expected, said = Ending(3, b"one\ntwo\n"), 'puts("one"); puts("two");'
    bodies = {
        said + "return 3;": (Outcome.PASS, ""),
        said + "return 4;": (Outcome.WRONG, "exit status 4, expected 3"),
        'puts("one"); puts("2"); return 3;': (Outcome.WRONG, "line 2: '2', expected 'two'"),
        'puts("one"); return 3;': (Outcome.WRONG, "line 2: nothing, expected 'two'"),
        said + 'puts("three"); return 3;': (Outcome.WRONG, "line 3: 'three', expected nothing"),
        said + "abort();": (Outcome.CRASH, "SIGABRT"),
        said + "return *(volatile int *)0;": (Outcome.CRASH, "SIGSEGV"),
        "for (volatile int i = 0; ; i++) ;": (Outcome.TIMEOUT, "running takes more than 1 s"),
        "refused": (Outcome.COMPILE, "case.c:1: error: refused"),
        "forgotten": (Outcome.COMPILE, "exit status 0 but no program written"),
        "broken": (Outcome.COMPILE, "Segmentation fault"),
        "endless": (Outcome.TIMEOUT, "compiling takes more than 1 s"),
    }
    async with shop_of(rich) as shop:
        candidate = Candidate(shop, rich.images["judge"], built, FOLDER / "suites/cc.sh")
        for body, (outcome, reason) in bodies.items():
            text = f'#include "beside.h"\nint main(void) {{ {body} }}\n'.encode()
            beside = {"beside.h": b"#include <stdio.h>\n#include <stdlib.h>\n"}
            found = await candidate.judge(Program("own", "a", text, expected, beside))
            assert (found.outcome, found.reason) == (outcome, reason), body


@pytest.mark.anyio
async def test_a_program_counts_only_where_compilers_agree_and_sanitizers_are_silent(rich: Furnished) -> None:
    async with shop_of(rich) as shop:
        reference = Reference(shop, await image.build(outside.REFERENCE, state_home(), progress=print))
        good = b'#include <stdio.h>\nint main(void) { printf("no end of line"); return 5; }\n'
        assert await reference.agreed(good) == Ending(5, b"no end of line")
        overflow = b"int main(void) { volatile int big = 0x7fffffff; big++; return 5; }\n"
        apart = b"int main(void) {\n#ifdef __clang__\nreturn 1;\n#endif\nreturn 2; }\n"
        endless = b"int main(void) { for (volatile int i = 0; ; i++) ; }\n"
        for text, why in ((overflow, "signed integer overflow"), (apart, "clang -O0 does something"),
                          (endless, "not within 2 s"), (b"int main", "gcc -O0 does not compile it")):  # fmt: skip
            with pytest.raises(NotComparable, match=why):
                await reference.agreed(text)
        (first,), _ = await outside.draw(reference, 1, 7, 1)
        assert first.expected.output.startswith(b"checksum = ") and "csmith.h" in first.beside
        (again,), _ = await outside.draw(reference, 1, 7, 1)
        assert again == first


def test_a_run_s_compiler_is_judged_by_the_run_s_own_project_and_told_as_one_object_or_a_table(
    rich: Furnished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rich.images  # the seed of a compiler is enough: it compiles nothing
    run = tmp_path / "cc-1"
    shutil.copytree(FOLDER, run / "frozen/project")
    (run / "state.db").touch()
    public = git.Repo.init(run / "public.git", bare=True, initial_branch="main")
    seed = ["git", f"--work-tree={FOLDER / 'seed'}", "-c", "user.name=a", "-c", "user.email=a@b"]
    public.git.execute([*seed, "add", "--all"])
    public.git.execute([*seed, "commit", "--quiet", "-m", "Seed"])
    some = outside.own()[:2]
    monkeypatch.setattr(outside, "own", lambda: some)
    words = ["outside", "cc-1", "--logs", str(tmp_path), "--csmith", "1", "--seed", "7"]
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    assert outside.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["commit"], told["seed"]) == ("cc-1", public.head.commit.hexsha, 7)
    assert [(one["family"], one["outcome"]) for one in told["programs"]] == [
        *[("own", "fails to compile")] * 2,
        ("csmith", "fails to compile"),
    ]
    judged = tuple(Judged(**(one | {"outcome": Outcome(one["outcome"])})) for one in told["programs"])
    shown = outside.table(Report("cc-1", told["commit"], 7, {"why": 2}, judged)).splitlines()
    assert [line.split()[:3] for line in shown[2:4]] == [["own", "0/2", "2"], ["csmith", "0/1", "1"]]
    assert shown[4].startswith(f"own/{some[0].name} ") and shown[-1] == "csmith, left out 2 times: why"
    monkeypatch.setattr(sys, "argv", [*words, "--commit", "nowhere"])
    assert outside.main() == 1 and "nowhere" in capsys.readouterr().err


def test_a_program_that_states_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "OWN", tmp_path)
    (tmp_path / "silent.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(ValueError, match=r"silent\.c: does not begin with"):
        outside.own()
