"""The doctor tells what is, and never what a key is."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.doctor import Level, examine


@dataclass(frozen=True)
class Loose:
    """An engine of which only the gaps are asked."""

    name: str = "loose"

    def gaps(self) -> tuple[str, ...]:
        return ("total memory is not bounded", "CPU share is not bounded")


def test_everything_a_run_needs_has_its_line(tmp_path: Path) -> None:
    names = [line.name for line in examine(tmp_path).lines]
    wanted = ["python", "git", "cores", "memory", "disk", "namespaces", "docker", "images", "prices"]
    assert [name for name in wanted if name not in names] == []
    assert len(names) == len(set(names))


def test_whatever_is_amiss_comes_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = examine(tmp_path)
    lines = {line.name: line for line in report.lines}
    assert not report.ready
    assert lines["git"].level is Level.MISSING
    assert lines["docker"].level is Level.WARN
    assert [line.name for line in report.lines if line.level is not Level.OK and not line.remedy] == []


def test_of_a_key_only_whether_it_is_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-canary")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    report = examine(tmp_path)
    lines = {line.name: line for line in report.lines}
    assert (lines["ANTHROPIC_API_KEY"].level, lines["ANTHROPIC_API_KEY"].text) == (Level.OK, "set")
    assert lines["OPENAI_API_KEY"].level is Level.WARN
    assert "canary" not in repr(report)


def test_what_an_engine_cannot_bound_is_said_in_its_words(tmp_path: Path) -> None:
    said = [line.text for line in examine(tmp_path, engines=[Loose()]).lines if line.name == "loose"]
    assert said == ["total memory is not bounded", "CPU share is not bounded"]


def test_disk_is_looked_at_where_things_will_be_kept(tmp_path: Path) -> None:
    home = tmp_path / "not/yet/there"
    [disk] = [line for line in examine(home).lines if line.name == "disk"]
    assert str(home) in disk.text
    assert not home.exists()
