"""Judges one tree: builds it cold, runs each case in rooms of its own, and decides everything from outside.

What a room may know is the whole security of this module. A case's rooms hold the build's artifacts, the case under a
neutral name, and the project's runners; the other cases, the expected outputs, the draws and this supervisor stay
outside, and the candidate's product runs alone. No outcome is decided by what a candidate wrote, except where a runner
of the project reads it, and an outcome of the machine is never the candidate's.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import shlex
import shutil
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

import anyio

from sandbox.room import MIB, Command, Ended, Engine, Labels, Mount, Result, RoomError
from verifiers import results
from verifiers.building import BUILD_ENV, OUTPUT, WALL_FACTOR, WORKSPACE, Built, Workshop, last_line, one_line
from verifiers.cases import locate
from verifiers.drawing import Plugin, Prepared, draw_for, load_plugin
from verifiers.judging import OnVerdict, Selection, Tier, Tree
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict
from verifiers.suites import JudgePlan, LockedCase, Suite, When

ARTIFACTS: Final = "/artifacts"
CASE: Final = "/case"  # `files/` is the case with its companions, `step/` the project's runners
FAST_SHARE, FAST_LEAST = 0.1, 20
SKIPPED, JUDGE_BROKE = 77, 99  # automake's convention
OUT_DISK = 256 * MIB  # what one case may write
CPU_EXCEEDED = 128 + signal.SIGXCPU
PRODUCT_ENV: Final = {"PATH": BUILD_ENV["PATH"], "LANG": BUILD_ENV["LANG"]}
CASE_ENV: Final = PRODUCT_ENV | {"OUT": WORKSPACE, "ARTIFACTS": ARTIFACTS}
PRODUCT: Final = "$OUT/"  # so begins a step that runs what the candidate produced

_VALUE = re.compile(r"^VALUE (-?[0-9]+(?:\.[0-9]+)?)(?: (\S.{0,40}))?$")


class RoomJudge:
    """The `Judge` of a frozen project. One object may serve many judgements at once; they share its cores."""

    def __init__(self, engine: Engine, plan: JudgePlan, labels: Labels, user: int = 1) -> None:
        self.plan = plan
        self._suites = {suite.name: suite for suite in plan.suites}
        self._cases = {case.id: case for case in plan.cases}
        if len(self._cases) != len(plan.cases):
            raise ValueError("the lock names a case twice; run `project lock` again")
        self._shop = Workshop(engine, plan, labels, user)
        self.built, self.close = self._shop.built, self._shop.close
        self._cores = anyio.CapacityLimiter(plan.cores)
        prepares = {suite.prepare for suite in plan.suites if suite.prepare}
        self._plugins: dict[str, Plugin] = {name: load_plugin(plan.folder / name) for name in prepares}

    async def judge(self, tree: Tree, selection: Selection, on_verdict: OnVerdict | None = None) -> Scorecard:
        """Builds the tree in a fresh room and runs the selected cases, each in rooms of its own.

        Never raises for what the candidate did. Trouble of the judge or the machine is `Scorecard.void`.
        """
        cases, commands, unknown = self._select(selection)
        verdicts: dict[str, Verdict] = {}

        async def tell(verdict: Verdict) -> None:
            if verdict.case in verdicts:
                raise AssertionError(f"{verdict.case} was judged twice")
            verdicts[verdict.case] = verdict
            if on_verdict:
                await on_verdict(verdict)

        async def one(case: LockedCase) -> None:
            await tell(await self.try_case(case, built))

        async def whole(suite: Suite, asked: Collection[str]) -> None:
            for verdict in await self._whole(suite, asked, tree, built):
                await tell(verdict)

        try:
            async with self.built(tree, cold=selection.cold) as built:
                if not built.build.ok:
                    return Scorecard(tree.id, selection.tier, built.build)
                async with anyio.create_task_group() as tasks:
                    for name, asked in commands.items():
                        tasks.start_soon(whole, self._suites[name], asked)
                    for case in cases:
                        tasks.start_soon(one, case)
        except RoomError as error:
            build = Build(False, 0.0, "not built: the machine failed")
            return Scorecard(tree.id, selection.tier, build, void=f"the build's room failed twice: {error}")
        for case_id in unknown:
            await tell(Verdict(case_id, Outcome.ERROR, reason="the lock knows no such shown case"))
        ordered = {case_id: verdicts[case_id] for case_id in sorted(verdicts)}
        broken = [verdict for verdict in ordered.values() if verdict.outcome is Outcome.ERROR]
        void = f"{len(broken)} cases could not be judged, first {broken[0].case}: {broken[0].reason}" if broken else ""
        return Scorecard(tree.id, selection.tier, built.build, ordered, void)

    def twist(self, case: str) -> str:
        """How this run rewrites a case (for example "inverse"); "" where its suite rewrites nothing."""
        return draw_for(self.plan.secret, case, self._weights(self._cases[case])).twist

    def possible_twists(self, case: LockedCase) -> tuple[str, ...]:
        """The ways in which the project's plug-in could rewrite the case, whether the reference passes them or not."""
        return tuple(sorted(self._weights(replace(case, twists=())))) or ("",)

    async def try_case(self, case: LockedCase, built: Built, twist: str | None = None) -> Verdict:
        """One case against one build, on a core of its own; `twist` overrides this run's draw."""
        return await self._twice(case.id, lambda: self._trial(case, built.artifacts, twist))

    # Which cases

    def _select(self, selection: Selection) -> tuple[list[LockedCase], dict[str, list[str]], list[str]]:
        """Cases to run, whole-suite commands with the ids asked of them (none = all), and ids that nobody knows."""
        whole = {suite.name: suite for suite in self.plan.suites if not suite.cases}
        asked: dict[str, list[str]] = {}
        unknown: list[str] = []
        if selection.tier is Tier.HELDOUT:
            cases = [case for case in self.plan.cases if case.heldout]
        elif selection.tier is Tier.CASES:
            shown = {case.id: case for case in self.plan.cases if not case.heldout}
            chosen: dict[str, LockedCase] = {}
            for pattern in sorted(selection.cases):
                found = [pattern] if pattern in shown else [id_ for id_ in shown if _matches(id_, pattern)]
                chosen |= {id_: shown[id_] for id_ in found}
                if (name := pattern.split("/", 1)[0]) in whole:
                    asked.setdefault(name, []).append(pattern)
                elif not found:
                    unknown.append(pattern)
            cases = list(chosen.values())
        else:
            tiers = (When.FAST,) if selection.tier is Tier.FAST else (When.FAST, When.GATE)
            cases = [case for case in self.plan.cases if not case.heldout and self._suites[case.suite].when in tiers]
            asked = {suite.name: [] for suite in whole.values() if suite.when in tiers}
        if selection.tier is Tier.FAST:
            # The same cases for the same seed, so that several seats cover the whole.
            cases.sort(key=lambda case: hashlib.sha256(f"{selection.seed}\0{case.id}".encode()).digest())
            cases = cases[: max(FAST_LEAST, math.ceil(len(cases) * FAST_SHARE))]
        # In an order that tells nothing, the same for each judgement of a run.
        cases.sort(key=lambda case: hmac.digest(self.plan.secret, b"order " + case.id.encode(), hashlib.sha256))
        return cases, asked, unknown

    # One case

    async def _trial(self, case: LockedCase, artifacts: Path, twist: str | None) -> Verdict:
        """The suite's steps, each in a room of its own. The candidate's product gets a room with nothing beside it."""
        suite, seconds = self._suites[case.suite], 0.0
        limits = replace(self.plan.limits, disk=min(self.plan.limits.disk, OUT_DISK))
        async with self._shop.folder() as laid, self._shop.folder() as out:
            entry, answer = await anyio.to_thread.run_sync(self._lay, case, suite, laid, twist)
            name, _, variant = case.id.split("/", 1)[1].partition("@")
            case_env = CASE_ENV | {"CASE": f"{CASE}/files/{entry}" if entry else name, "VARIANT": variant}
            steps = suite.steps or (suite.run,)
            for number, step in enumerate(steps):
                mounts = [Mount(out, WORKSPACE)] if number else []
                if product := step.startswith(PRODUCT):
                    argv = tuple(shlex.split(step.replace("$OUT", WORKSPACE, 1)))
                else:
                    argv = _runner(step)
                    mounts += [Mount(laid, CASE), Mount(artifacts, ARTIFACTS)]
                result = await self._shop.run(
                    Command(argv, time_s=suite.time_s * WALL_FACTOR, cpu_s=suite.time_s),
                    root=self.plan.judge_root,
                    workspace=None if number else out,
                    mounts=tuple(mounts),
                    env=PRODUCT_ENV if product else case_env,
                    limits=limits,
                    brief=True,
                )
                seconds += result.seconds
                last = bool(suite.steps) and number == len(steps) - 1
                verdict = compared(case.id, result, answer) if last else reported(case.id, result)
                if verdict.outcome is not Outcome.PASS:
                    break
        return replace(verdict, seconds=seconds)

    def _lay(self, case: LockedCase, suite: Suite, folder: Path, twist: str | None) -> tuple[str, Prepared]:
        """Writes the case's files, rewritten by `prepare`, under a neutral name. Returns the name ("" = the case has no
        file, only an id) and the right answer."""
        self._lay_runners(suite.steps or (suite.run,), folder)
        if not case.file:
            return "", Prepared({})
        path, *others = (locate(self.plan.folder, self.plan.sources, name) for name in (case.file, *case.with_files))
        answer = Prepared({path.name: path.read_bytes()})
        if suite.prepare:
            draw = draw_for(self.plan.secret, case.id, self._weights(case))
            draw = draw if twist is None else replace(draw, twist=twist)
            answer = self._plugins[suite.prepare].prepare(path.read_bytes(), path.name, draw)
        entry = "case" + path.suffix
        laid = {other.name: other.read_bytes() for other in others}
        laid |= {entry if name == path.name else name: data for name, data in answer.files.items()}
        for name, data in laid.items():
            _write(folder / "files" / name, data, 0o555 if os.access(path, os.X_OK) else 0o444)
        return entry, answer

    def _lay_runners(self, steps: Iterable[str], folder: Path) -> None:
        """Makes the folder of a case, readable by the room's user whatever our umask is."""
        for part in (folder, folder / "files", folder / "step"):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)
        for script in (shlex.split(step)[0] for step in steps if not step.startswith(PRODUCT)):
            Path(shutil.copy(self.plan.folder / script, folder / "step")).chmod(0o555)

    def _weights(self, case: LockedCase) -> Mapping[str, int]:
        prepare = self._suites[case.suite].prepare
        if not prepare:
            return {}
        path = locate(self.plan.folder, self.plan.sources, case.file)
        weights = self._plugins[prepare].twists(path.read_bytes(), path.name)
        return {twist: weight for twist, weight in weights.items() if not case.twists or twist in case.twists}

    # Whole-suite commands

    async def _whole(self, suite: Suite, asked: Collection[str], tree: Tree, built: Built) -> list[Verdict]:
        """Every verdict of a whole-suite command. `SUITE/all` stands for the command itself."""
        exact = [id_ for id_ in asked if "/" in id_ and not re.search(r"[*?\[]", id_)]
        listing = "".join(f"{id_.split('/', 1)[1]}\n" for id_ in exact) if len(exact) == len(asked) else ""
        outcomes: dict[str, Verdict] = {}

        async def run() -> Verdict:
            result = await self._command(suite, listing.encode(), tree, built)
            verdict = reported(f"{suite.name}/all", result)
            try:
                read = results.libtest(result.stdout.decode("utf-8", "replace")) if suite.results == "libtest" else {}
            except results.ResultsError as error:
                return replace(verdict, outcome=Outcome.FAIL, reason=f"results refused: {one_line(str(error))}")
            outcomes.update({f"{suite.name}/{name}": Verdict(f"{suite.name}/{name}", read[name]) for name in read})
            return verdict

        summary = await self._twice(f"{suite.name}/all", run)
        unread = suite.results != "libtest" or summary.outcome is Outcome.ERROR
        failing = any(verdict.outcome is Outcome.FAIL for verdict in outcomes.values())
        if unread or (summary.outcome is not Outcome.PASS and not failing):
            outcomes[summary.case] = summary
        for case in exact:
            outcomes.setdefault(case, Verdict(case, Outcome.MISSING, reason="the suite did not report this test"))
        return [
            verdict
            for verdict in outcomes.values()
            if not asked or verdict is summary or any(_matches(verdict.case, pattern) for pattern in asked)
        ]

    async def _command(self, suite: Suite, listing: bytes, tree: Tree, built: Built) -> Result:
        env = BUILD_ENV | {"CASES": f"{CASE}/files/cases"}
        limits = {"time_s": suite.time_s * WALL_FACTOR, "cpu_s": suite.time_s, "output_limit": OUTPUT}
        command = Command(_runner(suite.run), **limits)  # type: ignore[arg-type]  # fields by name
        async with self._shop.folder() as laid, self._shop.folder() as out:
            self._lay_runners((suite.run,), laid)
            _write(laid / "files/cases", listing, 0o444)
            mounts: tuple[Mount, ...] = (Mount(laid, CASE),)
            if suite.room == "build":
                return await self._shop.run(command, tree, workspace=out, scratch_exec=True, mounts=mounts, env=env)
            mounts += (Mount(built.artifacts, ARTIFACTS),)
            root = self.plan.judge_root
            return await self._shop.run(command, root=root, workspace=out, mounts=mounts, env=env | CASE_ENV)

    async def _twice(self, case: str, trial: Callable[[], Awaitable[Verdict]]) -> Verdict:
        """A trial, repeated once when the machine or the judge failed; then it is an error, never a failure."""
        verdict = Verdict(case, Outcome.ERROR)
        for _ in range(2):
            try:
                async with self._cores:
                    verdict = await trial()
            except RoomError as error:
                verdict = Verdict(case, Outcome.ERROR, reason=one_line(f"room: {error}"))
            if verdict.outcome is not Outcome.ERROR:
                break
        return verdict


