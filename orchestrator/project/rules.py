"""What one key alone cannot say: names that must exist, pairs that exclude each other, files that must be there.

Each rule yields problems of one document; together they make no run start on a folder that would judge something else
than its author meant. What the format has and this version does not run is refused here in words ("not yet"), never
ignored, where it would change what is judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from orchestrator.project.positions import KeyPath
from orchestrator.project.problems import Problem, nearest
from orchestrator.project.project import SHIPPED_ROLES
from orchestrator.project.reading import Document
from orchestrator.project.schema import PlanFile, ProjectFile, Suite

LATER_ROLES = ("reviewer", "deduplicator", "documenter", "performance")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[^\s]+)?")
_BASE = re.compile(r"debian:[a-z]+")

Doc = Document[ProjectFile]


def problems_of(doc: Doc, folder: Path) -> Iterator[Problem]:
    """All problems of `project.toml` in its folder."""
    if doc.model.schema_ != 1:
        yield doc.problem(("schema",), f"schema {doc.model.schema_} is not known to this version, which reads schema 1")
        return
    yield from _folder(doc, folder)
    yield from _image(doc)
    yield from _sources(doc)
    yield from _build(doc)
    yield from _roles(doc, folder)
    for index, suite in enumerate(doc.model.suite):
        yield from _suite(doc, index, suite)
        yield from _suite_files(doc, index, suite, folder)
    yield from _suites_together(doc, folder)
    yield from _milestones(doc)
    yield from _followups(doc, folder)


def plan_problems(plan: Document[PlanFile], suites: set[str]) -> Iterator[Problem]:
    """`plan.toml`: unique names, `after` that exists and comes earlier (so no circle), cases of suites that exist."""
    seen: set[str] = set()
    for index, task in enumerate(plan.model.task):
        at: KeyPath = ("task", index)
        if task.name in seen:
            yield plan.problem((*at, "name"), f"two tasks are named {task.name}; give each a name of its own")
        for other in task.after:
            if other not in seen:
                yield plan.problem((*at, "after"), f"after names {other}, which is no task above{nearest(other, seen)}")
        for pattern in task.cases:
            if pattern.split("/", 1)[0] not in suites:
                yield plan.problem(
                    (*at, "cases"), f"{pattern} is in no suite{nearest(pattern.split('/', 1)[0], suites)}"
                )
        seen.add(task.name)


def _folder(doc: Doc, folder: Path) -> Iterator[Problem]:
    goal = folder / "goal.md"
    if not goal.is_file() or not goal.read_text(encoding="utf-8").strip():
        yield Problem(goal, 0, "is missing or empty; say there what is to be built, seats see it as /team/GOAL.md")
    if doc.model.seed is not None:
        yield doc.problem(
            ("seed",), "a seed from a git repository is not run by this version yet; put its files into seed/"
        )
    elif not (folder / "seed").is_dir() or not any((folder / "seed").iterdir()):
        yield Problem(folder / "seed", 0, "is missing or empty; it holds the first commit of main, and must build")
    if doc.model.network != "none":
        yield doc.problem(("network",), 'network access is not run by this version yet; write network = "none"')


def _image(doc: Doc) -> Iterator[Problem]:
    image = doc.model.image
    if image.dockerfile is not None:
        yield doc.problem(
            ("image", "dockerfile"), "image.dockerfile is not run by this version yet; use image.packages"
        )
    elif not image.packages:
        yield doc.problem(("image",), "image.packages is required: the Debian packages that seats and builds need")
    if not _BASE.fullmatch(image.base):
        yield doc.problem(
            ("image", "base"), f'image.base must be a Debian release like "debian:bookworm" (got {image.base!r})'
        )
    for key, packages in (("packages", image.packages), ("judge", image.judge or ())):
        for index, package in enumerate(packages):
            if not _PACKAGE.fullmatch(package):
                yield doc.problem(("image", key, index), f"{package!r} is not a Debian package name; one name a string")


def _sources(doc: Doc) -> Iterator[Problem]:
    for name, source in doc.model.sources.items():
        at: KeyPath = ("sources", name)
        kinds = [kind for kind in ("deb", "src", "url", "git") if getattr(source, kind)]
        if len(kinds) != 1:
            yield doc.problem(
                at, f"sources.{name} needs exactly one of deb, src, url, git (got {', '.join(kinds) or 'none'})"
            )
        elif source.url and not source.sha256:
            yield doc.problem(at, f"sources.{name} has a url and no sha256; without it nobody knows what was judged")
        elif source.git and not source.commit:
            yield doc.problem(at, f"sources.{name} has a git address and no commit (40 hex digits)")


def _build(doc: Doc) -> Iterator[Problem]:
    if doc.model.build.warm:
        yield doc.problem(("build", "warm"), "build.warm is not run by this version yet; leave it out, builds are cold")
    for index, path in enumerate(doc.model.build.artifacts):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            yield doc.problem(("build", "artifacts", index), f"{path!r} must be a path inside the repository")
    for index, program in enumerate(doc.model.forbid):
        if "/" in program or " " in program:
            yield doc.problem(("forbid", index), f"{program!r} must be a program's name without path or arguments")


def _roles(doc: Doc, folder: Path) -> Iterator[Problem]:
    roles = doc.model.roles
    own = {prompt.stem for prompt in (folder / "prompts").glob("*.md")} - {"all"}
    known = {*SHIPPED_ROLES, *own}
    for role in roles:
        if role in known and role not in LATER_ROLES:
            continue
        if role in LATER_ROLES:
            words = f"the role {role} is not run by this version yet; leave it out"
        else:
            words = f"roles.{role} is not a role{nearest(role, known, 'roles.')}; a role of your own needs prompts/{role}.md"
        yield doc.problem(("roles", role), words)
    if "builder" not in roles:
        yield doc.problem(("roles",), "roles has no builder; a team needs at least one, write builder = 1")
    for role in sorted(own - set(roles) - set(SHIPPED_ROLES) - set(LATER_ROLES)):
        file = folder / "prompts" / f"{role}.md"
        yield Problem(file, 0, f"is for no role of this project{nearest(role, {*SHIPPED_ROLES, *roles})}")


def _suite(doc: Doc, index: int, suite: Suite) -> Iterator[Problem]:
    at: KeyPath = ("suite", index)
    ways = [key for key in ("run", "steps", "verifier") if getattr(suite, key)]
    if len(ways) != 1:
        yield doc.problem(
            at, f"suite {suite.name} needs exactly one of run, steps, verifier (got {', '.join(ways) or 'none'})"
        )
    for key, given in (("generate", suite.generate), ("verifier", suite.verifier)):
        if given:
            yield doc.problem((*at, key), f"suite.{key} is not run by this version yet; write cases and run or steps")
    if suite.better:
        yield doc.problem((*at, "better"), "measured suites (better) are not run by this version yet")
    if suite.when == "main":
        yield doc.problem((*at, "when"), 'when = "main" is not run by this version yet; write "fast" or "gate"')
    if suite.count is not None and not suite.generate:
        yield doc.problem((*at, "count"), "count goes with generate; cases from files are counted by themselves")
    if suite.cases is None and not suite.generate:
        yield from _whole_suite(doc, at, suite)
    elif suite.room == "build":
        yield doc.problem((*at, "room"), 'room = "build" is for a suite without cases; cases have rooms of their own')
    elif suite.results is not None:
        yield doc.problem(
            (*at, "results"), "results is for a suite without cases; here each case's exit code is its result"
        )
    for number, program in enumerate(suite.allow):
        if program not in doc.model.forbid:
            yield doc.problem((*at, "allow", number), f"allow names {program}, which forbid does not forbid")


def _whole_suite(doc: Doc, at: KeyPath, suite: Suite) -> Iterator[Problem]:
    if suite.results is None:
        yield doc.problem(
            at, f'suite {suite.name} needs cases, or results = "libtest" that says how its output is read'
        )
    elif suite.results != "libtest":
        yield doc.problem(
            (*at, "results"), f'results = "{suite.results}" is not read by this version yet; write "libtest"'
        )
    if suite.steps:
        yield doc.problem((*at, "steps"), "steps judges single cases; a suite without cases needs run")
    for key in ("heldout", "prepare", "variants"):
        if getattr(suite, key):
            yield doc.problem((*at, key), f"{key} needs cases: the ids of a suite without them are known after it ran")


def _suite_files(doc: Doc, index: int, suite: Suite, folder: Path) -> Iterator[Problem]:
    """Everything a suite names in the folder must be there, and what is run must be executable."""
    at: KeyPath = ("suite", index)
    for key, command in (("run", suite.run), *(("steps", step) for step in suite.steps)):
        if command is not None and not command.startswith("$OUT/"):
            yield from _command(doc, (*at, key), key, command, folder)
    if suite.prepare is not None and not (folder / suite.prepare).is_file():
        yield doc.problem(
            (*at, "prepare"), f"prepare names {suite.prepare}, which is not there{_nearest_file(suite.prepare, folder)}"
        )
    if suite.cases is None:
        return
    pattern = suite.cases
    if pattern.startswith("!"):
        yield from _command(doc, (*at, "cases"), "cases", pattern[1:], folder)
        if suite.prepare:
            yield doc.problem(
                (*at, "prepare"), "prepare rewrites a case's file, and cases that a command lists have none"
            )
    elif pattern.startswith("sources/"):
        source = pattern.split("/")[1]
        if source not in doc.model.sources:
            yield doc.problem((*at, "cases"), f"sources.{source} is not declared{nearest(source, doc.model.sources)}")
    elif PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        yield doc.problem((*at, "cases"), f"{pattern!r} must be a path inside the project's folder")
    elif not any(folder.glob(pattern)):
        yield doc.problem((*at, "cases"), f"{pattern} matches no file in {folder}")


def _command(doc: Doc, at: KeyPath, key: str, command: str, folder: Path) -> Iterator[Problem]:
    """A command is an executable file of the project's folder, with arguments."""
    name = next(iter(command.split()), "")
    if not name or not (folder / name).is_file():
        words = f"{key} names {name or 'nothing'}, which is not in the project's folder{_nearest_file(name, folder)}"
        yield doc.problem(at, words)
    elif not os.access(folder / name, os.X_OK):
        yield doc.problem(at, f"{name} is not executable; run: chmod +x {folder / name}")


