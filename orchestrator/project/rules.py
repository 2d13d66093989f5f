"""What one key alone cannot say: names that must exist, pairs that exclude each other, files that must be there.

No run starts on a folder that would judge something else than its author meant.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.project.reading import Document, KeyPath, Problem, nearest
from orchestrator.project.schema import SHIPPED_ROLES, PlanFile, ProjectFile
from verifiers.suites import Suite


def plan_problems(plan: Document[PlanFile], project: ProjectFile) -> Iterator[Problem]:
    """Unique names, `after` that names tasks above (so no circle), cases of suites that exist."""
    seen: set[str] = set()
    for index, task in enumerate(plan.model.task):
        if task.name in seen:
            yield plan.problem(("task", index, "name"), f"two tasks are named {task.name}; each needs its own name")
        for other in {*task.after} - seen:
            yield plan.problem(("task", index, "after"), f"{other} is no task above{nearest(other, seen)}")
        yield from unknown_suites(plan, ("task", index, "cases"), task.cases, project)
        seen.add(task.name)


def unknown_suites(doc: Document[Any], at: KeyPath, patterns: Iterable[str], project: ProjectFile) -> Iterator[Problem]:
    """Patterns at `at` in `doc` that begin with no suite of the project."""
    suites = {suite.name for suite in project.suites}
    for pattern in patterns:
        if (name := pattern.split("/", 1)[0]) not in suites:
            yield doc.problem((*at, pattern), f"{pattern} is in no suite{nearest(name, suites)}")


def project_problems(doc: Document[ProjectFile]) -> Iterator[Problem]:
    """Everything else that is wrong with `project.toml` and the files it needs in its folder."""
    file, folder = doc.model, doc.file.parent
    yield from _suites(doc)
    for name, source in file.sources.items():
        if bool(source.deb) == bool(source.src):
            yield doc.problem(("sources", name), f"sources.{name} needs exactly one of deb, src")
    for index, milestone in enumerate(file.milestones):
        yield from unknown_suites(doc, ("milestone", index, "needs"), milestone.needs, file)
    if (credit := sum(milestone.credit for milestone in file.milestones)) > 100:
        yield doc.problem(("milestone",), f"the milestones' credits add up to {credit:g}; 100 is all there is")
    if "builder" not in file.roles:
        yield doc.problem(("roles",), "roles has no builder; a team needs at least one, write builder = 1")
    prompts = {prompt.stem: prompt for prompt in (folder / "prompts").glob("*.md")}
    known, wanted = {*SHIPPED_ROLES, *prompts} - {"all"}, {*SHIPPED_ROLES, *file.roles, "all"}
    for role in file.roles.keys() - known:
        remedy = f"{nearest(role, known, 'roles.')}; a role of your own needs prompts/{role}.md"
        yield doc.problem(("roles", role), f"roles.{role} is not a role of this version{remedy}")
    for role in prompts.keys() - wanted:
        yield Problem(prompts[role], 0, f"is for no role of this project{nearest(role, wanted)}")
    goal, seed = folder / "goal.md", folder / "seed"
    if not goal.is_file() or not goal.stat().st_size:
        yield Problem(goal, 0, "is missing or empty; say there what is to be built, seats see it as /team/GOAL.md")
    if not any(seed.glob("*")):
        yield Problem(seed, 0, "is missing or empty; it holds the first commit of main, and must build")


def _suites(doc: Document[ProjectFile]) -> Iterator[Problem]:
    names: set[str] = set()
    shares: dict[str, float] = {}  # files that two patterns have in common are compared where cases are listed
    for index, suite in enumerate(doc.model.suites):
        at: KeyPath = ("suite", index)
        if suite.name in names:
            yield doc.problem((*at, "name"), f"two suites are named {suite.name}; each needs its own name")
        names.add(suite.name)
        if bool(suite.run) == bool(suite.steps):
            yield doc.problem(at, f"suite {suite.name} needs exactly one of run, steps")
        for number, program in enumerate(suite.allow):
            if program not in doc.model.forbid:
                yield doc.problem((*at, "allow", number), f"allow names {program}, which forbid does not forbid")
        if not suite.cases and suite.results == "exit":
            words = f'suite {suite.name} needs cases, or results = "libtest" to say how its output is read'
            yield doc.problem(at, words)
        words = "is for a suite without cases" if suite.cases else "needs cases, which this has not"
        for key in ("room", "results") if suite.cases else ("steps", "heldout", "prepare"):
            if getattr(suite, key) != Suite.model_fields[key].default:
                yield doc.problem((*at, key), f"{key} {words}")
        if suite.cases and shares.setdefault(suite.cases, suite.heldout) != suite.heldout:
            words = f"{suite.cases} would be hidden here and shown there; give it one heldout in all suites"
            yield doc.problem((*at, "heldout"), words)
        yield from _files(doc, suite, at)


def _files(doc: Document[ProjectFile], suite: Suite, at: KeyPath) -> Iterator[Problem]:
    """Everything a suite names in the folder must be there, and what is run must be executable."""
    folder = doc.file.parent
    there = [str(path.relative_to(folder)) for path in (folder / "suites").glob("*") if path.is_file()]
    steps = (("steps", step) for step in suite.steps if not step.startswith("$OUT/"))
    for key, command in (("prepare", suite.prepare), ("run", suite.run), *steps):
        program = folder / next(iter(command.split()), "")
        if command and not program.is_file():
            yield doc.problem((*at, key), f"{command!r} is no file in the project's folder{nearest(command, there)}")
        elif key != "prepare" and program.is_file() and not os.access(program, os.X_OK):
            yield doc.problem((*at, key), f"{command!r} is not executable; run: chmod +x {program}")
    if suite.cases.startswith("sources/"):
        source, declared = suite.cases.split("/")[1], doc.model.sources
        if source not in declared:
            words = f"sources.{source} is not declared{nearest(source, declared)}"
            yield doc.problem((*at, "cases"), words)
    elif suite.cases and not any(folder.glob(suite.cases)):
        yield doc.problem((*at, "cases"), f"{suite.cases} matches no file in {folder}")
