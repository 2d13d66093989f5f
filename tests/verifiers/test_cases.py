"""Where cases come from, which are held out, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifiers.cases import expand, locate, share
from verifiers.suites import LockedCase, Suite, SuiteError

RUNNER = "#!/bin/sh\nexit 0\n"


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"suites/run.sh": RUNNER, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def cases_of(folder: Path, *suites: Suite, name: str = "p") -> tuple[LockedCase, ...]:
    return expand(name, folder, {"gcc": folder / "fetched"}, suites)


def suite(name: str = "s", cases: str = "cases/*.c", heldout: float = 0.5) -> Suite:
    return Suite(name=name, cases=cases, run="suites/run.sh", heldout=heldout)


def test_one_file_is_one_case_from_the_project_or_a_source(tmp_path: Path) -> None:
    project(tmp_path, {"cases/a.c": "", "cases/b.c": "", "fetched/x/t.c": ""})
    found = cases_of(tmp_path, suite("own"), suite("gcc", "sources/gcc/x/*.c"))
    assert [(case.id, case.file) for case in found] == [
        ("gcc/t", "sources/gcc/x/t.c"),
        ("own/a", "cases/a.c"),
        ("own/b", "cases/b.c"),
    ]


def test_all_suites_of_a_file_share_its_split_and_so_do_files_that_include_one_another(
    tmp_path: Path,
) -> None:
    chain = {f"cases/c{n:02}.c": f'#include "c{n + 1:02}.c"\n' if n % 4 else "" for n in range(40)}
    project(tmp_path, chain)
    found = cases_of(tmp_path, suite("one"), suite("two"))
    hidden: dict[str, set[bool]] = {}
    for case in found:
        number = int(Path(case.file).stem[1:])
        hidden.setdefault(f"{(number + 3) // 4}", set()).add(case.heldout)
    assert len(hidden) == 11 and all(len(split) == 1 for split in hidden.values())
    assert {case.heldout for case in found} == {True, False}
    assert next(case for case in found if case.id == "two/c01").with_files == (
        "cases/c02.c",
        "cases/c03.c",
        "cases/c04.c",
    )


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=8, unique=True))
def test_a_split_does_not_move_when_other_cases_come_or_go(tmp_path: Path, names: list[str]) -> None:
    files = {f"{len(names)}{names[0]}/{name}.c": "" for name in names}
    project(tmp_path, files)
    pattern = f"{len(names)}{names[0]}/*.c"
    before = {case.id: case.heldout for case in cases_of(tmp_path, suite(cases=pattern))}
    (tmp_path / next(iter(files))).unlink()
    project(tmp_path, {pattern.replace("*", "UPPER"): ""})
    after = {case.id: case.heldout for case in cases_of(tmp_path, suite(cases=pattern))}
    assert all(before[id_] == hidden for id_, hidden in after.items() if id_ in before)


@given(st.floats(0.05, 0.95), st.text(min_size=1, max_size=10))
@settings(max_examples=20)
def test_a_share_is_held_out_and_a_larger_share_holds_out_the_same_and_more(wanted: float, name: str) -> None:
    lots = [share(name, f"cases/{n}.c") for n in range(1000)]
    assert abs(sum(lot < wanted for lot in lots) / 1000 - wanted) < 0.1
    assert lots == [share(name, f"cases/{n}.c") for n in range(1000)]


def test_the_split_hangs_on_the_project(tmp_path: Path) -> None:
    project(tmp_path, {f"cases/{n}.c": "" for n in range(50)})
    splits = [[case.heldout for case in cases_of(tmp_path, suite(), name=name)] for name in ("p", "q")]
    assert splits[0] != splits[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((suite("a", heldout=0.2), suite("b", heldout=0.0)), "give both the same `heldout`"),
        ((suite(cases="cases/*.rs"),), "matches no file"),
        ((suite(cases="sources/lua/*.c"),), r"\[sources\] does not name it \(named: gcc\)"),
        ((suite(cases="*/same.c"),), "two files make one case id"),
    ],
)
def test_a_wrong_suite_is_refused_with_what_to_do(tmp_path: Path, wrong: tuple[Suite, ...], message: str) -> None:
    project(tmp_path, {"cases/a.c": "", "x/same.c": "", "y/same.c": ""})
    with pytest.raises(SuiteError, match=message):
        cases_of(tmp_path, *wrong)


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "sources/gcc/../../x", "", "sources/none/x"])
def test_no_case_lies_outside_the_project_and_its_sources(tmp_path: Path, file: str) -> None:
    with pytest.raises(SuiteError):
        locate(tmp_path, {"gcc": tmp_path}, file)
