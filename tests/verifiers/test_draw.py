"""The C project's rewriting of a torture case: the right answer is drawn, and cannot be had without compiling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.drawing import Draw, draw_for, load_plugin
from verifiers.suites import SuiteError

DRAW = Path(__file__).parents[2] / "projects/c-compiler/suites/draw.py"
PLUGIN = load_plugin(DRAW)
CASE = b"int f (int x) { return x * 2; }\nmain ()\n{\n  if (f (21) != 42)\n    abort ();\n  exit (0);\n}\n"


@given(st.binary(min_size=1), st.text(min_size=1))
def test_a_draw_is_the_same_for_a_run_and_case_and_another_for_others(secret: bytes, case: str) -> None:
    weights = {"status": 1, "inverse": 1}
    draw = draw_for(secret, case, weights)
    assert draw == draw_for(secret, case, weights)
    assert draw.number(0, 2**60, "x") != draw_for(secret, case + "'", weights).number(0, 2**60, "x")
    assert draw.number(0, 2**60, "x") != draw_for(secret + b"'", case, weights).number(0, 2**60, "x")


def test_twists_are_drawn_by_weight() -> None:
    drawn = [draw_for(b"s", str(n), {"status": 2, "inverse": 1}).twist for n in range(3000)]
    assert 900 < drawn.count("inverse") < 1100 and drawn.count("status") == 3000 - drawn.count("inverse")


@given(st.binary(min_size=8, max_size=8), st.sampled_from(["status", "inverse"]))
def test_no_right_answer_is_a_status_that_anything_gives_by_accident(key: bytes, twist: str) -> None:
    prepared = PLUGIN.prepare(CASE, "a.c", Draw(key, twist))
    assert 3 <= prepared.expected_status < 125 and prepared.expected_status not in (77, 99)
    well, aborted = prepared.meanings
    assert (
        well != aborted
        and prepared.meanings[prepared.expected_status]
        == {
            "status": "ended well",
            "inverse": "called abort",
        }[twist]
    )


def test_status_and_inverse_differ_in_the_turned_comparison_alone() -> None:
    status, inverse = (PLUGIN.prepare(CASE, "a.c", Draw(b"k", twist)).files["a.c"] for twist in ("status", "inverse"))
    assert inverse == status.replace(b"f (21) != 42", b"f (21) == 42") != status


@pytest.mark.parametrize(
    ("guard", "turned"),
    [
        (b"if (x->a == 1) abort ();", b"if (x->a != 1) abort ();"),
        (b"if ((x << 3) <= y) abort ();", b"if ((x << 3) > y) abort ();"),
        (b"if (a > b) { __builtin_abort ();", b"if (a <= b) { __builtin_abort ();"),
        (b"if (x) abort ();", None),
        (b"if (x >> 1) abort ();", None),
        (b"if (a == 1) f ();", None),
    ],
)
def test_only_a_comparison_that_guards_an_abort_is_turned(guard: bytes, turned: bytes | None) -> None:
    found = "inverse" in PLUGIN.twists(guard, "a.c")
    assert found is (turned is not None)
    if turned:
        assert turned in PLUGIN.prepare(guard, "a.c", Draw(b"k", "inverse")).files["a.c"]


def test_the_source_shows_both_statuses_in_the_same_way_whichever_is_right() -> None:
    shapes = {
        re.sub(rb"\d+", b"N", PLUGIN.prepare(CASE, "a.c", Draw(bytes([n]), twist)).files["a.c"]).replace(b"!=", b"==")
        for n in range(5)
        for twist in ("status", "inverse")
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("source", ["", "def prepare(:", "import nothing_of_that_name"])
def test_a_plugin_that_cannot_serve_is_refused_by_name(tmp_path: Path, source: str) -> None:
    (tmp_path / "draw.py").write_text(source)
    with pytest.raises(SuiteError, match=r"draw\.py"):
        load_plugin(tmp_path / "draw.py")
