"""The report: one file, nothing fetched, nothing of an agent's text acted on."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator.cli.app import main
from orchestrator.project.project import Milestone, Need
from orchestrator.store import reading
from orchestrator.watch.credit import credit
from orchestrator.watch.journal import entries
from tests.orchestrator.made_run import card, heldout, make_run
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict


class Page(HTMLParser):
    """What a browser would load or run, and what it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    make_run(tmp_path, "c-compiler-1", ended=False)
    make_run(tmp_path, "c-compiler-2")
    return tmp_path


def report(logs: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["report", "c-compiler-2", "--json", "--logs", str(logs)]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


def test_is_one_file_that_loads_and_runs_nothing(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    page = Page()
    page.feed((logs / "c-compiler-2" / "report" / "index.html").read_text())
    assert page.loads == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert {"svg", "table", "style"} <= page.tags


def test_shows_hostile_titles_as_text(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    raw = (logs / "c-compiler-2" / "report" / "index.html").read_text()
    page = Page()
    page.feed(raw)
    assert "<script" not in raw
    assert "\x1b" not in raw
    assert any("<script>alert(1)</script>" in text for text in page.text)


def test_tells_credit_from_heldout_cases_gap_and_attempts(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = report(logs, capsys)
    assert made["credit"] == pytest.approx(80 * 0.6 / 0.9 + 20)
    assert made["interventions"] == 1
    assert made["attempts"] == 2
    (gap,) = made["gaps"]
    assert (gap["shown"]["passed"], gap["heldout"]["passed"]) == (36, 6)


def test_revealing_is_journalled_once(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    report(logs, capsys)
    with reading(logs / "c-compiler-2" / "state.db") as db:
        assert len(entries(db, kinds=["revealed"])) == 1


def test_the_picture_is_well_formed_and_draws_shown_and_heldout(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    picture = ElementTree.parse(logs / "c-compiler-2" / "report" / "curves.svg")
    words = [node.text or "" for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "torture 90 %" in words
    assert "torture held out 60 %" in words


def test_a_milestone_is_as_far_as_its_least_advanced_need() -> None:
    milestone = Milestone(name="both", credit=10, needs=(Need("torture", "share", 1.0), Need("unit", "share", 0.5)))
    (earned,) = credit([milestone], card(20, "t", units=4), None)
    assert (earned.credit, earned.heldout) == (5.0, False)


def test_heldout_cases_decide_where_there_are_any() -> None:
    milestone = Milestone(name="compiles", credit=10, needs=(Need("torture", "share", 1.0),))
    (earned,) = credit([milestone], card(40, "t"), heldout(5, "t"))
    assert (earned.credit, earned.heldout) == (5.0, True)


@pytest.mark.parametrize(("kind", "value", "expected"), [("<=", 2.0, 0.5), ("<=", 8.0, 1.0), (">=", 8.0, 0.5)])
def test_a_measured_suite_counts_by_its_geometric_mean(kind: str, value: float, expected: float) -> None:
    verdicts = {
        name: Verdict(name, Outcome.PASS, value=number) for name, number in (("speed/a", 2.0), ("speed/b", 8.0))
    }
    shown = Scorecard("t", "full", Build(True, 1.0), verdicts)
    (earned,) = credit([Milestone(name="fast", credit=1, needs=(Need("speed", kind, value),))], shown, None)
    assert earned.credit == pytest.approx(expected)
