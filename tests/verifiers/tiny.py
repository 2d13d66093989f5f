"""A project small enough for tests: its "compiler" is a shell script, its "programs" are shell scripts too.

A case says how its program shall end, with two drawn statuses: `well 41 aborted 57 end well`. An honest compiler makes
a script that exits with the one that is asked for.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from sandbox.room import Limits, RootFs
from verifiers.suites import BuildPlan, JudgePlan, LockedCase, Suite

DRAW = """
from verifiers.drawing import Prepared

def twists(text, name):
    return {"status": 1, "inverse": 1} if b"end well" in text else {"status": 1}

def prepare(text, name, draw):
    well, aborted = draw.number(3, 60, "well"), draw.number(61, 120, "aborted")
    inverse = draw.twist == "inverse"
    text = text.replace(b"end well", b"end abort") if inverse else text
    text = b"well %d aborted %d\\n" % (well, aborted) + text
    return Prepared({name: text}, aborted if inverse else well, meanings={well: "ended well", aborted: "aborted"})
"""
MAKE = """#!/bin/sh
log="${TMPDIR:-/tmp}/log"
"$ARTIFACTS/solve" "$CASE" "$OUT/a" >"$log" 2>&1 || { echo "ERROR compile: $(tail -n 1 "$log")"; exit 1; }
"""
UNIT = """#!/bin/sh
cat unit.txt
exit "$(cat unit.status)"
"""
HONEST = """#!/bin/sh
read -r _ well _ aborted <"$1"
status=$well
grep -q "end abort" "$1" && status=$aborted
grep -q "end nowhere" "$1" && { echo "cannot read this"; exit 1; }
printf '#!/bin/sh\\nexit %s\\n' "$status" >"$2"
chmod +x "$2"
"""
TOOLS = (
    "sh",
    "cat",
    "cp",
    "tar",
    "mkdir",
    "grep",
    "head",
    "tail",
    "ls",
    "chmod",
    "rm",
    "sleep",
    "true",
    "wc",
    "touch",
    "du",
)
SUMMARY = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
UNIT_OK = "running 2 tests\ntest parser::sums ... ok\ntest parser::calls ... ok\n\n" + SUMMARY


class Files:
    """A tree from names and contents; `*` marks an executable file."""

    def __init__(self, files: Mapping[str, str]) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name.rstrip("*"))
                info.size, info.mode = len(content.encode()), 0o755 if name.endswith("*") else 0o644
                tar.addfile(info, io.BytesIO(content.encode()))
        self._data = out.getvalue()
        self.id = str(hash(self._data))

    async def tar(self) -> AsyncIterator[bytes]:
        yield self._data


def candidate(solve: str = HONEST, unit: str = UNIT_OK, status: int = 0) -> Files:
    return Files({"solve.sh*": solve, "unit.txt": unit, "unit.status": str(status)})


def make_root(folder: Path) -> RootFs:
    """A root file system with a shell and little else, copied from this machine."""
    tree = folder / "tree"
    for part in (
        "usr/bin",
        "proc",
        "dev",
        "tmp",
        "workspace",
        "team",
        "case",
        "cases",
        "artifacts",
        "out",
        "sources",
        "opt/room",
    ):
        (tree / part).mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    for tool in (*TOOLS, "prlimit", "setpriv", "timeout"):
        program = Path(shutil.which(tool) or "").resolve()
        shutil.copy(program, tree / "usr/bin" / tool)
        for word in subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.split():
            if word.startswith("/") and not (target := tree / word[1:]).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
    return RootFs("sha256:tiny", tree, folder / "none.tar")


def make_project(folder: Path, cases: int) -> tuple[Suite, ...]:
    """Writes the project's files; cases `c00` … say `end well`, and every third cannot be turned round."""
    for name, content in {"draw.py": DRAW, "make.sh": MAKE, "unit.sh": UNIT}.items():
        (folder / "suites").mkdir(parents=True, exist_ok=True)
        (folder / "suites" / name).write_text(content)
        (folder / "suites" / name).chmod(0o755)
    (folder / "cases").mkdir()
    for number in range(cases):
        end = "stay" if number % 3 == 2 else "end well"
        (folder / f"cases/c{number:02}.txt").write_text(f"{end}\nCANARY-c{number:02}-END\n")
    return (
        Suite.model_validate(
            {
                "name": "end",
                "cases": "cases/*.txt",
                "prepare": "suites/draw.py",
                "steps": ["suites/make.sh", "$OUT/a"],
                "heldout": 0.2,
                "time": "2s",
            }
        ),
        Suite.model_validate(
            {
                "name": "unit",
                "run": "suites/unit.sh",
                "room": "build",
                "results": "libtest",
                "when": "gate",
                "time": "5s",
            }
        ),
    )


def make_plan(folder: Path, root: RootFs, suites: tuple[Suite, ...], cases: tuple[LockedCase, ...]) -> JudgePlan:
    declared = {"run": "mkdir out && cp solve.sh out/solve", "artifacts": ["out/solve"], "time": "20s"}
    return JudgePlan(
        folder,
        {},
        BuildPlan.model_validate(declared),
        suites,
        cases,
        root,
        root,
        folder.parent / "scratch",
        b"the secret of a run",
        limits=Limits(),
        cores=2,
    )
