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
import re
import shlex
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

import anyio

from sandbox.room import MIB, Command, Ended, Engine, Labels, Mount, Result, RoomError
from verifiers import results
from verifiers.building import BUILD_ENV, KILLED, OUTPUT, WALL_FACTOR, WORKSPACE, Built, Workshop, last_line, one_line
from verifiers.cases import locate
from verifiers.drawing import Prepared, draw_for, load_plugin
from verifiers.judging import OnVerdict, Selection, Tier, Tree
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict
from verifiers.suites import JudgePlan, LockedCase, Suite

ARTIFACTS: Final = "/artifacts"
CASE: Final = (
    "/case"  # `files/` is the case with its companions, `step/` the project's runners, `ids` what is asked for
)
FAST_SHARE, FAST_LEAST = 0.1, 20
OUTCOMES: Final = {0: Outcome.PASS, 77: Outcome.SKIP, 99: Outcome.ERROR}  # automake's convention; others fail
OUT_DISK = 256 * MIB  # what one case may write
CPU_EXCEEDED = 128 + signal.SIGXCPU
PRODUCT_ENV: Final = {"PATH": BUILD_ENV["PATH"], "LANG": BUILD_ENV["LANG"]}
CASE_ENV: Final = PRODUCT_ENV | {"OUT": WORKSPACE, "ARTIFACTS": ARTIFACTS, "CASES": f"{CASE}/ids"}
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
        self._plugins = {name: load_plugin(plan.folder / name) for name in prepares}

    async def judge(self, tree: Tree, selection: Selection, on_verdict: OnVerdict | None = None) -> Scorecard:
        """Builds the tree in a fresh room and runs the selected cases, each in rooms of its own.

        Never raises for what the candidate did. Trouble of the judge or the machine is `Scorecard.void`.
        """
        cases, commands, unknown = self._select(selection)
        verdicts: dict[str, Verdict] = {}

        async def tell(verdict: Verdict) -> None:
            verdicts[verdict.case] = verdict
            if on_verdict:
                await on_verdict(verdict)

        async def one(case: LockedCase) -> None:
            await tell(await self.try_case(case, built))

        async def whole(suite: str, asked: Collection[str]) -> None:
            for verdict in await self._twice(f"{suite}/all", lambda: self._command(suite, asked, built)):
                await tell(verdict)

        try:
            async with self.built(tree, cold=selection.cold) as built:
                if not built.build.ok:
                    return Scorecard(tree.id, selection.tier, built.build)
                async with anyio.create_task_group() as tasks:
                    for name, asked in commands.items():
                        tasks.start_soon(whole, name, asked)
                    for case in cases:
                        tasks.start_soon(one, case)
        except RoomError as error:
            build = Build(False, 0.0, "not built: the machine failed")
            return Scorecard(tree.id, selection.tier, build, void=f"the build's room failed twice: {error}")
        for case_id in unknown:
            await tell(Verdict(case_id, Outcome.ERROR, reason="the lock knows no such shown case"))
        ordered = dict(sorted(verdicts.items()))
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

        async def trial() -> list[Verdict]:
            return [(await self._trial(case, built, twist))[0]]

        return (await self._twice(case.id, trial))[0]

    # Which cases

    def _select(self, selection: Selection) -> tuple[list[LockedCase], dict[str, list[str]], list[str]]:
        """Cases to run, whole-suite commands with the ids asked of them (none = all), and ids that nobody knows."""
        hidden = selection.tier is Tier.HELDOUT
        pool = {case.id: case for case in self.plan.cases if case.heldout is hidden}
        whole = [suite for suite in self.plan.suites if not suite.cases]
        asked: dict[str, list[str]] = {}
        chosen, unknown = set(pool), list[str]()
        if selection.tier is Tier.CASES:
            asked = {suite.name: [] for suite in whole}
            chosen &= selection.cases
            for pattern in sorted(selection.cases - chosen):
                found = {id_ for id_ in pool if _matches(id_, pattern)}
                chosen |= found
                if (name := pattern.split("/", 1)[0]) in asked:
                    asked[name].append(pattern)
                elif not found:
                    unknown.append(pattern)
            asked = {name: patterns for name, patterns in asked.items() if patterns}
        elif not hidden:
            tiers = ("fast",) if selection.tier is Tier.FAST else ("fast", "gate")
            chosen = {case.id for case in pool.values() if self._suites[case.suite].when in tiers}
            asked = {suite.name: [] for suite in whole if suite.when in tiers}
        cases = [pool[id_] for id_ in chosen]
        if selection.tier is Tier.FAST:
            # The same cases for the same seed, so that several seats cover the whole.
            cases.sort(key=lambda case: hashlib.sha256(f"{selection.seed}\0{case.id}".encode()).digest())
            cases = cases[: max(FAST_LEAST, math.ceil(len(cases) * FAST_SHARE))]
        # In an order that tells nothing, the same for each judgement of a run.
        cases.sort(key=lambda case: hmac.digest(self.plan.secret, b"order " + case.id.encode(), hashlib.sha256))
        return cases, asked, unknown

    # One case, or one whole-suite command

    async def _twice(self, case: str, trial: Callable[[], Awaitable[list[Verdict]]]) -> list[Verdict]:
        """A trial, repeated once when the machine or the judge failed; then it is an error, never a failure."""
        verdicts: list[Verdict] = []
        for _ in range(2):
            try:
                async with self._cores:
                    verdicts = await trial()
            except RoomError as error:
                verdicts = [Verdict(case, Outcome.ERROR, reason=one_line(f"room: {error}"))]
            if all(verdict.outcome is not Outcome.ERROR for verdict in verdicts):
                break
        return verdicts

    async def _command(self, name: str, asked: Collection[str], built: Built) -> list[Verdict]:
        """Every verdict of a whole-suite command. `SUITE/all` stands for the command itself."""
        suite = self._suites[name]
        exact = [id_ for id_ in asked if "/" in id_ and not re.search(r"[*?\[]", id_)]
        ids = "".join(f"{id_.split('/', 1)[1]}\n" for id_ in exact) if len(exact) == len(asked) else ""
        summary, result = await self._trial(LockedCase(f"{name}/all", name, "", False), built, ids=ids)
        found: dict[str, Verdict] = {}
        if suite.results == "libtest":
            try:
                read = results.libtest(result.stdout.decode("utf-8", "replace"))
                found = {f"{name}/{test}": Verdict(f"{name}/{test}", outcome) for test, outcome in read.items()}
            except results.ResultsError as error:
                summary = replace(summary, outcome=Outcome.FAIL, reason=f"results refused: {one_line(str(error))}")
        told = any(verdict.outcome is Outcome.FAIL for verdict in found.values())
        silent = suite.results == "libtest" and (summary.outcome is Outcome.PASS or told)
        for case in exact:
            found.setdefault(case, Verdict(case, Outcome.MISSING, reason="the suite did not report this test"))
        wanted = [one for one in found.values() if not asked or any(_matches(one.case, each) for each in asked)]
        return wanted if silent and summary.outcome is not Outcome.ERROR else [summary, *wanted]

    async def _trial(
        self, case: LockedCase, built: Built, twist: str | None = None, ids: str = ""
    ) -> tuple[Verdict, Result]:
        """The suite's steps, each in a room of its own. The candidate's product gets a room with nothing beside it."""
        suite, seconds = self._suites[case.suite], 0.0
        limits = replace(self.plan.limits, disk=min(self.plan.limits.disk, OUT_DISK))
        in_tree = suite.room == "build"
        room = {"scratch_exec": True} if in_tree else {"root": self.plan.judge_root, "limits": limits, "brief": True}
        async with self._shop.folder() as laid, self._shop.folder() as out:
            entry, answer = await anyio.to_thread.run_sync(self._lay, case, suite, laid, twist, ids)
            case_env = CASE_ENV | ({"CASE": f"{CASE}/files/{entry}"} if entry else {})
            steps = suite.steps or (suite.run,)
            for number, step in enumerate(steps):
                mounts = [Mount(out, WORKSPACE)] if number else []
                if product := step.startswith(PRODUCT):
                    argv = tuple(shlex.split(step.replace("$OUT", WORKSPACE, 1)))
                else:
                    script, *arguments = shlex.split(step)
                    argv = (f"{CASE}/step/{PurePosixPath(script).name}", *arguments)
                    mounts += [Mount(laid, CASE), Mount(built.artifacts, ARTIFACTS)]
                result = await self._shop.run(
                    Command(argv, time_s=suite.time_s * WALL_FACTOR, cpu_s=suite.time_s, output_limit=OUTPUT),
                    built.tree if in_tree and not number else None,
                    workspace=None if number else out,
                    mounts=tuple(mounts),
                    env=PRODUCT_ENV if product else BUILD_ENV | case_env if in_tree else case_env,
                    **room,
                )
                seconds += result.seconds
                last = bool(suite.steps) and number == len(steps) - 1
                verdict = compared(case.id, result, answer) if last else reported(case.id, result)
                if verdict.outcome is not Outcome.PASS:
                    break
        return replace(verdict, seconds=seconds), result

    def _lay(self, case: LockedCase, suite: Suite, folder: Path, twist: str | None, ids: str) -> tuple[str, Prepared]:
        """Writes the runners and the case's files, rewritten by `prepare`, under a neutral name. Returns the name ("" =
        the case has no file, only an id) and the right answer."""
        laid = {"ids": ids.encode()}
        for script in (shlex.split(step)[0] for step in suite.steps or (suite.run,) if not step.startswith(PRODUCT)):
            laid[f"step/{PurePosixPath(script).name}"] = (self.plan.folder / script).read_bytes()
        entry, answer = "", Prepared({})
        if case.file:
            path, *others = (
                locate(self.plan.folder, self.plan.sources, name) for name in (case.file, *case.with_files)
            )
            entry, answer = f"case{path.suffix}", Prepared({path.name: path.read_bytes()})
            if suite.prepare:
                draw = draw_for(self.plan.secret, case.id, self._weights(case))
                draw = draw if twist is None else replace(draw, twist=twist)
                answer = self._plugins[suite.prepare].prepare(path.read_bytes(), path.name, draw)
            laid |= {f"files/{other.name}": other.read_bytes() for other in others}  # itself too, if it includes itself
            laid |= {f"files/{entry if name == path.name else name}": data for name, data in answer.files.items()}
        for part in (folder, folder / "files", folder / "step"):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)  # for the room's user, whatever our umask is
        for name, data in laid.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o555)
        return entry, answer

    def _weights(self, case: LockedCase) -> Mapping[str, int]:
        prepare = self._suites[case.suite].prepare
        if not prepare:
            return {}
        path = locate(self.plan.folder, self.plan.sources, case.file)
        weights = self._plugins[prepare].twists(path.read_bytes(), path.name)
        return {twist: weight for twist, weight in weights.items() if not case.twists or twist in case.twists}


