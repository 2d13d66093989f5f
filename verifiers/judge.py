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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

import anyio

from sandbox.room import MIB, Command, Ended, Engine, Labels, Mount, Result, RoomError
from verifiers import results
from verifiers.building import BUILD_ENV, WALL_FACTOR, WORKSPACE, Builds, Built, Rooms, last_line, one_line
from verifiers.cases import locate
from verifiers.drawing import Plugin, Prepared, draw_for, load_plugin
from verifiers.judging import OnVerdict, Selection, Tier, Tree
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict
from verifiers.suites import Control, JudgePlan, LockedCase, Suite, When

ARTIFACTS: Final = "/artifacts"
CASE: Final = "/case"  # `files/` is the case with its companions, `step/` the project's runners
FAST_SHARE, FAST_LEAST = 0.1, 20
SKIPPED, JUDGE_BROKE = 77, 99  # automake's convention
OUT_DISK = 256 * MIB  # what one case may write
CPU_EXCEEDED = 128 + signal.SIGXCPU
CASE_ENV: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "OUT": WORKSPACE, "ARTIFACTS": ARTIFACTS}

_VALUE = re.compile(r"^VALUE (-?[0-9]+(?:\.[0-9]+)?)(?: (\S.{0,40}))?$")


@dataclass(frozen=True)
class _Laid:
    """A case as its rooms see it: `folder` bound read-only, `entry` in it ("" = no file, only an id)."""

    folder: Path
    entry: str
    answer: Prepared


