"""What one key alone cannot say: names that must exist, pairs that exclude each other, files that must be there.

No run starts on a folder that would judge something else than its author meant. So what the format has and this
version does not run is refused in words ("not run by this version yet") wherever it would change what is judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.project.positions import KeyPath
from orchestrator.project.problems import Problem, nearest
from orchestrator.project.project import SHIPPED_ROLES
from orchestrator.project.reading import Document
from orchestrator.project.schema import Expectation, PlanFile, ProjectFile, Suite

LATER_ROLES: Final = ("reviewer", "deduplicator", "documenter", "performance")
LATER: Final = "is not run by this version yet"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[^\s]+)?")

Doc = Document[ProjectFile]


def problems_of(doc: Doc, folder: Path) -> Iterator[Problem]:
    """All problems of `project.toml` in its folder."""
    if doc.model.schema_ != 1:
        yield doc.problem(("schema",), f"schema {doc.model.schema_} is not known to this version, which reads schema 1")
        return
    yield from _not_yet(doc)
    yield from _folder(doc, folder)
    yield from _image_and_sources(doc)
    yield from _build(doc)
    yield from _roles(doc, folder)
    for index, suite in enumerate(doc.model.suite):
        yield from _suite(doc, ("suite", index), suite)
        yield from _suite_files(doc, ("suite", index), suite, folder)
    yield from _suites_together(doc, folder)
    yield from _milestones(doc)


def plan_problems(plan: Document[PlanFile], project: Doc) -> Iterator[Problem]:
    """Unique names, `after` that names tasks above (so no circle), cases of suites that exist."""
    seen: set[str] = set()
    for index, task in enumerate(plan.model.task):
        if task.name in seen:
            yield plan.problem(
                ("task", index, "name"), f"two tasks are named {task.name}; each needs a name of its own"
            )
        for other in {*task.after} - seen:
            yield plan.problem(("task", index, "after"), f"{other} is no task above{nearest(other, seen)}")
        yield from _unknown_suites(plan, ("task", index, "cases"), task.cases, project)
        seen.add(task.name)


def reference_problems(reference: Document[Expectation], project: Doc) -> Iterator[Problem]:
    yield from _unknown_suites(reference, ("suites",), reference.model.suites, project)


def _unknown_suites(
    doc: Document[PlanFile] | Document[Expectation] | Doc, at: KeyPath, patterns: Iterable[str], project: Doc
) -> Iterator[Problem]:
    suites = {suite.name for suite in project.model.suite}
    for pattern in patterns:
        if (name := pattern.split("/", 1)[0]) not in suites:
            yield doc.problem((*at, pattern), f"{pattern} is in no suite{nearest(name, suites)}")


def _not_yet(doc: Doc) -> Iterator[Problem]:
    file = doc.model
    later: list[tuple[KeyPath, object, str]] = [
        (("seed",), file.seed, f"a seed from another repository {LATER}; put its files into seed/"),
        (("network",), file.network != "none", f'network access {LATER}; write network = "none"'),
        (("image", "dockerfile"), file.image.dockerfile, f"image.dockerfile {LATER}; use image.packages"),
        (("build", "warm"), file.build.warm, f"build.warm {LATER}; leave it out, every build is cold"),
    ]
    for index, suite in enumerate(file.suite):
        at: KeyPath = ("suite", index)
        later += [
            ((*at, "generate"), suite.generate, f"suite.generate {LATER}; write cases"),
            ((*at, "verifier"), suite.verifier, f"suite.verifier {LATER}; write run or steps"),
            ((*at, "better"), suite.better, f"a measured suite (better) {LATER}"),
            ((*at, "when"), suite.when == "main", f'when = "main" {LATER}; write "fast" or "gate"'),
            ((*at, "results"), suite.results not in ("", "libtest"), f'{suite.results} {LATER}; write "libtest"'),
        ]
    yield from (doc.problem(path, words) for path, given, words in later if given)


def _folder(doc: Doc, folder: Path) -> Iterator[Problem]:
    goal, seed = folder / "goal.md", folder / "seed"
    if not goal.is_file() or not goal.stat().st_size:
        yield Problem(goal, 0, "is missing or empty; say there what is to be built, seats see it as /team/GOAL.md")
    if not doc.model.seed and (not seed.is_dir() or not any(seed.iterdir())):
        yield Problem(seed, 0, "is missing or empty; it holds the first commit of main, and must build")
    for index, followup in enumerate(doc.model.followup):
        yield from _unknown_suites(doc, ("followup", index, "suite"), [followup.suite], doc)
        if not (folder / "followups" / followup.name / "goal.md").is_file():
            yield doc.problem(("followup", index, "name"), f"followups/{followup.name}/goal.md is missing")


def _image_and_sources(doc: Doc) -> Iterator[Problem]:
    image = doc.model.image
    if not image.packages and not image.dockerfile:
        yield doc.problem(("image",), "image.packages is required: the Debian packages that seats and builds need")
    if not re.fullmatch(r"debian:[a-z]+", image.base):
        words = f'must be a Debian release like "debian:bookworm" (got {image.base!r})'
        yield doc.problem(("image", "base"), f"image.base {words}")
    for key, packages in (("packages", image.packages), ("judge", image.judge or ())):
        for index, package in enumerate(packages):
            if not _PACKAGE.fullmatch(package):
                yield doc.problem(("image", key, index), f"{package!r} is no Debian package's name; one name a string")
    for name, source in doc.model.sources.items():
        kinds = [kind for kind in ("deb", "src", "url", "git") if getattr(source, kind)]
        if len(kinds) != 1:
            words = f"needs exactly one of deb, src, url, git (got {', '.join(kinds) or 'none'})"
            yield doc.problem(("sources", name), f"sources.{name} {words}")
        elif (source.url and not source.sha256) or (source.git and not source.commit):
            words = "needs sha256" if source.url else "needs commit, all 40 digits of it"
            yield doc.problem(("sources", name), f"sources.{name} {words}: else nobody knows what was judged")


def _build(doc: Doc) -> Iterator[Problem]:
    for index, path in enumerate(doc.model.build.artifacts):
        if not _inside(path):
            yield doc.problem(("build", "artifacts", index), f"{path!r} must be a path inside the repository")
    for index, program in enumerate(doc.model.forbid):
        if "/" in program or " " in program:
            yield doc.problem(("forbid", index), f"{program!r} must be a program's name without path or arguments")


def _roles(doc: Doc, folder: Path) -> Iterator[Problem]:
    roles = doc.model.roles
    own = {prompt.stem for prompt in (folder / "prompts").glob("*.md")} - {"all"}
    known = {*SHIPPED_ROLES, *own} - {*LATER_ROLES}
    for role in roles:
        if role in LATER_ROLES:
            yield doc.problem(("roles", role), f"the role {role} {LATER}; leave it out")
        elif role not in known:
            remedy = f"{nearest(role, known, 'roles.')}; a role of your own needs prompts/{role}.md"
            yield doc.problem(("roles", role), f"roles.{role} is not a role{remedy}")
    if "builder" not in roles:
        yield doc.problem(("roles",), "roles has no builder; a team needs at least one, write builder = 1")
    for role in sorted(own - {*roles, *SHIPPED_ROLES, *LATER_ROLES}):
        words = f"is for no role of this project{nearest(role, {*SHIPPED_ROLES, *roles})}"
        yield Problem(folder / "prompts" / f"{role}.md", 0, words)


def _suite(doc: Doc, at: KeyPath, suite: Suite) -> Iterator[Problem]:
    ways = [key for key in ("run", "steps", "verifier") if getattr(suite, key)]
    if len(ways) != 1:
        words = f"needs exactly one of run, steps, verifier (got {', '.join(ways) or 'none'})"
        yield doc.problem(at, f"suite {suite.name} {words}")
    if suite.count and not suite.generate:
        yield doc.problem((*at, "count"), "count goes with generate; cases from files are counted by themselves")
    for number, program in enumerate(suite.allow):
        if program not in doc.model.forbid:
            yield doc.problem((*at, "allow", number), f"allow names {program}, which forbid does not forbid")
    if suite.cases or suite.generate:
        if suite.room == "build":
            yield doc.problem((*at, "room"), 'room = "build" is for a suite without cases; cases have their own rooms')
        if suite.results:
            yield doc.problem(
                (*at, "results"), "results is for a suite without cases; a case's exit code is its result"
            )
        return
    if not suite.results:
        yield doc.problem(at, f'suite {suite.name} needs cases, or results = "libtest" to say how its output is read')
    for key in ("steps", "heldout", "prepare", "variants"):
        if getattr(suite, key):
            yield doc.problem(
                (*at, key), f"{key} needs cases; a suite without them is one command whose tests it names"
            )


def _suite_files(doc: Doc, at: KeyPath, suite: Suite, folder: Path) -> Iterator[Problem]:
    """Everything a suite names in the folder must be there, and what is run must be executable."""
    for key, command in (("run", suite.run), *(("steps", step) for step in suite.steps)):
        if command and not command.startswith("$OUT/"):
            yield from _command(doc, (*at, key), command, folder)
    if suite.prepare and not (folder / suite.prepare).is_file():
        words = f"{suite.prepare} is not in the project's folder{_nearest_file(suite.prepare, folder)}"
        yield doc.problem((*at, "prepare"), words)
    at, pattern = (*at, "cases"), suite.cases
    if pattern.startswith("!"):
        yield from _command(doc, at, pattern[1:], folder)
        if suite.prepare:
            yield doc.problem(at, "prepare rewrites the file of a case, and cases that a command lists have none")
    elif pattern.startswith("sources/"):
        source = pattern.split("/")[1]
        if source not in doc.model.sources:
            yield doc.problem(at, f"sources.{source} is not declared{nearest(source, doc.model.sources)}")
    elif not _inside(pattern):
        yield doc.problem(at, f"{pattern!r} must be a path inside the project's folder")
    elif pattern and not any(folder.glob(pattern)):
        yield doc.problem(at, f"{pattern} matches no file in {folder}")


def _command(doc: Doc, at: KeyPath, command: str, folder: Path) -> Iterator[Problem]:
    """A command is an executable file of the project's folder, with arguments."""
    file = folder / next(iter(command.split()), "")
    if not file.is_file():
        words = f"{command!r} is no file in the project's folder{_nearest_file(command, folder)}"
        yield doc.problem(at, words)
    elif not os.access(file, os.X_OK):
        yield doc.problem(at, f"{file.relative_to(folder)} is not executable; run: chmod +x {file}")


