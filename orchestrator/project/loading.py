"""A project's folder → `Project`. Everything wrong with it comes out at once, as one `ProjectError`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from orchestrator.project.problems import Problem, ProjectError
from orchestrator.project.project import Project
from orchestrator.project.reading import read_toml
from orchestrator.project.rules import plan_problems, project_problems, unknown_suites
from orchestrator.project.schema import Cheat, Expectation, Milestone, PlanFile, ProjectFile
from sandbox.debian import Source
from sandbox.image import ImageSpec
from sandbox.room import Limits
from verifiers.suites import BuildPlan, Suite, When


def load(folder: Path, name: str = "") -> Project:
    """Reads and checks the project in `folder`. `name` is its name where the folder is a copy of it.

    Raises `ProjectError` with every mistake found; nothing outside the folder is read and nothing is run.
    """
    found: list[Problem] = []
    doc = read_toml(folder / "project.toml", ProjectFile, found)
    plan_file, expect_file = folder / "plan.toml", folder / "reference/expect.toml"
    plan = read_toml(plan_file, PlanFile, found) if plan_file.exists() else None
    expected = read_toml(expect_file, Expectation, found) if expect_file.exists() else None
    cheats = {}
    for cheat in sorted(path for path in (folder / "cheats").glob("*") if path.is_dir()):
        if cheat_doc := read_toml(cheat / "expect.toml", Cheat, found):
            cheats[cheat.name] = cheat_doc.model
    if doc:
        found += project_problems(doc, folder)
        found += plan_problems(plan, doc.model) if plan else ()
        found += unknown_suites(expected, ("suites",), expected.model.suites, doc.model) if expected else ()
    if found or not doc:
        raise ProjectError(found)

    file = doc.model
    image, setup, files = file.image, folder / "image/setup.sh", folder / "image/files"
    all_suites = Milestone(name="all", credit=100.0, needs={suite.name: 1.0 for suite in file.suite})
    judged = {field.name for field in fields(Suite)} - {"when"}
    reference = expected.model if expected else Expectation()
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
        build=BuildPlan(**file.build.model_dump()),
        limits=Limits(**file.limits.model_dump(include={"cpus", "memory", "disk"})),
        command_s=file.limits.command,
        suites=tuple(Suite(**one.model_dump(include=judged), when=When(one.when)) for one in file.suite),
        roles=file.roles,
        budget=file.budget,
        milestones=file.milestone or (all_suites,),
        plan=plan.model.task if plan else (),
        prompts={one.stem: one.read_text(encoding="utf-8") for one in (folder / "prompts").glob("*.md")},
        reference=reference if (folder / "reference").is_dir() else None,
        cheats=cheats,
    )
