"""What one key alone cannot say: names that must exist, pairs that exclude each other, files that must be there.

No run starts on a folder that would judge something else than its author meant.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.project.reading import KeyPath, Problem, nearest
from orchestrator.project.schema import SHIPPED_ROLES, Project
from verifiers.cases import globbed, matches
from verifiers.judge import PRODUCT
from verifiers.suites import LockedCase, Suite, SuiteError


def problems(project: Project) -> Iterator[Problem]:
    """Everything that is wrong with a folder whose files are each right by themselves."""
    wrong, folder = project.problem, project.folder
    yield from _suites(project)
    yield from _twice(project, "suite", [suite.name for suite in project.suites])
    yield from _twice(project, "milestone", [milestone.name for milestone in project.milestones])
    yield from _twice(project, "task", tasks := [task.name for task in project.plan], "plan.toml")
    for index, task in enumerate(project.plan):
        for other in {*task.after} - {*tasks[:index]}:  # so there is no circle
            words = f"{other} is no task above{nearest(other, tasks[:index])}"
            yield wrong(("task", index, "after"), words, "plan.toml")
    suites = {suite.name for suite in project.suites}
    for file, at, pattern in _patterns(project):
        if (name := pattern.split("/", 1)[0]) not in suites:
            yield wrong((*at, pattern), f"{pattern} is in no suite{nearest(name, suites)}", file)
    for name in project.reference.suites.keys() - suites if project.reference else ():
        yield wrong(("suites", name), f"{name} is no suite{nearest(name, suites)}", "reference/expect.toml")
    for name, source in project.sources.items():
        if bool(source.deb) == bool(source.src):
            yield wrong(("sources", name), f"sources.{name} needs exactly one of deb, src")
    if (credit := sum(milestone.credit for milestone in project.milestones)) > 100:
        yield wrong(("milestone",), f"the milestones' credits add up to {credit:g}; 100 is all there is")
    if "builder" not in project.roles:
        yield wrong(("roles",), "roles has no builder; a team needs at least one, write builder = 1")
    prompts = {prompt.stem: prompt for prompt in (folder / "prompts").glob("*.md")}
    known, wanted = {*SHIPPED_ROLES, *prompts} - {"all"}, {*SHIPPED_ROLES, *project.roles, "all"}
    for role in project.roles.keys() - known:
        remedy = f"{nearest(role, known, 'roles.')}; a role of your own needs prompts/{role}.md"
        yield wrong(("roles", role), f"roles.{role} is not a role of this version{remedy}")
    for role in prompts.keys() - wanted:
        yield Problem(prompts[role], 0, f"is for no role of this project{nearest(role, wanted)}")
    seed, setup = folder / "seed", folder / "image/setup.sh"
    if not any(path.is_file() for path in seed.rglob("*")):
        yield Problem(seed, 0, "is missing or empty; it holds the first commit of main, and must build")
    if setup.exists():
        yield from _script(setup)


def unmatched(project: Project, cases: Sequence[LockedCase]) -> Iterator[Problem]:
    """What stands for nothing, once the cases and their rewritings are known."""
    shown, twists = [case for case in cases if not case.heldout], {twist for case in cases for twist in case.twists}
    listed = {suite.name: index for index, suite in enumerate(project.suites) if suite.cases}
    for name in listed.keys() - {case.suite for case in shown}:
        words = f"suite {name} shows no case, so nobody could work on it; hold out less"
        yield project.problem(("suite", listed[name], "heldout"), words)
    for file, at, pattern in _patterns(project):  # the tests of other suites are known when they have run
        among, kind = (shown, "shown case") if file == "plan.toml" else (cases, "case")
        if pattern.split("/", 1)[0] in listed and not any(matches(case.id, pattern) for case in among):
            yield project.problem((*at, pattern), f"{pattern} is no {kind}", file)
    for name, cheat in project.cheats.items():
        if cheat.loses and cheat.loses not in twists:
            words = f"loses: no case is ever drawn as {cheat.loses}{nearest(cheat.loses, twists)}"
            yield project.problem(("loses",), words, f"cheats/{name}/expect.toml")


def _patterns(project: Project) -> Iterator[tuple[str, KeyPath, str]]:
    """Everything that stands for cases: file, place and pattern."""
    for index, milestone in enumerate(project.milestones):
        yield from (("project.toml", ("milestone", index, "needs"), pattern) for pattern in milestone.needs)
    for index, task in enumerate(project.plan):
        yield from (("plan.toml", ("task", index, "cases"), pattern) for pattern in task.cases)


def _twice(project: Project, key: str, names: Sequence[str], file: str = "project.toml") -> Iterator[Problem]:
    """Names that were used above already."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield project.problem((key, index, "name"), f"two {key}s are named {name}; each needs its own name", file)


