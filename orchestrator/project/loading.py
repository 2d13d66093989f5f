"""A project's folder → `Project`. Everything wrong with it comes out at once, as one `ProjectError`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.project.problems import Problem, ProjectError
from orchestrator.project.project import Budget, Milestone, Need, Project
from orchestrator.project.reading import Document, read_toml
from orchestrator.project.rules import plan_problems, problems_of, reference_problems
from orchestrator.project.schema import Cheat, Expectation, PlanFile, PlannedTask, ProjectFile
from orchestrator.project.schema import Source as SourceSection
from orchestrator.project.schema import Suite as SuiteSection
from sandbox.image import ImageSpec
from sandbox.room import Limits
from sandbox.sources import Deb, Git, Source, Src, Url
from verifiers.suites import BuildPlan, Suite, When


def load(folder: Path, name: str = "") -> Project:
    """Reads and checks the project in `folder`. `name` is its name where the folder is a copy of it.

    Raises `ProjectError` with every mistake found; nothing outside the folder is read and nothing is run.
    """
    file = folder / "project.toml"
    if not file.is_file():
        raise ProjectError([Problem(file, 0, "is missing; a project is a folder with a project.toml")])
    doc = read_toml(file, ProjectFile)
    problems = list(problems_of(doc, folder))
    try:
        others = _plan(folder, doc), _reference(folder, doc), _cheats(folder)
    except ProjectError as error:
        raise ProjectError([*problems, *error.problems]) from error
    if problems:
        raise ProjectError(problems)
    return _project(doc.model, folder, name or folder.resolve().name, *others)


def _project(
    file: ProjectFile,
    folder: Path,
    name: str,
    plan: tuple[PlannedTask, ...],
    reference: Expectation | None,
    cheats: dict[str, Cheat],
) -> Project:
    image, budget, limits = file.image, file.budget, file.limits
    judge = None if image.judge is None else ImageSpec(image.judge, image.base, judge=True)
    return Project(
        name=name,
        folder=folder,
        goal=(folder / "goal.md").read_text(encoding="utf-8"),
        image=ImageSpec(image.packages, image.base, _there(folder / "image/setup.sh"), _there(folder / "image/files")),
        judge_image=judge,
        sources={key: _source(source) for key, source in file.sources.items()},
        shown_sources=frozenset(key for key, source in file.sources.items() if source.show),
        build=BuildPlan(file.build.run, file.build.artifacts, file.build.time, file.build.warm),
        limits=Limits(cpus=limits.cpus, memory=limits.memory, disk=limits.disk),
        command_s=limits.command,
        fast_s=limits.fast,
        suites=tuple(map(_suite, file.suite)),
        forbid=file.forbid,
        network=file.network,
        roles=dict(file.roles),
        budget=Budget(budget.usd, budget.session, budget.hours and budget.hours * 3600, budget.idle),
        milestones=_milestones(file),
        plan=plan,
        prompts={one.stem: one.read_text(encoding="utf-8") for one in (folder / "prompts").glob("*.md")},
        reference=reference,
        cheats=cheats,
        notices=tuple(f'follow-up "{followup.name}" is not run by this version yet' for followup in file.followup),
    )


def _there(path: Path) -> Path | None:
    return path if path.exists() else None


def _source(section: SourceSection) -> Source:
    if section.deb or section.src:
        return (Deb if section.deb else Src)(section.deb or section.src, section.path)
    if section.url:
        return Url(section.url, section.sha256, section.path)
    return Git(section.git, section.commit, section.path)


def _suite(section: SuiteSection) -> Suite:
    same = section.model_dump(exclude={"time", "when", "results"})
    return Suite(**same, time_s=section.time, when=When(section.when), results=section.results or "exit")


def _milestones(file: ProjectFile) -> tuple[Milestone, ...]:
    """Without any: all suites, credit 100."""
    if not file.milestone:
        return (Milestone("all", 100.0, tuple(Need(suite.name, "share", 1.0) for suite in file.suite)),)
    needs = ((one, tuple(Need(cases, *need) for cases, need in one.needs.items())) for one in file.milestone)
    return tuple(Milestone(one.name, one.credit, its) for one, its in needs)


def _plan(folder: Path, project: Document[ProjectFile]) -> tuple[PlannedTask, ...]:
    if not (folder / "plan.toml").exists():
        return ()
    doc = read_toml(folder / "plan.toml", PlanFile)
    if problems := list(plan_problems(doc, project)):
        raise ProjectError(problems)
    return doc.model.task


def _reference(folder: Path, project: Document[ProjectFile]) -> Expectation | None:
    file = folder / "reference/expect.toml"
    if not file.exists():
        return Expectation() if file.parent.is_dir() else None
    doc = read_toml(file, Expectation)
    if problems := list(reference_problems(doc, project)):
        raise ProjectError(problems)
    return doc.model


def _cheats(folder: Path) -> dict[str, Cheat]:
    files = sorted(path / "expect.toml" for path in (folder / "cheats").glob("*") if path.is_dir())
    remedy = 'is missing; say how the cheat must be caught: caught = "…"'
    if missing := [Problem(file, 0, remedy) for file in files if not file.exists()]:
        raise ProjectError(missing)
    return {file.parent.name: read_toml(file, Cheat).model for file in files}