class RoomJudge:
    """The `Judge` of a frozen project. One object may serve many judgements at once; they share its cores."""

    def __init__(self, engine: Engine, plan: JudgePlan, labels: Labels, user: int = 1) -> None:
        self.plan = plan
        self._suites = {suite.name: suite for suite in plan.suites}
        self._cases = {case.id: case for case in plan.cases}
        if len(self._cases) != len(plan.cases):
            raise ValueError("the lock names a case twice; run `project lock` again")
        plan.scratch.mkdir(parents=True, exist_ok=True)
        self._rooms = Rooms(engine, plan, labels, user)
        self._builds = Builds(self._rooms, plan)
        self._cores = anyio.CapacityLimiter(plan.cores)
        self._plugins: dict[str, Plugin] = {}
        for suite in plan.suites:
            if suite.prepare and suite.prepare not in self._plugins:
                self._plugins[suite.prepare] = load_plugin(plan.folder / suite.prepare)

    async def judge(self, tree: Tree, selection: Selection, on_verdict: OnVerdict | None = None) -> Scorecard:
        """Builds the tree in a fresh room and runs the selected cases, each in rooms of its own.

        Never raises for what the candidate did. Trouble of the judge or the machine is `Scorecard.void`.
        """
        try:
            return await self._judge(tree, selection, on_verdict)
        except RoomError as error:
            build = Build(False, 0.0, "not built: the machine failed")
            return Scorecard(tree.id, selection.tier, build, void=f"the build's room failed twice: {error}")

    async def close(self) -> None:
        """Removes the artifacts of recent builds. The judge may be used again."""
        await self._builds.close()

    def twist(self, case: str) -> str:
        """How this run rewrites a case (for example "inverse"); "" where its suite rewrites nothing."""
        locked = self._cases[case]
        return draw_for(self.plan.secret, case, self._weights(locked)).twist

    def possible_twists(self, case: LockedCase) -> tuple[str, ...]:
        """The ways in which the project's plug-in could rewrite the case, whether the reference passes them or not."""
        return tuple(sorted(self._weights(replace(case, twists=())))) or ("",)

    @asynccontextmanager
    async def built(self, tree: Tree, *, cold: bool = False) -> AsyncIterator[Built]:
        """The tree's build for as long as the context lasts. Raises `RoomError` when the machine failed twice."""
        async with self._builds.of(tree, cold=cold) as built:
            yield built

    async def try_case(self, case: LockedCase, built: Built, twist: str | None = None) -> Verdict:
        """One case against one build, on a core of its own; `twist` overrides this run's draw."""
        return await self._twice(case.id, lambda: self._trial(case, built.artifacts, twist))

    async def _judge(self, tree: Tree, selection: Selection, on_verdict: OnVerdict | None) -> Scorecard:
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

        async def whole(suite: Suite, asked: tuple[str, ...]) -> None:
            for verdict in await self._whole(suite, asked, tree, built):
                await tell(verdict)

        async with self.built(tree, cold=selection.cold) as built:
            if not built.build.ok:
                return Scorecard(tree.id, selection.tier, built.build)
            control = Verdict("control", Outcome.PASS)
            async with anyio.create_task_group() as tasks:
                for suite, asked in commands:
                    tasks.start_soon(whole, suite, asked)
                for case in cases:
                    tasks.start_soon(one, case)
                if self.plan.control and any(case.suite == self.plan.control.suite for case in cases):
                    control = await self._control(self.plan.control)
        for case_id in unknown:
            await tell(Verdict(case_id, Outcome.ERROR, reason="the lock knows no such shown case"))
        ordered = {case_id: verdicts[case_id] for case_id in sorted(verdicts)}
        return Scorecard(tree.id, selection.tier, built.build, ordered, _void(control, ordered, cases))

    # Which cases

    def _select(
        self, selection: Selection
    ) -> tuple[list[LockedCase], list[tuple[Suite, tuple[str, ...]]], tuple[str, ...]]:
        """Cases to run, whole-suite commands with the ids asked of them (none = all), and ids that nobody knows."""
        commands = [suite for suite in self.plan.suites if not suite.cases]
        if selection.tier is Tier.CASES:
            return self._named(sorted(selection.cases), commands)
        if selection.tier is Tier.HELDOUT:
            return self._shuffled(case for case in self.plan.cases if case.heldout), [], ()
        tiers = (When.FAST,) if selection.tier is Tier.FAST else (When.FAST, When.GATE)
        cases = self._shuffled(c for c in self.plan.cases if not c.heldout and self._suites[c.suite].when in tiers)
        if selection.tier is Tier.FAST:
            cases = _sample(cases, selection.seed)
        return cases, [(suite, ()) for suite in commands if suite.when in tiers], ()

    def _named(
        self, patterns: Iterable[str], commands: Iterable[Suite]
    ) -> tuple[list[LockedCase], list[tuple[Suite, tuple[str, ...]]], tuple[str, ...]]:
        shown = {case.id: case for case in self.plan.cases if not case.heldout}
        chosen: dict[str, LockedCase] = {}
        asked: dict[str, list[str]] = {}
        unknown = []
        whole = {suite.name: suite for suite in commands}
        for pattern in patterns:
            name = pattern.split("/", 1)[0]
            found = [pattern] if pattern in shown else [id_ for id_ in shown if _matches(id_, pattern)]
            if name in whole:
                asked.setdefault(name, []).append(pattern)
            elif found:
                chosen.update((id_, shown[id_]) for id_ in found)
            else:
                unknown.append(pattern)
        return self._shuffled(chosen.values()), [(whole[n], tuple(ids)) for n, ids in asked.items()], tuple(unknown)

    def _shuffled(self, cases: Iterable[LockedCase]) -> list[LockedCase]:
        """In an order that tells nothing, the same for each judgement of a run."""
        return sorted(
            cases, key=lambda case: hmac.digest(self.plan.secret, b"order " + case.id.encode(), hashlib.sha256)
        )

    # One case

    async def _trial(self, case: LockedCase, artifacts: Path, twist: str | None) -> Verdict:
        suite = self._suites[case.suite]
        laid = await anyio.to_thread.run_sync(self._lay, case, suite, twist)
        seconds = 0.0
        try:
            async with self._rooms.folder() as out:
                steps = suite.steps or (suite.run,)
                for number, step in enumerate(steps):
                    result = await self._step(case, suite, step, laid, artifacts, out, first=number == 0)
                    seconds += result.seconds
                    last = bool(suite.steps) and number == len(steps) - 1
                    verdict = compared(case.id, result, laid.answer) if last else reported(case.id, result)
                    if verdict.outcome is not Outcome.PASS:
                        break
            return replace(verdict, seconds=seconds)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(laid.folder, ignore_errors=True))

    async def _step(
        self, case: LockedCase, suite: Suite, step: str, laid: _Laid, artifacts: Path, out: Path, *, first: bool
    ) -> Result:
        """One step in a room of its own. The candidate's product gets a room with nothing beside it."""
        words = shlex.split(step)
        mounts = [] if first else [Mount(out, WORKSPACE)]
        env = {"PATH": CASE_ENV["PATH"], "LANG": CASE_ENV["LANG"]}
        if words[0].startswith("$OUT/"):
            argv = (words[0].replace("$OUT", WORKSPACE, 1), *words[1:])
        else:
            mounts += [Mount(laid.folder, CASE), Mount(artifacts, ARTIFACTS)]
            argv = (_runner(words[0]), *words[1:])
            entry = f"{CASE}/files/{laid.entry}" if laid.entry else _name(case)
            env = CASE_ENV | {"CASE": entry, "VARIANT": _variant(case)}
        async with self._rooms.open(
            root=self.plan.judge_root,
            workspace=out if first else None,
            mounts=tuple(mounts),
            env=env,
            limits=replace(self.plan.limits, disk=min(self.plan.limits.disk, OUT_DISK)),
            brief=True,
        ) as room:
            limits = {"time_s": suite.time_s * WALL_FACTOR, "cpu_s": suite.time_s}
            result = await room.run(Command(argv, **limits))  # type: ignore[arg-type]  # fields by name
        if result.ended is Ended.INTERRUPTED:
            raise RoomError("the step was interrupted by the machine")
        return result

    def _lay(self, case: LockedCase, suite: Suite, twist: str | None) -> _Laid:
        """Writes the case's files, rewritten by `prepare`, under a neutral name into a folder of their own."""
        folder = self._rooms.new_folder()
        self._lay_runners(suite.steps or (suite.run,), folder)
        if not case.file:
            return _Laid(folder, "", Prepared({}))
        path = locate(self.plan.folder, self.plan.sources, case.file)
        text = path.read_bytes()
        answer = Prepared({path.name: text})
        if suite.prepare:
            draw = draw_for(self.plan.secret, case.id, self._weights(case))
            draw = draw if twist is None else replace(draw, twist=twist)
            answer = self._plugins[suite.prepare].prepare(text, path.name, draw)
        files = {Path(name).name: locate(self.plan.folder, self.plan.sources, name) for name in case.with_files}
        laid = {name: file.read_bytes() for name, file in files.items()}
        entry = "case" + path.suffix
        laid |= {entry if name == path.name else name: data for name, data in answer.files.items()}
        mode = 0o555 if os.access(path, os.X_OK) else 0o444
        for name, data in laid.items():
            (folder / "files" / name).write_bytes(data)
            (folder / "files" / name).chmod(mode)
        return _Laid(folder, entry, answer)

    def _lay_runners(self, steps: Iterable[str], folder: Path) -> None:
        """Makes the folder of a case, readable by the room's user whatever our umask is."""
        for part in (folder, folder / "files", folder / "step"):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)
        for script in (step.split()[0] for step in steps if not step.startswith("$OUT/")):
            Path(shutil.copy(self.plan.folder / script, folder / "step")).chmod(0o555)

    def _weights(self, case: LockedCase) -> Mapping[str, int]:
        prepare = self._suites[case.suite].prepare
        if not prepare:
            return {}
        path = locate(self.plan.folder, self.plan.sources, case.file)
        weights = self._plugins[prepare].twists(path.read_bytes(), path.name)
        return {twist: weight for twist, weight in weights.items() if not case.twists or twist in case.twists}

    async def _control(self, control: Control) -> Verdict:
        """The stored known-good product in the same kind of room as every candidate's."""
        suite = self._suites[control.suite]
        answer = Prepared({}, control.status, control.stdout)

        async def run() -> Verdict:
            case = LockedCase("control", control.suite, "", False)
            laid = _Laid(control.out, "", answer)
            result = await self._step(case, suite, suite.steps[-1], laid, control.out, control.out, first=False)
            return compared("control", result, answer)

        return await self._twice("control", run)

    # Whole-suite commands

    async def _whole(self, suite: Suite, asked: tuple[str, ...], tree: Tree, built: Built) -> list[Verdict]:
        """Every verdict of a whole-suite command. `SUITE/all` stands for the command itself."""
        exact = tuple(id_.split("/", 1)[1] for id_ in asked if "/" in id_ and not re.search(r"[*?\[]", id_))
        listing = "".join(f"{name}\n" for name in exact).encode() if len(exact) == len(asked) else b""
        outcomes: dict[str, Verdict] = {}

        async def run() -> Verdict:
            result = await self._command(suite, listing, tree, built)
            verdict = reported(f"{suite.name}/all", result)
            outcomes.clear()
            if suite.results == "libtest":
                try:
                    read = results.libtest(result.stdout.decode("utf-8", "replace"))
                except results.ResultsError as error:
                    return replace(verdict, outcome=Outcome.FAIL, reason=f"results refused: {one_line(str(error))}")
                for name, outcome in read.items():
                    outcomes[f"{suite.name}/{name}"] = Verdict(f"{suite.name}/{name}", outcome)
            return verdict

        summary = await self._twice(f"{suite.name}/all", run)
        unread = suite.results != "libtest" or summary.outcome is Outcome.ERROR
        failing = any(verdict.outcome is Outcome.FAIL for verdict in outcomes.values())
        if unread or (summary.outcome is not Outcome.PASS and not failing):
            outcomes[summary.case] = summary
        if not asked:
            return list(outcomes.values())
        for case in (f"{suite.name}/{name}" for name in exact):
            outcomes.setdefault(case, Verdict(case, Outcome.MISSING, reason="the suite did not report this test"))
        told = (verdict for verdict in outcomes.values() if verdict is summary or _matches_any(verdict.case, asked))
        return list(told)

    async def _command(self, suite: Suite, listing: bytes, tree: Tree, built: Built) -> Result:
        words = shlex.split(suite.run)
        asked = self._rooms.new_folder()
        self._lay_runners((suite.run,), asked)
        (asked / "files/cases").write_bytes(listing)
        (asked / "files/cases").chmod(0o444)
        mounts = (Mount(asked, CASE),)
        env = BUILD_ENV | {"CASES": f"{CASE}/files/cases"}
        command = Command(
            (_runner(words[0]), *words[1:]), time_s=suite.time_s * WALL_FACTOR, cpu_s=suite.time_s, output_limit=8 * MIB
        )
        try:
            async with self._rooms.folder() as out:
                if suite.room == "build":
                    async with self._rooms.unpacked(tree, out, mounts=mounts, env=env) as room:
                        result = await room.run(command)
                else:
                    changes = {"mounts": (*mounts, Mount(built.artifacts, ARTIFACTS)), "env": env | CASE_ENV}
                    async with self._rooms.open(root=self.plan.judge_root, workspace=out, **changes) as room:
                        result = await room.run(command)
        finally:
            shutil.rmtree(asked, ignore_errors=True)
        if result.ended is Ended.INTERRUPTED:
            raise RoomError("the suite was interrupted by the machine")
        return result

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
    lines = result.stdout.decode("utf-8", "replace").split("\n")
    reason = next((line.removeprefix("ERROR ") for line in reversed(lines) if line.startswith("ERROR ")), "")
    measured = next((match for line in reversed(lines) if (match := _VALUE.match(line))), None)
    verdict = Verdict(case, Outcome.PASS, result.seconds, one_line(reason))
    if measured:
        verdict = replace(verdict, value=float(measured[1]), unit=measured[2] or "")
    if result.ended is Ended.TIMEOUT or result.exit_code == CPU_EXCEEDED:
        return replace(verdict, outcome=Outcome.TIMEOUT, reason=verdict.reason or "over its time limit")
    if result.ended is Ended.KILLED:
        return replace(verdict, outcome=Outcome.FAIL, reason=verdict.reason or "killed: out of memory or processes")
    if result.exit_code == 0:
        return verdict
    outcomes = {SKIPPED: Outcome.SKIP, JUDGE_BROKE: Outcome.ERROR}
    reason = verdict.reason or f"{_ending(result)}: {last_line(result.stderr)}"
    return replace(verdict, outcome=outcomes.get(result.exit_code, Outcome.FAIL), reason=reason)


