"""`python -m benchmarks.outside RUN`: a C compiler that a run has built, judged on programs that its project never had.

Two families: fifty programs of our own (`benchmarks/outside/*.c`, each with its exit status and output in the comment
that it begins with) and programs that csmith makes anew from `--seed`. Of the latter those count on which gcc and
clang, optimizing or not, agree, and of which their sanitizers have nothing to say. `--check` asks them about our own
programs too: whoever changes one does.

The compiler is built by its project's own rule and called by its project's own runner, in rooms as a judge's are. The
reference compilers and csmith live in an image of their own, which no room of the candidate sees.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import anyio
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from orchestrator.cli.process import find
from orchestrator.control import Refusal
from orchestrator.git import CONFINED, Git, GitError, GitTree
from orchestrator.project.folder import load
from orchestrator.project.furnishing import Furnished, furnish, judge_plan
from sandbox import image
from sandbox.engines import choose
from sandbox.image import ImageSpec
from sandbox.keep import state_home
from sandbox.room import Command, Ended, Engine, Labels, Limits, Mount, Result, RoomError, RootFs
from verifiers.building import WALL_FACTOR, WORKSPACE, Workshop
from verifiers.cache import Builds, Built
from verifiers.judge import ARTIFACTS, CASE, CASE_ENV
from verifiers.results import one_line
from verifiers.scorecard import Tree

Item = TypeVar("Item")
OWN: Final = Path(__file__).parent / "outside"
STATED: Final = re.compile(r"/\* expect (\d+)\n(.*?)\*/\n", re.DOTALL)
REFERENCE: Final = ImageSpec(("clang", "csmith", "gcc", "libc6-dev", "libclang-rt-14-dev", "libcsmith-dev"), judge=True)
HEADERS: Final = "usr/include/csmith"  # in the reference's image
# Small programs: what a failing one gets wrong can still be read.
CSMITH: Final = (
    *("csmith", "--concise", "--no-packed-struct", "--max-funcs", "3", "--max-block-depth", "2"),
    *("--max-block-size", "3", "--max-expr-complexity", "4", "--max-array-dim", "2", "--max-array-len-per-dim", "5"),
)
NOTHING: Final = b"checksum = 0\n"  # of a program without variables
TRIES: Final = 10  # programs drawn for each one that is wanted, at most
CASE_S: Final = 10.0  # CPU seconds of the compiler, and of what it made: the contract's
REFERENCE_S: Final = 120.0
VAST: Final = Limits(memory=1 << 47)  # sanitizers reserve terabytes of addresses; only our own tools run there
OUT_OF_TIME: Final = "CPU time limit exceeded"  # as the runner's shell says it
CRASHES: Final = {
    128 + number: number.name
    for number in (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP)
}
# Prints what the program on stdin does, its status last, or ends with 1 and a line that says why nobody can know. What
# is not freed is no mistake in a program that ends.
AGREE: Final = f"""
cd /tmp && cat >case.c || exit 2
export ASAN_OPTIONS=detect_leaks=0
for how in "gcc -O0" "gcc -O2" "clang -O0" "clang -O2" "gcc -O1 -fsanitize=undefined,address" \
    "clang -O1 -fsanitize=undefined,address"; do
    $how -w -I/{HEADERS} case.c -o case -lm 2>log || {{ echo "$how does not compile it: $(head -n 1 log)"; exit 1; }}
    (ulimit -t 2; exec ./case) >said 2>log
    status=$?
    printf '\\n%s' "$status" >>said
    case $how in *sanitize*) [ ! -s log ] || {{ echo "$how: $(grep -m1 -i error log)"; exit 1; }};; esac
    [ "$status" -lt 128 ] || {{ echo "$how: it ends by a signal, or not within 2 s"; exit 1; }}
    [ -e first ] || cp said first
    cmp -s said first || {{ echo "$how does something else than gcc -O0"; exit 1; }}
