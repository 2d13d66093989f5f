"""The house rules that no other tool checks."""

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("orchestrator", "agents", "sandbox", "verifiers")
CODE_LIMIT = 12_000
ADDRESSES = re.compile(r"pypi\.org|pythonhosted\.org|deb\.debian\.org|registry\.npmjs|docker\.io/|ghcr\.io|quay\.io")


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def code_lines(file: Path) -> int:
    """Lines of a Python file that hold code."""
    text = file.read_text()
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = (token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in layout)
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - docs)


def test_the_four_packages_do_not_grow() -> None:
    lines = {package: sum(map(code_lines, (ROOT / package).rglob("*.py"))) for package in PACKAGES}
    assert sum(lines.values()) < CODE_LIMIT, lines


def test_no_file_names_a_registry() -> None:
    found = {}
    for file in tracked():
        if file != Path(__file__) and (names := ADDRESSES.findall(file.read_text(errors="ignore"))):
            found[str(file.relative_to(ROOT))] = names
    assert found == {}


def test_every_dependency_has_a_line_that_says_why() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    page = (ROOT / "docs/dependencies.md").read_text()
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \| \S", page, re.MULTILINE))
    lines = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    assert {re.split(r"[^a-z0-9-]", line)[0] for line in lines} - explained == set()


def test_every_package_that_setup_installs_has_a_line_that_says_why() -> None:
    script = (ROOT / "setup/setup.sh").read_text()
    wanted = set(re.findall(r"\|\| echo ([a-z0-9. -]+)$", script, re.MULTILINE))
    page = (ROOT / "docs/dependencies.md").read_text()
    assert wanted
    assert {name for names in wanted for name in names.split() if name not in page} == set()


def test_hooks_before_a_commit_are_local_and_use_the_environment_of_the_lock() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}
    assert all(entry.startswith(".venv/bin/") for entry in re.findall(r"entry: (.+)", hooks))


def test_ci_runs_what_people_run() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert script.rstrip().endswith("exec make test")


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "clean"])
def test_every_command_of_the_makefile_is_a_command(target: str) -> None:
    planned = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