def compared(case: str, result: Result, answer: Prepared) -> Verdict:
    """Whether the candidate's product ended as `prepare` wrote down. Drawn numbers never appear in a reason."""
    if result.ended is Ended.TIMEOUT or result.exit_code == CPU_EXCEEDED:
        return Verdict(case, Outcome.TIMEOUT, result.seconds, "run: over its time limit")
    expected = answer.meanings.get(answer.expected_status, "another end" if answer.expected_status else "exit status 0")
    if result.ended is Ended.KILLED or result.exit_code != answer.expected_status:
        meaning = answer.meanings.get(result.exit_code) if result.ended is not Ended.KILLED else None
        how = meaning or _ending(result)
        return Verdict(case, Outcome.FAIL, result.seconds, f"run: {how}, expected: {expected}")
    if answer.expected_stdout is not None and result.stdout != answer.expected_stdout:
        return Verdict(case, Outcome.FAIL, result.seconds, "run: its output differs from the expected")
    return Verdict(case, Outcome.PASS, result.seconds)


def _ending(result: Result) -> str:
    if result.ended is Ended.KILLED:
        return "killed: out of memory or processes"
    if 128 < result.exit_code <= 128 + 64:
        try:
            return signal.Signals(result.exit_code - 128).name
        except ValueError:
            return f"signal {result.exit_code - 128}"
    return f"exit status {result.exit_code}"