done
cat first
"""


class Outcome(StrEnum):
    """What became of a program."""

    PASS = "pass"
    COMPILE = "fails to compile"
    WRONG = "wrong output"
    CRASH = "crash"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Ending:
    """What a program does."""

    status: int
    output: bytes


@dataclass(frozen=True)
class Program:
    """`beside` are files that it includes."""

    family: str
    name: str
    text: bytes
    expected: Ending
    beside: Mapping[str, bytes]


@dataclass(frozen=True)
class Judged:
    """One program. `reason` is one line, empty when it passed."""

    family: str
    name: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """All that the benchmark found. `left_out` says why programs of csmith's were not used, and how many."""

    run: str
    commit: str
    seed: int
    left_out: Mapping[str, int]
    programs: tuple[Judged, ...]


class NotComparable(Exception):
    """Compilers disagree about a program, or it does what no program may; the message says which and how."""


class NotBuilt(Exception):
    """There is no compiler to judge."""


def own() -> list[Program]:
    """Our own programs with what they state. Raises `ValueError` for one that states nothing."""
    found = []
    for path in sorted(OWN.glob("*.c")):
        text = path.read_text()
        if (stated := STATED.match(text)) is None:
            raise ValueError(f"{path.name}: does not begin with /* expect STATUS, the lines that it prints, */")
        found.append(Program("own", path.stem, text.encode(), Ending(int(stated[1]), stated[2].encode()), {}))
    return found


# The reference


@dataclass(frozen=True)
class Reference:
    """gcc, clang and csmith in an image of ours."""

    shop: Workshop
    root: RootFs

    async def run(self, *argv: str, stdin: bytes = b"") -> Result:
        command = Command(argv, stdin=stdin, cwd="/tmp", time_s=REFERENCE_S)
        return await self.shop.run(command, root=self.root, limits=VAST, scratch_exec=True)

    async def agreed(self, text: bytes) -> Ending:
        """What a program does, whoever compiles it. Raises `NotComparable`, `RoomError`."""
        done = await self.run("sh", "-c", AGREE, stdin=text)
        if not done.ok:
            raise NotComparable(one_line((done.stdout or done.stderr).decode(errors="replace")) or done.ended)
        output, _, status = done.stdout.rpartition(b"\n")
        return Ending(int(status), output)

    async def drawn(self, seed: int) -> Program:
        """The program that csmith makes of a seed. Raises `NotComparable`, `RoomError`."""
        made = await self.run(*CSMITH, "--seed", str(seed))
        if not made.ok:
            raise NotComparable("csmith makes nothing of its seed")
        ending = await self.agreed(made.stdout)
        if ending.output == NOTHING:
            raise NotComparable("it computes nothing")
        headers = {path.name: path.read_bytes() for path in (self.root.tree / HEADERS).glob("*.h")}
        return Program("csmith", str(seed), made.stdout, ending, headers)


async def mistaken(reference: Reference, programs: Sequence[Program], cores: int) -> list[str]:
    """A line for each program that does not do what it states."""
    found: list[str] = []

    async def one(program: Program) -> None:
        try:
            ending = await reference.agreed(program.text)
        except NotComparable as error:
            found.append(f"{program.name}: {error}")
        else:
            if ending != program.expected:
                found.append(f"{program.name}: {difference(ending, program.expected)}")

    await each(programs, one, cores)
    return sorted(found)


async def draw(reference: Reference, wanted: int, seed: int, cores: int) -> tuple[list[Program], dict[str, int]]:
    """So many programs of csmith's, always the same ones for a seed, and why others were left out."""
    chance = random.Random(seed)
    tried: dict[int, Program | str] = {}

    async def one(number: int) -> None:
        try:
            tried[number] = await reference.drawn(number)
        except NotComparable as error:
            tried[number] = str(error)

    found: list[Program] = []
    left_out = Counter[str]()
    for _ in range(TRIES):
        numbers = [chance.randrange(1, 1 << 31) for _ in range(wanted - len(found))]
        await each(numbers, one, cores)
        for outcome in map(tried.__getitem__, numbers):
            if isinstance(outcome, str):
                left_out[outcome] += 1
            else:
                found.append(outcome)
    return found, dict(left_out)


# The candidate


