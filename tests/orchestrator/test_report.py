"""The report: one file, nothing fetched, nothing of an agent's text acted on."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator.cli.app import main
from orchestrator.store import reading
from orchestrator.watch.journal import entries
from tests.orchestrator.made_run import CASES, make_exceptions, make_run


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


def test_tells_shown_and_heldout_results_side_by_side(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = report(logs, capsys)
    assert (made["suites"]["torture"]["passed"], made["heldout"]["torture"]["passed"]) == (36, 6)
    page = Page()
    page.feed((logs / "c-compiler-2" / "report" / "index.html").read_text())
    row = page.text.index("torture")
    assert [text[:5] for text in page.text[row : row + 3]] == ["tortu", "36/40", "6/10 "]


def test_tells_what_people_did_to_the_run(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    raw = (logs / "c-compiler-2" / "report" / "index.html").read_text()
    assert "to agent-02, by ada: prefer aarch64" in raw
    assert "held-out results, by " in raw


def test_tells_what_main_may_lose_and_who_said_so(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_exceptions(logs / "c-compiler-2")
    report(logs, capsys)
    page = Page()
    page.feed((logs / "c-compiler-2" / "report" / "index.html").read_text())
    row = page.text.index(CASES[6], page.text.index("Cases that main may lose"))
    evidence = "passed and failed on main commit3, 2 of 3 runs"
    assert page.text[row : row + 6] == [CASES[6], "flaky", "2026-03-14 11:00Z", evidence, "run", "T14"]
    row = page.text.index(CASES[4], row)
    waived = ["waived", "2026-03-14 11:00Z", "2026-03-16 11:00Z", "calls move to the new ABI", "ada"]
    assert page.text[row : row + 6] == [CASES[4], *waived]


def test_revealing_is_journalled_once(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    report(logs, capsys)
    with reading(logs / "c-compiler-2" / "state.db") as db:
        assert len(entries(db, "kind = 'revealed'")) == 1


def test_the_picture_is_well_formed_and_draws_shown_and_heldout(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(logs, capsys)
    picture = ElementTree.parse(logs / "c-compiler-2" / "report" / "curves.svg")
    words = [node.text or "" for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "torture 90" in words
    assert "torture held out 60" in words