def _sample(cases: list[LockedCase], seed: str) -> list[LockedCase]:
    """The same cases for the same seed, a tenth of them, so that several seats cover the whole."""
    count = max(FAST_LEAST, math.ceil(len(cases) * FAST_SHARE))
    ranked = sorted(cases, key=lambda case: hashlib.sha256(f"{seed}\0{case.id}".encode()).digest())
    chosen = {case.id for case in ranked[:count]}
    return [case for case in cases if case.id in chosen]


def _matches(case: str, pattern: str) -> bool:
    """A pattern is an id, a suite's name, or either with `*`, `?` and `[…]`."""
    return case == pattern or fnmatchcase(case, pattern) or fnmatchcase(case.split("/", 1)[0], pattern)


def _matches_any(case: str, patterns: Iterable[str]) -> bool:
    return any(_matches(case, pattern) for pattern in patterns)


def _runner(script: str) -> str:
    return f"{CASE}/step/{PurePosixPath(script).name}"


def _name(case: LockedCase) -> str:
    return case.id.split("/", 1)[1].split("@", 1)[0]


def _variant(case: LockedCase) -> str:
    return case.id.rpartition("@")[2] if "@" in case.id else ""


def _void(control: Verdict, verdicts: Mapping[str, Verdict], asked: Iterable[LockedCase]) -> str:
    """Why the judgement says nothing, or "" when it stands."""
    if control.outcome is not Outcome.PASS:
        return f"the known-good control case failed: {control.reason}"
    missing = [case.id for case in asked if case.id not in verdicts]
    if missing:
        return f"{len(missing)} cases were not judged, first {missing[0]}"
    broken = [verdict for verdict in verdicts.values() if verdict.outcome is Outcome.ERROR]
    return f"{len(broken)} cases could not be judged, first {broken[0].case}: {broken[0].reason}" if broken else ""