@dataclass(frozen=True)
class Candidate:
    """A compiler that was built, with the project's runner that calls it."""

    shop: Workshop
    root: RootFs | None
    built: Built
    runner: Path

    @retry(retry=retry_if_exception_type(RoomError), stop=stop_after_attempt(2), reraise=True)
    async def judge(self, program: Program) -> Judged:
        """Compiles the program in one room and runs it alone in another. Raises `RoomError`."""
        async with self.shop.folder() as laid, self.shop.folder() as out:
            await anyio.to_thread.run_sync(self._lay, program, laid)
            mounts = (Mount(laid, CASE), Mount(self.built.artifacts, ARTIFACTS))
            env = CASE_ENV | {"CASE": f"{CASE}/files/case.c"}
            made = await self._run(f"{CASE}/step/{self.runner.name}", workspace=out, mounts=mounts, env=env)
            if made.ended is not Ended.EXITED or made.exit_code:
                return Judged(program.family, program.name, *uncompiled(made))
            done = await self._run(f"{WORKSPACE}/a", mounts=(Mount(out, WORKSPACE),), env={})
        return Judged(program.family, program.name, *compared(done, program.expected))

    async def _run(self, path: str, **room: object) -> Result:
        command = Command((path,), time_s=CASE_S * WALL_FACTOR, cpu_s=CASE_S)
        return await self.shop.run(command, None, root=self.root, brief=True, **room)

    def _lay(self, program: Program, folder: Path) -> None:
        files = {f"files/{name}": data for name, data in program.beside.items()}
        files |= {"files/case.c": program.text, f"step/{self.runner.name}": self.runner.read_bytes()}
        for part in (folder, folder / "files", folder / "step"):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)
        for name, data in files.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o555)


def uncompiled(made: Result) -> tuple[Outcome, str]:
    """Why there is no program."""
    said = made.stdout.decode(errors="replace").removeprefix("ERROR compile: ")
    if made.ended is Ended.TIMEOUT or OUT_OF_TIME in said:  # the runner outlives a compiler that uses up its CPU
        return Outcome.TIMEOUT, f"compiling takes more than {CASE_S:g} s"
    return Outcome.COMPILE, one_line(said) or f"exit status {made.exit_code}"


def compared(done: Result, expected: Ending) -> tuple[Outcome, str]:
    """What the program did beside what it should have done."""
    found = Ending(done.exit_code, done.stdout)
    if done.ended is Ended.TIMEOUT:
        return Outcome.TIMEOUT, f"running takes more than {CASE_S:g} s"
    if found == expected and done.ended is Ended.EXITED:
        return Outcome.PASS, ""
    if found.status != expected.status and found.status in CRASHES:
        return Outcome.CRASH, CRASHES[found.status]
    if done.ended is not Ended.EXITED:
        return Outcome.CRASH, str(done.ended)
    return Outcome.WRONG, difference(found, expected)


def difference(found: Ending, expected: Ending) -> str:
    """The first line that is not as expected, else the status."""
    said, right = (ending.output.decode(errors="replace").splitlines() for ending in (found, expected))
    for number in range(max(len(said), len(right))):
        one, other = (repr(lines[number]) if number < len(lines) else "nothing" for lines in (said, right))
        if one != other:
            return one_line(f"line {number + 1}: {one}, expected {other}")
    return f"exit status {found.status}, expected {expected.status}"


# A run of the benchmark


async def each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], cores: int) -> None:
    """Does the work for every item, so many at a time."""
    todo = iter(items)

    async def lane() -> None:
        for item in todo:
            await work(item)

    async with anyio.create_task_group() as lanes:
        for _ in range(cores):
            lanes.start_soon(lane)


@asynccontextmanager
async def workshop(engine: Engine, furnished: Furnished, home: Path) -> AsyncIterator[Workshop]:
    """Rooms of this benchmark, gone at the end with their folders."""
    place, labels = home / "scratch", Labels("outside", 0, "judge")
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="outside-", dir=place) as scratch:
        shop = Workshop(
            engine, judge_plan(furnished, (), scratch=Path(scratch), secret=b"", cores=1), labels, 1, Builds()
        )
        try:
            yield shop
        finally:
            await shop.close()


