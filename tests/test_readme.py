"""Every command of the README and of docs/ works as written, in a copy of this repository, one page after another.

A block of shell that cannot be run here says why behind its fence: ```sh not run: REASON. A command that ends with
another code than 0 stands last in its block, with `# exit CODE` behind it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.orchestrator.running import PATIENCE_S, Yard, isolates, yard

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
PAGES: Final = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FENCE: Final = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
CODE: Final = re.compile(r"# exit (\d+)\s*\Z")
LINK: Final = re.compile(
    r"`((?:orchestrator|agents|sandbox|verifiers|projects|tests|docs|setup|logs|benchmarks)/[\w./-]*)`"
)


@dataclass(frozen=True)
class Block:
    info: str
    body: str
    line: int

    @property
    def shell(self) -> bool:
        return self.info.split(" ")[0] in ("sh", "bash", "console", "shell")

    @property
    def runs(self) -> bool:
        return self.info == "sh"

    @property
    def code(self) -> int:
        found = CODE.search(self.body)
        return int(found[1]) if found else 0


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(one["info"].strip(), one["body"], text.count("\n", 0, one.start()) + 1) for one in FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def copy() -> Iterator[Yard]:
    """This repository as it would be committed, with the environment of the real one and rooms of its own."""
    if not isolates():
        pytest.skip("nothing here isolates a room: doctor says what is missing")
    with yard(None) as place:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for file in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / file).is_file():
                (place.folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, place.folder / file)
        (place.folder / ".venv").symlink_to(ROOT / ".venv")
        (place.folder / "state").write_text("")
        yield place


def play(block: Block, place: Yard) -> tuple[int, str]:
    """Runs a block as one script that stops at the first failure; what it exports is there for the next one."""
    state, out = shlex.quote(str(place.folder / "state")), place.folder / "output"
    script = f"trap 'code=$?; export -p >{state}; exit $code' EXIT\n. {state}\nset -e\n{block.body}"
    env = {key: value for key, value in place.env.items() if key != "ORCHESTRATOR_LOGS"}  # pages say logs/
    with out.open("w") as stream:  # a file: what runs in the background would hold a pipe open
        done = subprocess.run(
            ["bash", "-c", script], cwd=place.folder, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    return done.returncode, out.read_text(errors="replace")


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.runs for block in blocks(page))], ids=name)
def test_every_command_of_a_page_works_as_written(page: Path, copy: Yard) -> None:
    for block in filter(lambda one: one.runs, blocks(page)):
        code, output = play(block, copy)
        assert code == block.code, (
            f"{name(page)}:{block.line} ended with {code}, not {block.code}\n{block.body}\n{output}"
        )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_block_of_shell_is_run_or_says_why_not(page: Path) -> None:
    silent = [block.line for block in blocks(page) if block.shell and not block.runs and "not run: " not in block.info]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = {found.rstrip("/.") for found in LINK.findall(page.read_text())}
    assert {one for one in named if not (ROOT / one).exists() and not one.startswith("logs/RUN")} == set()


def test_the_readme_holds_the_two_commands_and_the_place_of_the_field_run() -> None:
    text = README.read_text()
    assert "make demo" in text and "make test" in text
    assert "\n## The field run\n" in text
