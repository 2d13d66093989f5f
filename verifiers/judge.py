"""Judges one tree: builds it cold, runs each case in rooms of its own, and decides everything from outside.

What a room may know is the whole security of this module. A case's rooms hold the build's artifacts, the case under a
neutral name, and the project's runners; the other cases, the expected outputs, the draws and this supervisor stay
outside, and the candidate's product runs alone. An outcome of the machine is never the candidate's.
"""

import hashlib
import hmac
import math
import re
import shlex
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Final

import anyio

from sandbox import faults
from sandbox.keep import file_digest, request_of
from sandbox.room import MIB, Command, Engine, Labels, Mount, RoomError
from verifiers.building import BUILD_ENV, OUTPUT, WALL_FACTOR, WORKSPACE, Workshop
from verifiers.cache import Built, Memory
from verifiers.cases import locate, matches
from verifiers.drawing import Draw, Prepared, draw_for, load_plugin
from verifiers.results import ResultsError, compared, libtest, one_line, reported
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Tree, Verdict
from verifiers.suites import JudgePlan, LockedCase, Suite, SuiteError

ARTIFACTS: Final = "/artifacts"
# `files/` is the case with its companions, `step/` the project's runners, `ids` what is asked for.
CASE: Final = "/case"
FAST_SHARE, FAST_LEAST = 0.1, 20
WHEN: Final = {Tier.FAST: ("fast",), Tier.FULL: ("fast", "gate"), Tier.MAIN: ("main",)}
"""Whose suites' cases a tier asks, by `Suite.when`."""
OUT_DISK = 256 * MIB  # what one case may write
CASE_ENV: Final = BUILD_ENV | {"OUT": WORKSPACE, "ARTIFACTS": ARTIFACTS, "CASES": f"{CASE}/ids"}
PRODUCT: Final = "$OUT/"  # so begins a step that runs what the candidate produced
TRIALS_A_LINE: Final = 250  # progress is told after so many
RULES: Final = 1  # a new number when the same room's end becomes another verdict: the kept ones are of the old rules
GONE: Final = "the suite did not report this test"


class ReferenceFailed(Exception):
    """The reference solution cannot settle anything: it does not build or passes nothing, or the machine failed."""