def _suites(project: Project) -> Iterator[Problem]:
    wrong = project.problem
    if all(suite.when == "main" for suite in project.suites):
        yield wrong(("suite", 0, "when"), 'the gate would judge nothing; one suite needs when = "fast" or "gate"')
    for index, suite in enumerate(project.suites):
        at: KeyPath = ("suite", index)
        if bool(suite.run) == bool(suite.steps):
            yield wrong(at, f"suite {suite.name} needs exactly one of run, steps")
        for number, program in enumerate(suite.allow):
            if program not in project.forbid:
                yield wrong((*at, "allow", number), f"allow names {program}, which forbid does not forbid")
        if not suite.cases and suite.results == "exit":
            yield wrong(at, f'suite {suite.name} needs cases, or results = "libtest" to say how its output is read')
        words = "is for a suite without cases" if suite.cases else "needs cases, which this has not"
        for key in ("room", "results") if suite.cases else ("steps", "heldout", "prepare"):
            if getattr(suite, key) != Suite.model_fields[key].default:
                yield wrong((*at, key), f"{key} {words}")
        if suite.revert and suite.when != "main":
            words = 'revert is for a suite with when = "main"; what the gate judges never lands with a loss'
            yield wrong((*at, "revert"), words)
        # Files that two patterns have in common are compared where cases are listed.
        if suite.cases and suite.heldout != next(one.heldout for one in project.suites if one.cases == suite.cases):
            words = f"{suite.cases} would be hidden here and shown there; give it one heldout in all suites"
            yield wrong((*at, "heldout"), words)
        source = suite.cases.removeprefix("sources/").split("/")[0]
        if suite.cases.startswith("sources/") and source not in project.sources:
            yield wrong((*at, "cases"), f"sources.{source} is not declared{nearest(source, project.sources)}")
        elif suite.cases and not suite.cases.startswith("sources/"):
            try:
                list(globbed(project.folder, {}, suite))
            except SuiteError as error:
                yield wrong((*at, "cases"), str(error))
        yield from _programs(project, suite, at)


def _programs(project: Project, suite: Suite, at: KeyPath) -> Iterator[Problem]:
    """Every file that a suite names must be there, and what is run must be something that a room can start."""
    there = [str(path.relative_to(project.folder)) for path in (project.folder / "suites").glob("*") if path.is_file()]
    commands = [("prepare", suite.prepare), ("run", suite.run), *(("steps", step) for step in suite.steps)]
    for key, command in commands:
        name = command if key == "prepare" else "".join(shlex.split(command)[:1])
        file, where = project.folder / name, (*at, key)
        if command.startswith(PRODUCT):
            if command in (suite.run, *suite.steps[:1]):
                yield project.problem(where, f"{command!r} cannot come first: $OUT is empty until a step has filled it")
        elif command and not file.is_file():
            yield project.problem(where, f"{command!r} is no file in the project's folder{nearest(command, there)}")
        elif command and key != "prepare":
            if not os.access(file, os.X_OK):
                yield project.problem(where, f"{command!r} is not executable; run there: chmod +x {name}")
            yield from _script(file)


def _script(file: Path) -> Iterator[Problem]:
    """What keeps a script from being started. A room would say so of every case, as if the candidate had failed."""
    text = file.read_bytes()
    if not text.startswith((b"#!", b"\x7fELF")):
        yield Problem(file, 1, "does not begin with a #! line; write #!/bin/sh above everything else")
    elif text.startswith(b"#!") and b"\r\n" in text:
        line = text.count(b"\n", 0, text.index(b"\r\n")) + 1
        yield Problem(file, line, f"ends lines with CRLF; run there: sed -i 's/\\r$//' {file.name}")
