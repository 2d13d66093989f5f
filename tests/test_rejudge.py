"""`benchmarks.rejudge` finds, from a repository alone, a commit that lost a case and one that is nobody's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import git
import pytest

from benchmarks.rejudge import TRAILERS
from tests.orchestrator.running import isolates

ROOT = Path(__file__).parents[1]
HELLO = ROOT / "projects/hello"
WHOSE = "\n".join(f"{name}: x" for name in TRAILERS)


def test_a_commit_that_loses_a_case_is_red_and_so_is_one_that_says_not_whose_it_is(tmp_path: Path) -> None:
    if not isolates():
        pytest.skip("nothing here isolates a room: doctor says what is missing")
    repository = git.Repo.init(tmp_path / "repo", initial_branch="main")
    tree = Path(repository.working_tree_dir or "")

    def commit(message: str) -> None:
        repository.git.add("--all")
        repository.git.execute(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", message]
        )

    shutil.copytree(HELLO / "seed", tree, dirs_exist_ok=True)
    commit("Seed")
    shutil.copytree(HELLO / "reference", tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("expect.toml"))
    commit(f"Everything\n\n{WHOSE}")
    commit("Nobody's")
    (tree / "greet/loud.sh").write_text("cat\n")
    commit(f"Quieter\n\n{WHOSE}")
    command = [sys.executable, "-m", "benchmarks.rejudge", str(tree), str(HELLO), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    seed, whole, nobody, lost = json.loads(done.stdout)
    assert not seed["wrong"] and not whole["wrong"] and seed["passed"]["greet"][0] == 0
    assert nobody["wrong"] == [f"no trailer {name}" for name in TRAILERS]
    assert lost["wrong"] and all(line.startswith(("loses greet/loud-", "loses unit/")) for line in lost["wrong"])
