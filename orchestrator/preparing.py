"""Before a run's first process: images, sources, the frozen project, repositories, and what seats see of it."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Final

import anyio.to_thread

from agents import tools
from orchestrator.project.freezing import Frozen, freeze, overlaid, text_digest
from orchestrator.project.furnishing import Furnished, Progress, furnish
from orchestrator.project.lock import check_lock, locked_cases, read_lock
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from verifiers.cases import locate

SECRET: Final = "secret"
SCRIPTED: Final = "scripted:"


async def prepare(folder: Path, settings: Settings, home: Path, *, local: bool, progress: Progress) -> Settings:
    """Makes everything in the run's folder that a process then serves; returns the settings with frozen models.

    Raises `ProjectError`, `LockDiffers` (the folder is not what was locked, unless `unlocked`), `RoomError`.
    """
    with overlaid(Path(settings.project)) as project:
        furnished = await furnish(project, home, local=local, progress=progress)
        lock = None if settings.unlocked else read_lock(project.folder)
        moved = check_lock(project, lock, furnished) if lock else ()
        for notice in moved:
            progress(notice)
        cases = await locked_cases(project, lock, furnished)
        settings, scripts = freeze_scripts(folder, settings)
        texts = {"tools": text_digest(repr([tools.specs(role) for role in project.roles]))}
        frozen = freeze(project, folder, cases, furnished.digests() | scripts | texts, settings.models)
    await anyio.to_thread.run_sync(lay_team_folder, folder, frozen, furnished)
    (folder / SECRET).touch(mode=0o600)
    (folder / SECRET).write_bytes(secrets.token_bytes(32))
    await Repository.create(folder, frozen.project.folder / "seed")
    return settings


def freeze_scripts(folder: Path, settings: Settings) -> tuple[Settings, dict[str, str]]:
    """Copies scripted teams into the run, so that a resume plays what was started; returns their digests."""
    models, prices, digests = dict(settings.models), dict(settings.prices), {}
    for role, model in settings.models.items():
        if not model.startswith(SCRIPTED):
            continue
        source = Path(model.removeprefix(SCRIPTED))
        target = folder / "frozen-models" / f"{role or 'all'}-{source.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        models[role] = f"{SCRIPTED}{target.relative_to(folder)}"
        digests[f"models.{target.name}"] = text_digest(target.read_text())
        if model in prices:
            prices[models[role]] = prices[model]
    return settings.model_copy(update={"models": models, "prices": prices}), digests


def lay_team_folder(folder: Path, frozen: Frozen, furnished: Furnished) -> None:
    """`/team` as seats see it, read-only: the goal, the shown cases, mount points for main and the lock files."""
    team = folder / "team"
    for name in ("main.git", "current_tasks", "cases"):
        (team / name).mkdir(parents=True, exist_ok=True)
    (folder / "current_tasks").mkdir(exist_ok=True)
    shutil.copyfile(frozen.project.folder / "goal.md", team / "GOAL.md")
    for case in frozen.cases:
        if case.file and not case.heldout:
            into = team / "cases" / case.suite
            into.mkdir(parents=True, exist_ok=True)
            for file in (case.file, *case.with_files):
                source = locate(frozen.project.folder, furnished.folders(), file)
                shutil.copyfile(source, into / source.name)


def thawed_models(folder: Path, settings: Settings) -> dict[str, str]:
    """Model ids with the paths of frozen scripts made absolute, as `agents.models.choose.make` takes them."""
    return {
        id: f"{SCRIPTED}{folder / id.removeprefix(SCRIPTED)}" if id.startswith(SCRIPTED) else id
        for id in settings.models.values()
    }