def _nearest_file(name: str, folder: Path) -> str:
    return nearest(name, [str(path.relative_to(folder)) for path in (folder / "suites").glob("*") if path.is_file()])


def _suites_together(doc: Doc, folder: Path) -> Iterator[Problem]:
    names: set[str] = set()
    heldout: dict[str, tuple[float, str]] = {}
    for index, suite in enumerate(doc.model.suite):
        if suite.name in names:
            yield doc.problem(
                ("suite", index, "name"), f"two suites are named {suite.name}; give each a name of its own"
            )
        names.add(suite.name)
        for case in _case_files(suite, folder):
            share, other = heldout.setdefault(case, (suite.heldout, suite.name))
            if share != suite.heldout:
                words = f"{case} would be hidden in one suite and shown in another: {other} and {suite.name} need one heldout"
                yield doc.problem(("suite", index, "heldout"), words)
                break


def _case_files(suite: Suite, folder: Path) -> set[str]:
    """The suite's files by name; a pattern over sources, which are not fetched yet, stands for its files."""
    if suite.cases is None or suite.cases.startswith("!"):
        return set()
    if suite.cases.startswith(("sources/", "/")):
        return {suite.cases}
    return {str(path.relative_to(folder)) for path in folder.glob(suite.cases)}


def _milestones(doc: Doc) -> Iterator[Problem]:
    suites = {suite.name for suite in doc.model.suite}
    for index, milestone in enumerate(doc.model.milestone):
        for cases, (kind, _) in milestone.needs.items():
            at: KeyPath = ("milestone", index, "needs", cases)
            if cases.split("/", 1)[0] not in suites:
                yield doc.problem(
                    at, f"milestone needs {cases}, which is in no suite{nearest(cases.split('/', 1)[0], suites)}"
                )
            elif kind != "share":
                yield doc.problem(at, f"a bound like {kind} is for measured suites (better); write a share like 0.99")
    credit = sum(milestone.credit for milestone in doc.model.milestone)
    if credit > 100:
        yield doc.problem(("milestone",), f"the milestones' credits add up to {credit:g}; 100 is all there is")


def _followups(doc: Doc, folder: Path) -> Iterator[Problem]:
    suites = {suite.name for suite in doc.model.suite}
    for index, followup in enumerate(doc.model.followup):
        if followup.suite not in suites:
            yield doc.problem(
                ("followup", index, "suite"), f"{followup.suite} is no suite{nearest(followup.suite, suites)}"
            )
        if not (folder / "followups" / followup.name / "goal.md").is_file():
            yield doc.problem(("followup", index, "name"), f"followups/{followup.name}/goal.md is missing")