class RoomJudge:
    """The `Judge` of a frozen project. One object may serve many judgements at once; they share its cores. Several of
    one engine and project may share a `memory`."""

    def __init__(
        self, engine: Engine, plan: JudgePlan, labels: Labels, user: int = 1, memory: Memory | None = None
    ) -> None:
        self.plan = plan
        self._engine = engine.name
        memory = memory or Memory()
        self._known = memory.verdicts
        self._suites = {suite.name: suite for suite in plan.suites}
        self._cases = {case.id: case for case in plan.cases}
        if len(self._cases) != len(plan.cases):
            raise ValueError("the lock names a case twice; run `project lock` again")
        whole = (suite.name for suite in plan.suites if not suite.cases)
        self._commands = {name: LockedCase(f"{name}/all", name, "", heldout=False) for name in whole}
        self._shop = Workshop(engine, plan, labels, user, memory.builds)
        self.close = self._shop.close
        self._cores = anyio.CapacityLimiter(plan.cores)
        prepares = {suite.prepare for suite in plan.suites if suite.prepare}
        self._plugins = {name: load_plugin(plan.folder / name) for name in prepares}
        self._draws: dict[LockedCase, Draw] = {}  # what is frozen is read once
        self._definitions: dict[LockedCase, str] = {}

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        """Builds the tree in a fresh room and runs the selected cases, each in rooms of its own.

        Never raises for what the candidate did. Trouble of the judge or the machine is `Scorecard.void`.
        """
        asked, unknown = self._select(selection)
        found = {id_: Verdict(id_, Outcome.ERROR, reason="the lock knows no such shown case") for id_ in unknown}
        lost, left = set[str](), dict(asked)

        def take(case: LockedCase, verdicts: Collection[Verdict]) -> bool:
            """Whether so much is lost now that the judgement may end."""
            del left[case]
            found.update((verdict.case, verdict) for verdict in verdicts)
            lost.update(verdict.case for verdict in verdicts if verdict.outcome not in (Outcome.PASS, Outcome.ERROR))
            return 0 < selection.patience < len(lost & selection.floor)

        async def one(case: LockedCase) -> bool:
            verdicts = await self._verdicts(case, built, asked[case])
            if self._known and case in keys:
                await self._known.keep(keys[case], verdicts[0])
            faults.at("case-judged")
            return take(case, verdicts if case.file or asked[case] else _with_gone(verdicts, case, selection.floor))

        try:
            async with self._shop.built(tree, cold=selection.cold) as built:
                if not built.build.ok:
                    return Scorecard(tree.id, selection.tier, built.build)
                faults.at("built")
                keys = await anyio.to_thread.run_sync(self._keys, tree, asked) if self._known else {}
                ask = self._known if not (selection.cold or selection.anew) else None
                known = await ask.known({case.id: key for case, key in keys.items()}) if ask else {}
                if not any([take(case, [known[case.id]]) for case in keys if case.id in known]):
                    await self._each([*left], one)
        except RoomError as error:
            build = Build(False, 0.0, "not built: the machine failed")
            return Scorecard(tree.id, selection.tier, build, void=f"the build's room failed twice: {error}")
        ordered = {case: found[case] for case in sorted(found)}
        stopped = f"{len(lost & selection.floor)} cases lost, {len(left)} not run" if left else ""
        return Scorecard(tree.id, selection.tier, built.build, ordered, _broken(ordered.values()), stopped)

    async def _each(self, cases: Iterable[LockedCase], work: Callable[[LockedCase], Awaitable[bool]]) -> None:
        """Does the work for each case, as many at a time as there are cores, until one says that it is enough.

        No more wait for a core than could have one: so a short judgement does not queue behind all cases of a long one.
        """
        todo = iter(cases)

        async def lane() -> None:
            for case in todo:
                if await work(case):
                    return lanes.cancel_scope.cancel()

        async with anyio.create_task_group() as lanes:
            for _ in range(self.plan.cores):
                lanes.start_soon(lane)

    async def settle(
        self, reference: Tree, progress: Callable[[str], None]
    ) -> tuple[tuple[LockedCase, ...], dict[str, str]]:
        """Settles with the reference solution which cases the project may ask: judges each, shown and held out, with
        every rewriting its plug-in offers. Returns the cases with the rewritings that are left, and why each of the
        others was dropped: a case that the reference fails cannot tell a good candidate from a bad one.

        The judge's plan has what the reference needs added to its images. Raises `ReferenceFailed` when the reference
        does not build, passes none of a suite's shown cases, or a case cannot be judged at all.
        """
        cases = self.plan.cases
        trials = {case: [replace(case, twists=(twist,)) for twist in case.twists] or [case] for case in cases}
        every = [trial for tried in trials.values() for trial in tried]
        verdicts: dict[LockedCase, Verdict] = {}

        async def one(trial: LockedCase) -> bool:
            [verdicts[trial]] = await self._verdicts(trial, built)
            if len(verdicts) % TRIALS_A_LINE == 0:
                progress(f"reference: {len(verdicts)} trials of {len(trials)} cases")
            return False

        async with self._shop.built(reference, cold=True) as built:
            if not built.build.ok:
                raise ReferenceFailed(f"the reference does not build: {built.build.reason}")
            await self._each(every, one)
        if broken := _broken(verdicts.values()):
            raise ReferenceFailed(broken)
        kept: list[LockedCase] = []
        dropped: dict[str, str] = {}
        for case, tried in trials.items():
            if passed := [trial for trial in tried if verdicts[trial].outcome is Outcome.PASS]:
                kept.append(replace(case, twists=tuple(twist for trial in passed for twist in trial.twists)))
            else:
                first = verdicts[tried[0]]
                dropped[case.id] = f"{first.outcome.name.lower()}: {first.reason}"
        shown = {case.id: case.suite for case in cases if not case.heldout}
        for name in sorted({*shown.values()} - {case.suite for case in kept if not case.heldout}):
            lost = [case for case in sorted(shown) if shown[case] == name]
            often = Counter(dropped[case] for case in lost).most_common(1)[0][0]
            words = f"the reference passes none of the {len(lost)} shown cases of suite {name}"
            raise ReferenceFailed(f"{words}, first {lost[0]}; most often: {often}")
        return tuple(kept), dropped

    def twist(self, case: str) -> str:
        """How this run rewrites a case (for example "inverse"); "" where its suite rewrites nothing."""
        return self._draw(self._cases[case]).twist

    # Which cases

    def _select(self, selection: Selection) -> tuple[dict[LockedCase, list[str]], list[str]]:
        """Whole-suite commands, with the tests asked of each (none = all), and cases to run; and ids that nobody
        knows."""
        hidden = selection.tier is Tier.HELDOUT
        pool = {case.id: case for case in self.plan.cases if case.heldout is hidden}
        asked: dict[LockedCase, list[str]] = {}
        chosen, unknown = set(pool), list[str]()
        if selection.tier is Tier.CASES:
            chosen &= selection.cases
            for pattern in sorted(selection.cases - chosen):
                found = {id_ for id_ in pool if matches(id_, pattern)}
                chosen |= found
                if command := self._commands.get(pattern.split("/", 1)[0]):
                    asked.setdefault(command, []).append(pattern)
                elif not found:
                    unknown.append(pattern)
        elif not hidden:
            tiers = WHEN[selection.tier]
            chosen = {case.id for case in pool.values() if self._suites[case.suite].when in tiers}
            asked = {command: [] for name, command in self._commands.items() if self._suites[name].when in tiers}
        cases = [pool[id_] for id_ in chosen]
        if selection.tier is Tier.FAST:
            # The same cases for the same seed, so that several seats cover the whole.
            cases.sort(key=lambda case: hashlib.sha256(f"{selection.seed}\0{case.id}".encode()).digest())
            cases = cases[: max(FAST_LEAST, math.ceil(len(cases) * FAST_SHARE))]
        # Otherwise in an order that tells nothing, the same for each judgement of a run.
        drawn = {case: hmac.digest(self.plan.secret, b"order " + case.id.encode(), hashlib.sha256) for case in cases}
        cases.sort(key=drawn.__getitem__)
        return asked | {case: [] for case in cases}, unknown

    def _keys(self, tree: Tree, cases: Iterable[LockedCase]) -> dict[LockedCase, str]:
        """What each case's verdict of this tree is kept under: all that it hangs on. Whole-suite commands have none."""
        cases = [case for case in cases if case.file]
        plan, new = self.plan, [case for case in cases if case not in self._definitions]
        images = [root and root.digest for root in (plan.image, plan.judge_root)]
        place = [RULES, self._engine, images, asdict(plan.limits), plan.build.model_dump(mode="json")]
        run = [*place, hashlib.sha256(plan.secret).hexdigest()]
        rules: dict[str, list[object]] = {}
        for suite in (self._suites[name] for name in {case.suite for case in new}):
            files = [plan.folder / name for name in (*_scripts(suite), suite.prepare) if name]
            rules[suite.name] = [suite.model_dump(mode="json"), [file_digest(file) for file in files]]
        for case in new:
            files = [locate(plan.folder, plan.sources, name) for name in (case.file, *case.with_files)]
            about = [asdict(case), [file_digest(file) for file in files], *rules[case.suite]]
            self._definitions[case] = request_of([run, about])
        return {case: request_of([self._definitions[case], tree.id]) for case in cases}

    # One case, or one whole-suite command

    async def _verdicts(self, case: LockedCase, built: Built, tests: Collection[str] = ()) -> list[Verdict]:
        """What one case or whole-suite command says of one build, on a core of its own. Repeated once when the machine
        or the judge failed; then it is an error, never a failure."""
        for _ in range(2):
            try:
                async with self._cores:
                    verdicts = await self._trial(case, built, tests)
            except (RoomError, SuiteError) as error:  # a plug-in may fail for this run's draw alone
                verdicts = [Verdict(case.id, Outcome.ERROR, reason=one_line(f"judge: {error}"))]
            if not _broken(verdicts):
                break
        return verdicts

    async def _trial(self, case: LockedCase, built: Built, tests: Collection[str]) -> list[Verdict]:
        """The suite's steps, each in a room of its own. The candidate's product gets a room with nothing beside it."""
        suite, seconds = self._suites[case.suite], 0.0
        limits = replace(self.plan.limits, disk=min(self.plan.limits.disk, OUT_DISK))
        in_tree = suite.room == "build"
        room = {"scratch_exec": True} if in_tree else {"root": self.plan.judge_root, "limits": limits, "brief": True}
        async with self._shop.folder() as laid, self._shop.folder() as out:
            entry, answer = await anyio.to_thread.run_sync(self._lay, case, suite, laid, tests)
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
                    built.tree if in_tree else None,
                    workspace=None if number else out,
                    mounts=tuple(mounts),
                    env={} if product else case_env,
                    **room,
                )
                seconds += result.seconds
                last = bool(suite.steps) and number == len(steps) - 1
                verdict = compared(case.id, result, answer) if last else reported(case.id, result, alone=not in_tree)
                if verdict.outcome is not Outcome.PASS:
                    break
        verdict = replace(verdict, seconds=seconds)
        if suite.cases or verdict.outcome is Outcome.ERROR:
            return [verdict]
        return _of_tests(suite.name, verdict, result.stdout.decode("utf-8", "replace"), tests)

    def _lay(self, case: LockedCase, suite: Suite, folder: Path, tests: Collection[str]) -> tuple[str, Prepared]:
        """Writes the runners and the case's files, rewritten by `prepare`, under a neutral name. Returns the name ("" =
        the case has no file, only an id) and the right answer."""
        exact = [test.split("/", 1)[1] for test in tests if not _is_pattern(test)]
        laid = {"ids": "".join(f"{name}\n" for name in exact if len(exact) == len(tests)).encode()}
        for script in _scripts(suite):
            laid[f"step/{PurePosixPath(script).name}"] = (self.plan.folder / script).read_bytes()
        entry, answer = "", Prepared({})
        if case.file:
            path, *others = (
                locate(self.plan.folder, self.plan.sources, name) for name in (case.file, *case.with_files)
            )
            entry, answer = f"case{path.suffix}", Prepared({path.name: path.read_bytes()})
            if suite.prepare:
                answer = self._plugins[suite.prepare].prepare(path.read_bytes(), path.name, self._draw(case))
            laid |= {f"files/{other.name}": other.read_bytes() for other in others}  # itself too, if it includes itself
            laid |= {f"files/{entry if name == path.name else name}": data for name, data in answer.files.items()}
        for part in (folder, folder / "files", folder / "step"):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)  # for the room's user, whatever our umask is
        for name, data in laid.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o555)
        return entry, answer

    def _draw(self, case: LockedCase) -> Draw:
        if case in self._draws:
            return self._draws[case]
        weights: Mapping[str, int] = {}
        if prepare := self._suites[case.suite].prepare:
            path = locate(self.plan.folder, self.plan.sources, case.file)
            weights = self._plugins[prepare].twists(path.read_bytes(), path.name)
        kept = {twist: weight for twist, weight in weights.items() if not case.twists or twist in case.twists}
        self._draws[case] = draw_for(self.plan.secret, case.id, kept)
        return self._draws[case]


