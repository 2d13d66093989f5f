"""A project's folder → `Project`. Everything wrong with it comes out at once, as one `ProjectError`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from orchestrator.project.problems import Problem, ProjectError
from orchestrator.project.project import Project
from orchestrator.project.reading import Document, ModelT, read_toml
from orchestrator.project.rules import LATER, Rules, plan_problems, unknown_suites
from orchestrator.project.schema import Cheat, Expectation, Milestone, PlanFile, ProjectFile
from orchestrator.project.schema import Suite as SuiteSection
from sandbox.image import ImageSpec
from sandbox.room import Limits
from sandbox.sources import Source
from verifiers.suites import BuildPlan, Suite, When


def load(folder: Path, name: str = "") -> Project:
    """Reads and checks the project in `folder`. `name` is its name where the folder is a copy of it.

    Raises `ProjectError` with every mistake found; nothing outside the folder is read and nothing is run.
    """
    if not (folder / "project.toml").is_file():
        raise ProjectError(
            [Problem(folder / "project.toml", 0, "is missing; a project is a folder with a project.toml")]
        )
    doc = read_toml(folder / "project.toml", ProjectFile)
    problems = Rules(doc, folder).problems()

    def read(file: Path, model: type[ModelT], rules: Callable[[Document[ModelT]], Iterable[Problem]]) -> ModelT | None:
        """Another file of the folder, None where it is missing or wrong."""
        try:
            other = read_toml(file, model) if file.exists() else None
        except ProjectError as error:
            problems.extend(error.problems)
            return None
        problems.extend(rules(other) if other else ())
        return other.model if other else None

    plan = read(folder / "plan.toml", PlanFile, lambda plan: plan_problems(plan, doc))
    reference = read(
        folder / "reference/expect.toml",
        Expectation,
        lambda reference: unknown_suites(reference, ("suites",), reference.model.suites, doc),
    )
    if reference is None and (folder / "reference").is_dir():
        reference = Expectation()
    cheats = {}
    for cheat in sorted(path for path in (folder / "cheats").glob("*") if path.is_dir()):
        if not (cheat / "expect.toml").exists():
            remedy = 'is missing; say how the cheat must be caught: caught = "…"'
            problems.append(Problem(cheat / "expect.toml", 0, remedy))
        elif expected := read(cheat / "expect.toml", Cheat, lambda _: ()):
            cheats[cheat.name] = expected
    if problems:
        raise ProjectError(problems)

    file = doc.model
    image, build, limits = file.image, file.build, file.limits
    setup, files = folder / "image/setup.sh", folder / "image/files"
    all_suites = Milestone(name="all", credit=100.0, needs={suite.name: 1.0 for suite in file.suite})
    return Project(
        name=name or folder.resolve().name,
        folder=folder,
        goal=(folder / "goal.md").read_text(encoding="utf-8"),
        image=ImageSpec(
            image.packages, image.base, setup if setup.exists() else None, files if files.exists() else None
        ),
        judge_image=None if image.judge is None else ImageSpec(image.judge, image.base, judge=True),
        sources={
            key: Source("deb" if one.deb else "src", one.deb or one.src, one.path) for key, one in file.sources.items()
        },
        shown_sources=frozenset(key for key, source in file.sources.items() if source.show),
        build=BuildPlan(build.run, build.artifacts, build.time),
        limits=Limits(cpus=limits.cpus, memory=limits.memory, disk=limits.disk),
        command_s=limits.command,
        suites=tuple(map(_suite, file.suite)),
        roles=dict(file.roles),
        budget=file.budget,
        milestones=file.milestone or (all_suites,),
        plan=plan.task if plan else (),
        prompts={one.stem: one.read_text(encoding="utf-8") for one in (folder / "prompts").glob("*.md")},
        reference=reference,
        cheats=cheats,
        notices=tuple(f'follow-up "{followup.name}" {LATER}' for followup in file.followup),
    )


def _suite(section: SuiteSection) -> Suite:
    """As the judge takes it: without what this version refuses."""
    same = {field.name for field in fields(Suite)} - {"when", "results"}
    judged = section.model_dump(include=same)
    return Suite(**judged, when=When(section.when), time_s=section.time, results=section.results or "exit")