async def judge(
    shop: Workshop, furnished: Furnished, tree: Tree, programs: Sequence[Program], cores: int
) -> tuple[Judged, ...]:
    """Builds a compiler and judges it on every program, in their order. Raises `NotBuilt`, `RoomError`."""
    runner = furnished.project.folder / next(suite.steps[0] for suite in furnished.project.suites if suite.steps)
    found: dict[str, Judged] = {}
    async with shop.built(tree, cold=True) as built:
        if not built.build.ok:
            raise NotBuilt(f"the compiler does not build: {built.build.reason}")
        candidate = Candidate(shop, furnished.images.get("judge"), built, runner)

        async def one(program: Program) -> None:
            found[f"{program.family}/{program.name}"] = await candidate.judge(program)

        await each(programs, one, cores)
    return tuple(found[f"{program.family}/{program.name}"] for program in programs)


async def measure(run: Path, commit: str, csmith: int, seed: int, *, check: bool) -> Report:
    """The compiler that a run has built, by the run's own copy of its project; nothing of the run is changed."""
    home, cores = state_home(), len(os.sched_getaffinity(0))
    engine, project = choose(None, home, judging=True), load(run / "frozen/project")
    public = Git(run / "public.git", CONFINED)
    commit = await public.text("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    tree = GitTree(public, await public.text("rev-parse", "--verify", f"{commit}^{{tree}}"))
    furnished = await furnish(project, engine, home, say)
    async with workshop(engine, furnished, home) as shop:
        reference = Reference(shop, await image.build(REFERENCE, home, progress=say))
        programs = own()
        if check and (wrong := await mistaken(reference, programs, cores)):
            raise NotComparable("; ".join(wrong))
        say(f"drawing {csmith} programs of csmith's, seed {seed}")
        drawn, left_out = await draw(reference, csmith, seed, cores)
        say(f"building {commit[:10]} and judging it on {len(programs) + len(drawn)} programs")
        found = await judge(shop, furnished, tree, [*programs, *drawn], cores)
    return Report(run.name, commit, seed, left_out, found)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def table(report: Report) -> str:
    """A line for each family, then one for each program that did not pass."""
    families = list(dict.fromkeys(one.family for one in report.programs))
    lines = [f"{report.run} at {report.commit[:10]}, seed {report.seed}"]
    lines += [f"{'':8}{'passed':>9}" + "".join(f"{outcome:>18}" for outcome in [*Outcome][1:])]
    for family in families:
        outcomes = Counter(one.outcome for one in report.programs if one.family == family)
        share = f"{outcomes[Outcome.PASS]}/{outcomes.total()}"
        lines.append(f"{family:8}{share:>9}" + "".join(f"{outcomes[outcome]:>18}" for outcome in [*Outcome][1:]))
    failing = [one for one in report.programs if one.outcome is not Outcome.PASS]
    lines += [f"{one.family}/{one.name:18} {one.outcome:18} {one.reason}" for one in failing]
    lines += [f"csmith, left out {count} times: {why}" for why, count in report.left_out.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outside",
        description=__doc__.partition("\n")[0],
        epilog="example: python -m benchmarks.outside c-compiler-1 --csmith 50 --seed 7",
    )
    parser.add_argument("run", help="a run of projects/c-compiler")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="where runs are (%(default)s)")
    parser.add_argument("--commit", default="main", help="of the run's public.git (%(default)s)")
    parser.add_argument("--csmith", type=int, default=50, help="programs that csmith makes (%(default)s)")
    parser.add_argument("--seed", type=int, help="of csmith's programs; without it another one each time")
    parser.add_argument("--check", action="store_true", help="ask gcc and clang first about our own programs too")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed
    try:
        report = anyio.run(
            partial(measure, check=given.check), find(given.logs, given.run), given.commit, given.csmith, seed
        )
    except (Refusal, GitError, NotBuilt, NotComparable) as error:
        say(f"error: {error}")
        return 1
    sys.stdout.write(json.dumps(asdict(report)) if given.json else table(report))
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