def _scripts(suite: Suite) -> list[str]:
    """The runners of a suite's steps; the candidate's product is none."""
    return [shlex.split(step)[0] for step in suite.steps or (suite.run,) if not step.startswith(PRODUCT)]


def _is_pattern(asked: str) -> bool:
    return "/" not in asked or re.search(r"[*?\[]", asked) is not None


def _of_tests(suite: str, summary: Verdict, output: str, asked: Collection[str]) -> list[Verdict]:
    """Every verdict of a whole-suite command. `summary` is the command's own, left out where a test's says the same."""
    found: list[Verdict] = []
    try:
        found = [Verdict(f"{suite}/{test}", outcome) for test, outcome in libtest(output).items()]
    except ResultsError as error:
        summary = replace(summary, outcome=Outcome.FAIL, reason=f"results refused: {one_line(str(error))}")
    told = summary.outcome is Outcome.PASS or any(verdict.outcome is Outcome.FAIL for verdict in found)
    known = {summary.case, *(verdict.case for verdict in found)}
    missing = [case for case in asked if case not in known and not _is_pattern(case)]
    wanted = [verdict for verdict in found if not asked or any(matches(verdict.case, pattern) for pattern in asked)]
    wanted += [Verdict(case, Outcome.MISSING, reason=GONE) for case in missing]
    return wanted if told else [summary, *wanted]


def _with_gone(verdicts: list[Verdict], command: LockedCase, floor: Collection[str]) -> list[Verdict]:
    """What a whole-suite command reported, and which tests of the floor it did not, unless the machine failed."""
    known = {verdict.case for verdict in verdicts}
    gone = [id_ for id_ in floor if id_.startswith(f"{command.suite}/") and id_ not in known]
    return verdicts if _broken(verdicts) else verdicts + [Verdict(id_, Outcome.MISSING, reason=GONE) for id_ in gone]


def _broken(verdicts: Collection[Verdict]) -> str:
    """Why a judgement says nothing, or "": some of its verdicts are the judge's or the machine's errors."""
    broken = [verdict for verdict in verdicts if verdict.outcome is Outcome.ERROR]
    return f"{len(broken)} cases could not be judged, first {broken[0].case}: {broken[0].reason}" if broken else ""
