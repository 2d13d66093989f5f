"""What one key alone cannot say: names that must exist, pairs that exclude each other, files that must be there.

No run starts on a folder that would judge something else than its author meant. So what the format has and this
version does not run is refused in words ("not run by this version yet") wherever it would change what is judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from orchestrator.project.lines import KeyPath
from orchestrator.project.problems import Problem, nearest
from orchestrator.project.project import SHIPPED_ROLES
from orchestrator.project.reading import Document
from orchestrator.project.schema import PlanFile, ProjectFile, Source, Suite

LATER_ROLES: Final = ("reviewer", "deduplicator", "documenter", "performance")
LATER: Final = "is not run by this version yet"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[^\s]+)?")
_PROGRAM = re.compile(r"[^/ ]+")
_INSIDE = re.compile(r"(?!/|(.*/)?\.\.(/|$)).*")

Doc = Document[ProjectFile]


def plan_problems(plan: Document[PlanFile], project: Doc) -> Iterator[Problem]:
    """Unique names, `after` that names tasks above (so no circle), cases of suites that exist."""
    seen: set[str] = set()
    for index, task in enumerate(plan.model.task):
        if task.name in seen:
            words = f"two tasks are named {task.name}; each needs a name of its own"
            yield plan.problem(("task", index, "name"), words)
        for other in {*task.after} - seen:
            yield plan.problem(("task", index, "after"), f"{other} is no task above{nearest(other, seen)}")
        yield from unknown_suites(plan, ("task", index, "cases"), task.cases, project)
        seen.add(task.name)


def unknown_suites(doc: Document[Any], at: KeyPath, patterns: Iterable[str], project: Doc) -> Iterator[Problem]:
    """Patterns at `at` in `doc` that begin with no suite of the project."""
    suites = {suite.name for suite in project.model.suite}
    for pattern in patterns:
        if (name := pattern.split("/", 1)[0]) not in suites:
            yield doc.problem((*at, pattern), f"{pattern} is in no suite{nearest(name, suites)}")


class Rules:
    """All rules of `project.toml` in its folder. Each says what it finds wrong."""

    def __init__(self, doc: Doc, folder: Path) -> None:
        self._doc, self._file, self._folder = doc, doc.model, folder
        self._found: list[Problem] = []

    def problems(self) -> list[Problem]:
        if (schema := self._file.schema_) != 1:
            return [
                self._doc.problem(("schema",), f"schema {schema} is not known to this version, which reads schema 1")
            ]
        self._later()
        self._needed_files()
        self._names()
        self._roles()
        for index, suite in enumerate(self._file.suite):
            self._suite(("suite", index), suite)
            self._suite_files(("suite", index), suite)
        self._suites_together()
        self._milestones()
        return self._found

    def _wrong(self, wrong: object, at: KeyPath, words: str) -> None:
        """Notes a problem at a key if something is wrong."""
        if wrong:
            self._found.append(self._doc.problem(at, words))

    def _later(self) -> None:
        file = self._file
        self._wrong(file.seed, ("seed",), f"a seed from another repository {LATER}; put its files into seed/")
        self._wrong(file.network != "none", ("network",), f'network access {LATER}; write network = "none"')
        self._wrong(file.image.dockerfile, ("image", "dockerfile"), f"image.dockerfile {LATER}; use image.packages")
        self._wrong(file.build.warm, ("build", "warm"), f"build.warm {LATER}; leave it out, every build is cold")
        for name, source in file.sources.items():
            self._one_of(("sources", name), f"sources.{name}", source, "deb", "src", "url", "git")
            words = "a source by url or git is not fetched by this version yet; name a Debian package: deb or src"
            self._wrong(source.url or source.git, ("sources", name), words)
        for index, suite in enumerate(file.suite):
            for key, given, words in (
                ("generate", suite.generate, f"suite.generate {LATER}; write cases"),
                ("verifier", suite.verifier, f"suite.verifier {LATER}; write run or steps"),
                ("better", suite.better, f"a measured suite (better) {LATER}"),
                ("when", suite.when == "main", f'when = "main" {LATER}; write "fast" or "gate"'),
                ("results", suite.results not in ("", "libtest"), f'{suite.results} {LATER}; write "libtest"'),
            ):
                self._wrong(given, ("suite", index, key), words)

    def _needed_files(self) -> None:
        goal, seed = self._folder / "goal.md", self._folder / "seed"
        if not goal.is_file() or not goal.stat().st_size:
            words = "is missing or empty; say there what is to be built, seats see it as /team/GOAL.md"
            self._found.append(Problem(goal, 0, words))
        if not self._file.seed and (not seed.is_dir() or not any(seed.iterdir())):
            words = "is missing or empty; it holds the first commit of main, and must build"
            self._found.append(Problem(seed, 0, words))
        for index, followup in enumerate(self._file.followup):
            self._found += unknown_suites(self._doc, ("followup", index, "suite"), [followup.suite], self._doc)
            goal = self._folder / "followups" / followup.name / "goal.md"
            words = f"followups/{followup.name}/goal.md is missing"
            self._wrong(not goal.is_file(), ("followup", index, "name"), words)

    def _names(self) -> None:
        image = self._file.image
        words = "image.packages is required: the Debian packages that seats and builds need"
        self._wrong(not image.packages and not image.dockerfile, ("image",), words)
        words = f'image.base must be a Debian release like "debian:bookworm" (got {image.base!r})'
        self._wrong(not re.fullmatch(r"debian:[a-z]+", image.base), ("image", "base"), words)
        package = "is no Debian package's name; one name a string"
        for at, values, form, words in (
            (("image", "packages"), image.packages, _PACKAGE, package),
            (("image", "judge"), image.judge or (), _PACKAGE, package),
            (("build", "artifacts"), self._file.build.artifacts, _INSIDE, "must be a path inside the repository"),
            (("forbid",), self._file.forbid, _PROGRAM, "must be a program's name without path or arguments"),
        ):
            for index, value in enumerate(values):
                self._wrong(not form.fullmatch(value), (*at, index), f"{value!r} {words}")

    def _one_of(self, at: KeyPath, what: str, section: Suite | Source, *keys: str) -> None:
        given = [key for key in keys if getattr(section, key)]
        words = f"{what} needs exactly one of {', '.join(keys)} (got {', '.join(given) or 'none'})"
        self._wrong(len(given) != 1, at, words)

    def _roles(self) -> None:
        roles = self._file.roles
        own = {prompt.stem for prompt in (self._folder / "prompts").glob("*.md")} - {"all"}
        known = {*SHIPPED_ROLES, *own} - {*LATER_ROLES}
        for role in roles:
            if role in LATER_ROLES:
                self._wrong(role, ("roles", role), f"the role {role} {LATER}; leave it out")
            elif role not in known:
                remedy = f"{nearest(role, known, 'roles.')}; a role of your own needs prompts/{role}.md"
                self._wrong(role, ("roles", role), f"roles.{role} is not a role{remedy}")
        words = "roles has no builder; a team needs at least one, write builder = 1"
        self._wrong("builder" not in roles, ("roles",), words)
        for role in sorted(own - {*roles, *SHIPPED_ROLES, *LATER_ROLES}):
            words = f"is for no role of this project{nearest(role, {*SHIPPED_ROLES, *roles})}"
            self._found.append(Problem(self._folder / "prompts" / f"{role}.md", 0, words))

    def _suite(self, at: KeyPath, suite: Suite) -> None:
        self._one_of(at, f"suite {suite.name}", suite, "run", "steps", "verifier")
        words = "count goes with generate; cases from files are counted by themselves"
        self._wrong(suite.count and not suite.generate, (*at, "count"), words)
        for number, program in enumerate(suite.allow):
            words = f"allow names {program}, which forbid does not forbid"
            self._wrong(program not in self._file.forbid, (*at, "allow", number), words)
        if suite.cases or suite.generate:
            words = 'room = "build" is for a suite without cases; cases have their own rooms'
            self._wrong(suite.room == "build", (*at, "room"), words)
            words = "results is for a suite without cases; a case's exit code is its result"
            self._wrong(suite.results, (*at, "results"), words)
            return
        words = f'suite {suite.name} needs cases, or results = "libtest" to say how its output is read'
        self._wrong(not suite.results, at, words)
        for key in ("steps", "heldout", "prepare", "variants"):
            words = f"{key} needs cases; a suite without them is one command whose tests it names"
            self._wrong(getattr(suite, key), (*at, key), words)

    def _suite_files(self, at: KeyPath, suite: Suite) -> None:
        """Everything a suite names in the folder must be there, and what is run must be executable."""
        for key, command in (("run", suite.run), *(("steps", step) for step in suite.steps)):
            if command and not command.startswith("$OUT/"):
                self._command((*at, key), command)
        prepare, sources, pattern = suite.prepare, self._file.sources, suite.cases
        words = f"{prepare} is not in the project's folder{self._nearest_file(prepare)}"
        self._wrong(prepare and not (self._folder / prepare).is_file(), (*at, "prepare"), words)
        at = (*at, "cases")
        if pattern.startswith("!"):
            self._command(at, pattern[1:])
            self._wrong(prepare, at, "prepare rewrites the file of a case, and cases that a command lists have none")
        elif pattern.startswith("sources/"):
            source = pattern.split("/")[1]
            self._wrong(source not in sources, at, f"sources.{source} is not declared{nearest(source, sources)}")
        elif not _INSIDE.fullmatch(pattern):
            self._wrong(pattern, at, f"{pattern!r} must be a path inside the project's folder")
        elif pattern and not any(self._folder.glob(pattern)):
            self._wrong(pattern, at, f"{pattern} matches no file in {self._folder}")

    def _command(self, at: KeyPath, command: str) -> None:
        """A command is an executable file of the project's folder, with arguments."""
        file = self._folder / next(iter(command.split()), "")
        if not file.is_file():
            words = f"{command!r} is no file in the project's folder{self._nearest_file(command)}"
            self._wrong(command, at, words)
        elif not os.access(file, os.X_OK):
            self._wrong(file, at, f"{file.relative_to(self._folder)} is not executable; run: chmod +x {file}")

    def _nearest_file(self, name: str) -> str:
        files = [path for path in (self._folder / "suites").glob("*") if path.is_file()]
        return nearest(name, [str(path.relative_to(self._folder)) for path in files])

    def _suites_together(self) -> None:
        names: set[str] = set()
        shares: dict[str, tuple[float, str]] = {}
        for index, suite in enumerate(self._file.suite):
            words = f"two suites are named {suite.name}; each needs its own name"
            self._wrong(suite.name in names, ("suite", index, "name"), words)
            names.add(suite.name)
            # What a source holds is known at `project lock`, which asks this again; here its pattern stands for it.
            in_folder = suite.cases and _INSIDE.fullmatch(suite.cases) and not suite.cases.startswith(("!", "sources/"))
            for case in self._folder.glob(suite.cases) if in_folder else filter(None, [suite.cases]):
                share, other = shares.setdefault(str(case), (suite.heldout, suite.name))
                if share != suite.heldout:
                    torn = f"{Path(case).name} would be hidden here and shown there"
                    words = f"{torn}; {other} and {suite.name} need one heldout"
                    self._wrong(torn, ("suite", index, "heldout"), words)
                    break

    def _milestones(self) -> None:
        for index, milestone in enumerate(self._file.milestone):
            self._found += unknown_suites(self._doc, ("milestone", index, "needs"), milestone.needs, self._doc)
        credit = sum(milestone.credit for milestone in self._file.milestone)
        words = f"the milestones' credits add up to {credit:g}; 100 is all there is"
        self._wrong(credit > 100, ("milestone",), words)
