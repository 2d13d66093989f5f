"""The doctor tells what is, and never what a key is."""

from pathlib import Path

import pytest

from orchestrator.doctor import Level, examine
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.docker import DockerEngine


def test_everything_a_run_needs_has_its_line(tmp_path: Path) -> None:
    names = [line.name for line in examine(tmp_path)]
    wanted = ["python", "git", "cores", "memory", "disk", "bubblewrap", "docker", "images", "prices"]
    assert [name for name in wanted if name not in names] == []
    once = [name for name in names if not name.endswith(" bounds")]
    assert len(once) == len(set(once))


def test_whatever_is_amiss_comes_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = examine(tmp_path)
    lines = {line.name: line for line in report}
    assert lines["git"].level is Level.MISSING
    without = {line.name for line in report if line.level is not Level.OK and not line.remedy}
    assert without <= {"bubblewrap bounds", "docker bounds"}  # which a machine has or has not


def test_of_a_key_only_whether_it_is_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-canary")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    report = examine(tmp_path)
    lines = {line.name: line for line in report}
    assert (lines["ANTHROPIC_API_KEY"].level, lines["ANTHROPIC_API_KEY"].text) == (Level.OK, "set")
    assert lines["OPENAI_API_KEY"].level is Level.WARN
    assert "canary" not in repr(report)


def test_what_an_engine_cannot_bound_is_said_in_its_words(tmp_path: Path) -> None:
    lines = examine(tmp_path)
    works = {line.name for line in lines if line.level is Level.OK}
    for engine in (BubblewrapEngine(tmp_path), DockerEngine(tmp_path)):
        said = [line.text for line in lines if line.name == f"{engine.name} bounds"]
        assert said == (list(engine.gaps()) if engine.name in works else [])
    nothing = [line.level for line in lines if line.name == "sandbox"]
    assert nothing == ([] if works & {"bubblewrap", "docker"} else [Level.MISSING])


def test_disk_is_looked_at_where_things_will_be_kept(tmp_path: Path) -> None:
    home = tmp_path / "not/yet/there"
    [disk] = [line for line in examine(home) if line.name == "disk"]
    assert str(home) in disk.text
    assert not home.exists()
