from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agents.models.choose import ModelNotReady, ModelUnknown, account, make, parse, window

LOCAL = "openai/qwen3-coder@http://localhost:8000/v1"


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("anthropic/claude-opus-4-6", ("", "anthropic/claude-opus-4-6")),
        ("planner=openai/gpt-5", ("planner", "openai/gpt-5")),
        (LOCAL, ("", LOCAL)),
        (f"builder={LOCAL}?a=b", ("builder", f"{LOCAL}?a=b")),
        ("scripted:teams/a=b.toml", ("", "scripted:teams/a=b.toml")),
        ("builder=scripted:a.toml", ("builder", "scripted:a.toml")),
        ("open", ("", "open")),
        ("reviewer=open", ("reviewer", "open")),
    ],
)
def test_model_values_are_read(value: str, choice: tuple[str, str]) -> None:
    assert parse(value) == choice


@pytest.mark.parametrize("value", ["", "gpt-5", "anthropic/", "scripted:", "openai/x@localhost:8000", "google/x", "x="])
def test_what_names_no_model_is_refused_with_the_forms(value: str) -> None:
    with pytest.raises(ModelUnknown, match=r"anthropic/NAME|http://"):
        parse(value)


def test_without_any_key_the_remedies_are_named() -> None:
    with pytest.raises(ModelNotReady) as error:
        make("anthropic/claude-opus-4-6", {})
    assert str(error.value) == "no model can be reached: ANTHROPIC_API_KEY and OPENAI_API_KEY are not set"
    assert "--model openai/qwen3-coder@http://localhost:8000/v1" in error.value.remedies[0]


def test_without_the_vendors_key_that_key_is_named() -> None:
    with pytest.raises(ModelNotReady, match="OPENAI_API_KEY is not set"):
        make("openai/gpt-5", {"ANTHROPIC_API_KEY": "k"})


def test_accounts_are_vendors_or_servers() -> None:
    assert [account(id) for id in ("anthropic/a", "openai/b", LOCAL, "scripted:a.toml")] == [
        "anthropic",
        "openai",
        "http://localhost:8000/v1",
        "scripted",
    ]


def test_known_windows_are_known_and_unknown_ones_careful() -> None:
    assert window("anthropic", "claude-opus-4-5") >= 200_000
    assert window("openai", "qwen3-coder") == 128_000


def test_a_scripted_team_imports_no_vendors_sdk(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[session]]\nmatch = "*"')
    code = (
        f"import sys; from agents.models.choose import make; make('scripted:{tmp_path}/a.toml', {{}});"
        "sys.exit(bool({'anthropic', 'openai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