def _nearest_file(name: str, folder: Path) -> str:
    return nearest(name, [str(path.relative_to(folder)) for path in (folder / "suites").glob("*") if path.is_file()])


def _inside(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


def _suites_together(doc: Doc, folder: Path) -> Iterator[Problem]:
    names: set[str] = set()
    shares: dict[str, tuple[float, str]] = {}
    for index, suite in enumerate(doc.model.suite):
        if suite.name in names:
            yield doc.problem(("suite", index, "name"), f"two suites are named {suite.name}; each needs its own name")
        names.add(suite.name)
        # What a source holds is known at `project lock`, which asks this again; here its pattern stands for the files.
        in_folder = suite.cases and _inside(suite.cases) and not suite.cases.startswith(("!", "sources/"))
        for case in folder.glob(suite.cases) if in_folder else [suite.cases] if suite.cases else []:
            share, other = shares.setdefault(str(case), (suite.heldout, suite.name))
            if share != suite.heldout:
                words = (
                    f"{Path(case).name} would be hidden here and shown there; {other} and {suite.name} need one heldout"
                )
                yield doc.problem(("suite", index, "heldout"), words)
                break


def _milestones(doc: Doc) -> Iterator[Problem]:
    for index, milestone in enumerate(doc.model.milestone):
        yield from _unknown_suites(doc, ("milestone", index, "needs"), milestone.needs, doc)
        for cases, (kind, _) in milestone.needs.items():
            if kind != "share":
                at: KeyPath = ("milestone", index, "needs", cases)
                yield doc.problem(at, f"a bound like {kind} is for a measured suite; write a share like 0.99")
    credit = sum(milestone.credit for milestone in doc.model.milestone)
    if credit > 100:
        yield doc.problem(("milestone",), f"the milestones' credits add up to {credit:g}; 100 is all there is")