def reported(case: str, result: Result) -> Verdict:
    """What a runner of the project said of a case: its exit status and its last `ERROR ` and `VALUE ` lines."""
    lines = result.stdout.decode("utf-8", "replace").split("\n")[::-1]
    said = one_line(next((line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")), ""))
    measured = next(filter(None, map(_VALUE.match, lines)), None)
    value, unit = (float(measured[1]), measured[2] or "") if measured else (None, "")
    outcome = OUTCOMES.get(result.exit_code, Outcome.FAIL)
    reason = f"{_ending(result)}: {last_line(result.stderr)}" if result.exit_code else ""
    if over(result):
        outcome, reason = Outcome.TIMEOUT, "over its time limit"
    elif result.ended is Ended.KILLED:
        outcome, reason = Outcome.FAIL, KILLED
    return Verdict(case, outcome, result.seconds, said or reason, value, unit)


def compared(case: str, result: Result, answer: Prepared) -> Verdict:
    """Whether the candidate's product ended as `prepare` wrote down. Drawn numbers never appear in a reason."""
    wanted, killed = answer.expected_status, result.ended is Ended.KILLED
    outcome, reason = Outcome.FAIL, ""
    if over(result):
        outcome, reason = Outcome.TIMEOUT, "run: over its time limit"
    elif killed or result.exit_code != wanted:
        expected = answer.meanings.get(wanted, "another end" if wanted else "exit status 0")
        how = KILLED if killed else answer.meanings.get(result.exit_code, _ending(result))
        reason = f"run: {how}, expected: {expected}"
    elif answer.expected_stdout not in (None, result.stdout):
        reason = "run: its output differs from the expected"
    else:
        outcome = Outcome.PASS
    return Verdict(case, outcome, result.seconds, reason)


def over(result: Result) -> bool:
    return result.ended is Ended.TIMEOUT or result.exit_code == CPU_EXCEEDED


def _ending(result: Result) -> str:
    number = result.exit_code - 128
    return signal.Signals(number).name if 0 < number < signal.SIGRTMIN - 2 else f"exit status {result.exit_code}"


def _matches(case: str, pattern: str) -> bool:
    """A pattern is an id, a suite's name, or either with `*`, `?` and `[…]`."""
    return case == pattern or fnmatchcase(case, pattern) or fnmatchcase(case.split("/", 1)[0], pattern)
