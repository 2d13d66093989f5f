"""A project's folder → `Project`. Everything wrong with it comes out at once, as one `ProjectError`."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from orchestrator.project.problems import Problem, ProjectError, nearest
from orchestrator.project.project import (
    Budget,
    Cheat,
    Expectation,
    Milestone,
    Need,
    PlannedTask,
    Project,
)
from orchestrator.project.reading import Document, read_toml
from orchestrator.project.rules import plan_problems, problems_of
from orchestrator.project.schema import CheatFile, PlanFile, ProjectFile, ReferenceFile
from orchestrator.project.schema import Source as SourceSection
from orchestrator.project.schema import Suite as SuiteSection
from sandbox.image import ImageSpec
from sandbox.room import Limits
from sandbox.sources import Deb, Git, Source, Src, Url
from verifiers.suites import BuildPlan, Suite, When


def load(folder: Path, name: str | None = None) -> Project:
    """Reads and checks the project in `folder`. `name` is its name where the folder is a copy of it.

    Raises `ProjectError` with every mistake found; nothing outside the folder is read and nothing is run.
    """
    file = folder / "project.toml"
    if not file.is_file():
        raise ProjectError([Problem(file, 0, "is missing; a project is a folder with a project.toml")])
    doc = read_toml(file, ProjectFile)
    problems = list(problems_of(doc, folder))
    suites = {suite.name for suite in doc.model.suite}
    try:
        plan = _plan(folder, suites)
        reference = _reference(folder, suites)
        cheats = _cheats(folder)
    except ProjectError as error:
        raise ProjectError([*problems, *error.problems]) from error
    if problems:
        raise ProjectError(problems)
    return _project(doc, folder, name or folder.resolve().name, plan, reference, cheats)


def _project(
    doc: Document[ProjectFile],
    folder: Path,
    name: str,
    plan: tuple[PlannedTask, ...],
    reference: Expectation | None,
    cheats: tuple[Cheat, ...],
) -> Project:
    model = doc.model
    return Project(
        name=name,
        folder=folder,
        goal=(folder / "goal.md").read_text(encoding="utf-8"),
        image=ImageSpec(
            packages=model.image.packages,
            base=model.image.base,
            setup=_if_there(folder / "image/setup.sh"),
            files=_if_there(folder / "image/files"),
        ),
        judge_image=None
        if model.image.judge is None
        else ImageSpec(packages=model.image.judge, base=model.image.base, judge=True),
        sources=MappingProxyType({key: _source(section) for key, section in model.sources.items()}),
        shown_sources=frozenset(key for key, section in model.sources.items() if section.show),
        build=BuildPlan(model.build.run, model.build.artifacts, model.build.time, model.build.warm),
        limits=Limits(cpus=model.limits.cpus, memory=model.limits.memory, disk=model.limits.disk),
        command_s=model.limits.command,
        fast_s=model.limits.fast,
        suites=tuple(map(_suite, model.suite)),
        forbid=model.forbid,
        network=model.network,
        roles=MappingProxyType(dict(model.roles)),
        budget=Budget(
            usd=model.budget.usd,
            session=model.budget.session,
            run_s=None if model.budget.hours is None else model.budget.hours * 3600,
            idle_s=model.budget.idle,
        ),
        milestones=_milestones(model),
        plan=plan,
        prompts=MappingProxyType(
            {file.stem: file.read_text(encoding="utf-8") for file in (folder / "prompts").glob("*.md")}
        ),
        reference=reference,
        cheats=cheats,
        notices=tuple(f'follow-up "{followup.name}" is not run by this version yet' for followup in model.followup),
    )


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _source(section: SourceSection) -> Source:
    path = section.path or ""
    if section.deb:
        return Deb(section.deb, path)
    if section.src:
        return Src(section.src, path)
    if section.url:
        return Url(section.url, section.sha256 or "", path)
    return Git(section.git or "", section.commit or "", path)


def _suite(section: SuiteSection) -> Suite:
    return Suite(
        name=section.name,
        cases=section.cases or "",
        generate=section.generate or "",
        count=section.count or 0,
        prepare=section.prepare or "",
        run=section.run or "",
        steps=section.steps,
        verifier=section.verifier or "",
        room=section.room,
        results=section.results or "exit",
        variants=section.variants,
        heldout=section.heldout,
        when=When(section.when),
        time_s=section.time,
        better=section.better or "",
        allow=section.allow,
    )


def _milestones(model: ProjectFile) -> tuple[Milestone, ...]:
    """Without any: all suites, credit 100."""
    if not model.milestone:
        return (Milestone("all", 100.0, tuple(Need(suite.name, "share", 1.0) for suite in model.suite)),)
    return tuple(
        Milestone(one.name, one.credit, tuple(Need(cases, *need) for cases, need in one.needs.items()))
        for one in model.milestone
    )


def _plan(folder: Path, suites: set[str]) -> tuple[PlannedTask, ...]:
    file = folder / "plan.toml"
    if not file.exists():
        return ()
    doc = read_toml(file, PlanFile)
    if problems := list(plan_problems(doc, suites)):
        raise ProjectError(problems)
    return tuple(PlannedTask(**task.model_dump()) for task in doc.model.task)


def _reference(folder: Path, suites: set[str]) -> Expectation | None:
    if not (folder / "reference").is_dir():
        return None
    file = folder / "reference" / "expect.toml"
    if not file.exists():
        return Expectation(MappingProxyType({}), (), ())
    doc = read_toml(file, ReferenceFile)
    unknown = [name for name in doc.model.suites if name not in suites]
    if unknown:
        raise ProjectError(
            [doc.problem(("suites", name), f"{name} is no suite{nearest(name, suites)}") for name in unknown]
        )
    return Expectation(MappingProxyType(dict(doc.model.suites)), doc.model.allow, doc.model.packages)


def _cheats(folder: Path) -> tuple[Cheat, ...]:
    files = sorted(path / "expect.toml" for path in (folder / "cheats").glob("*") if path.is_dir())
    missing = [
        Problem(file, 0, 'is missing; say how the cheat must be caught: caught = "…"')
        for file in files
        if not file.exists()
    ]
    if missing:
        raise ProjectError(missing)
    return tuple(Cheat(file.parent.name, **read_toml(file, CheatFile).model.model_dump()) for file in files)