def reported(case: str, result: Result) -> Verdict:
    """What a runner of the project said of a case: its exit status and its last `ERROR ` and `VALUE ` lines."""
    lines = result.stdout.decode("utf-8", "replace").split("\n")[::-1]
    said = one_line(next((line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")), ""))
    verdict = Verdict(case, Outcome.PASS, result.seconds, said)
    if measured := next(filter(None, map(_VALUE.match, lines)), None):
        verdict = replace(verdict, value=float(measured[1]), unit=measured[2] or "")
    if over(result):
        return replace(verdict, outcome=Outcome.TIMEOUT, reason=said or "over its time limit")
    if result.ended is Ended.KILLED:
        return replace(verdict, outcome=Outcome.FAIL, reason=said or _ending(result))
    if result.exit_code == 0:
        return verdict
    outcome = {SKIPPED: Outcome.SKIP, JUDGE_BROKE: Outcome.ERROR}.get(result.exit_code, Outcome.FAIL)
    return replace(verdict, outcome=outcome, reason=said or f"{_ending(result)}: {last_line(result.stderr)}")


def compared(case: str, result: Result, answer: Prepared) -> Verdict:
    """Whether the candidate's product ended as `prepare` wrote down. Drawn numbers never appear in a reason."""
    verdict = Verdict(case, Outcome.FAIL, result.seconds)
    if over(result):
        return replace(verdict, outcome=Outcome.TIMEOUT, reason="run: over its time limit")
    killed = result.ended is Ended.KILLED
    if killed or result.exit_code != answer.expected_status:
        expected = answer.meanings.get(
            answer.expected_status, "another end" if answer.expected_status else "exit status 0"
        )
        how = _ending(result) if killed else answer.meanings.get(result.exit_code, _ending(result))
        return replace(verdict, reason=f"run: {how}, expected: {expected}")
    if answer.expected_stdout is not None and result.stdout != answer.expected_stdout:
        return replace(verdict, reason="run: its output differs from the expected")
    return replace(verdict, outcome=Outcome.PASS)


def over(result: Result) -> bool:
    return result.ended is Ended.TIMEOUT or result.exit_code == CPU_EXCEEDED


def _ending(result: Result) -> str:
    if result.ended is Ended.KILLED:
        return "killed: out of memory or processes"
    if 128 < result.exit_code <= 128 + 64:
        number = result.exit_code - 128
        names = {int(one): one.name for one in signal.Signals}
        return names.get(number, f"signal {number}")
    return f"exit status {result.exit_code}"


def _matches(case: str, pattern: str) -> bool:
    """A pattern is an id, a suite's name, or either with `*`, `?` and `[…]`."""
    return case == pattern or fnmatchcase(case, pattern) or fnmatchcase(case.split("/", 1)[0], pattern)


def _runner(step: str) -> tuple[str, ...]:
    script, *arguments = shlex.split(step)
    return (f"{CASE}/step/{PurePosixPath(script).name}", *arguments)


def _write(file: Path, data: bytes, mode: int) -> None:
    file.write_bytes(data)
    file.chmod(mode)
