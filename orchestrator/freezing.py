"""Before a run's first process: everything is built and fetched, and the run gets its own copy of what decides what it
is, made once at `start` and used by every `resume`.

RUN/frozen/
  project/          the folder, with the private overlay ($ORCHESTRATOR_PRIVATE/NAME) laid over it
  prompts/ROLE.md   what each role is told, whole: an upgrade of ours does not change a run that goes on
  cases.json        every case that the run judges, shown and held out
RUN/frozen-models/  scripted teams, or the recording
RUN/lock.json       digests of all of it
RUN/team/           `/team` as seats see it
"""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
from pydantic import BaseModel, TypeAdapter

from agents import tools
from agents.models.choose import RECORDED
from orchestrator import VERSION
from orchestrator.project.folder import copy_project, load, overlaid, project_digests, text_digest
from orchestrator.project.furnishing import Furnished, Progress, furnish
from orchestrator.project.lock import LockDiffers, check_lock, locked_cases, read_lock
from orchestrator.project.schema import SHIPPED_ROLES, Project
from orchestrator.recording import FILE, Recording
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from sandbox.keep import file_digest
from sandbox.room import Engine
from verifiers.cases import locate
from verifiers.suites import LockedCase

PROMPTS: Final = Path(__file__).parent / "prompts"  # the shipped ones
SECRET: Final = "secret"
SCRIPTED: Final = "scripted:"
MODELS: Final = "frozen-models"
REPLAYED: Final = f"{MODELS}/recording.jsonl.xz"
_CASES = TypeAdapter(tuple[LockedCase, ...])


class RunLock(BaseModel, frozen=True):
    """`RUN/lock.json`, which never changes. `models` says which model each role was given, as it was asked for."""

    schema_: int = 1
    project: str
    digests: Mapping[str, str]
    orchestrator: str
    models: Mapping[str, str] = {}


@dataclass(frozen=True)
class Frozen:
    """A frozen run: nothing of it is read from the live project folder or from our own current texts."""

    project: Project
    prompts: Mapping[str, str]  # by role, whole
    cases: tuple[LockedCase, ...]
    lock: RunLock


async def prepare(folder: Path, settings: Settings, engine: Engine, home: Path, progress: Progress) -> Settings:
    """Makes everything in the run's folder that a process then serves; returns the settings with frozen models.

    Raises `ConfigError`, `LockDiffers` (the folder is not what was locked, unless `unlocked`), `RoomError`.
    """
    with overlaid(Path(settings.project)) as project:
        furnished = await furnish(project, engine, home, progress)
        lock = None if settings.unlocked else read_lock(Path(settings.project))
        for notice in check_lock(furnished, lock) if lock else ():
            progress(notice)
        cases = locked_cases(furnished, lock)
        settings = freeze_scripts(folder, settings)
        texts = {"tools": text_digest(repr([tools.specs(role) for role in project.roles]))}
        if plays := RECORDED in settings.models.values():
            (folder / MODELS).mkdir()
            shutil.copyfile(Path(settings.project) / FILE, folder / REPLAYED)
        frozen = freeze(project, folder, cases, furnished.digests() | texts, settings.models)
    own = secrets.token_bytes(32)
    if plays:
        recording = Recording.read(folder / REPLAYED)
        recording.check(frozen.lock.digests)
        own = bytes.fromhex(recording.head.secret) + own
    await anyio.to_thread.run_sync(lay_team_folder, folder, frozen, furnished)
    (folder / SECRET).touch(mode=0o600)
    (folder / SECRET).write_bytes(own)
    await Repository.create(folder, frozen.project.folder / "seed")
    return settings


def freeze(
    project: Project, run: Path, cases: Sequence[LockedCase], others: Mapping[str, str], models: Mapping[str, str]
) -> Frozen:
    """Copies the project, which is the overlaid one, into `run`, a folder of its own, and writes its lock.

    `others` are digests of what is kept elsewhere or shown elsewhere: image, judge image, sources, tool texts.
    """
    folder = run / "frozen"
    (folder / "prompts").mkdir(parents=True)
    copy_project(project.folder, folder / "project")
    for role in project.roles:
        (folder / "prompts" / f"{role}.md").write_text(compose(role, project), encoding="utf-8")
    (folder / "cases.json").write_bytes(_CASES.dump_json(tuple(cases), exclude_defaults=True))
    digests = _digests(run, proof=True) | dict(others)
    lock = RunLock(project=project.name, digests=digests, orchestrator=VERSION, models=models)
    (run / "lock.json").write_text(lock.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return load_frozen(run)


def load_frozen(run: Path) -> Frozen:
    """What `freeze` left in `run`, its digests by today's parts. Raises `LockDiffers` when the copy is no longer what
    the lock says."""
    lock = RunLock.model_validate_json((run / "lock.json").read_text(encoding="utf-8"))
    folder = run / "frozen"
    now = _digests(run, proof="proof" in lock.digests)
    if differing := sorted(name for name, digest in now.items() if lock.digests.get(name) != digest):
        raise LockDiffers(f"{run}: {', '.join(differing)} changed since the run was started; start a new run")
    prompts = {file.stem: file.read_text(encoding="utf-8") for file in sorted((folder / "prompts").glob("*.md"))}
    cases = _CASES.validate_json((folder / "cases.json").read_bytes())
    if "proof" not in lock.digests:
        lock = lock.model_copy(update={"digests": {**lock.digests, **project_digests(folder / "project")}})
    return Frozen(load(folder / "project", lock.project), prompts, cases, lock)


def _digests(run: Path, *, proof: bool) -> dict[str, str]:
    """What a frozen copy holds, by digest: its parts as people ask for them, and the prompts as seats read them."""
    frozen = run / "frozen"
    prompts = {f"prompts.{prompt.stem}": file_digest(prompt) for prompt in (frozen / "prompts").glob("*.md")}
    scripts = {f"models.{script.name}": file_digest(script) for script in (run / MODELS).glob("*")}
    cases = {"cases": file_digest(frozen / "cases.json")}
    return project_digests(frozen / "project", proof=proof) | prompts | scripts | cases


def compose(role: str, project: Project) -> str:
    """The role's whole prompt: our text for it, then the project's for every role, then the project's for this one; for
    a role of the project's own, its text and that for every role.

    The same project and version of ours give the same text, so that it stays cached. The run's own block (who you are,
    your task, main now) is not here: it changes with each session and comes last.
    """
    own = project.folder / "prompts"
    files = [own / f"{role}.md", own / "all.md"]
    if role in SHIPPED_ROLES:
        files = [PROMPTS / f"{role}.md", *reversed(files)]
    texts = [file.read_text(encoding="utf-8").strip() for file in files if file.exists()]
    return "\n\n".join(filter(None, texts)) + "\n"


def freeze_scripts(folder: Path, settings: Settings) -> Settings:
    """Copies scripted teams into the run, so that a resume plays what was started."""
    models, prices = dict(settings.models), dict(settings.prices)
    for role, model in settings.models.items():
        if not model.startswith(SCRIPTED):
            continue
        source = Path(model.removeprefix(SCRIPTED))
        target = folder / MODELS / f"{role or 'all'}-{source.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        models[role] = f"{SCRIPTED}{target.relative_to(folder)}"
        if model in prices:
            prices[models[role]] = prices[model]
    return settings.model_copy(update={"models": models, "prices": prices})


def lay_team_folder(folder: Path, frozen: Frozen, furnished: Furnished) -> None:
    """`/team` as seats see it, read-only: the goal, the shown cases, mount points for main and the lock files."""
    team = folder / "team"
    for name in ("main.git", "current_tasks", "cases"):
        (team / name).mkdir(parents=True, exist_ok=True)
    (folder / "current_tasks").mkdir(exist_ok=True)
    shutil.copyfile(frozen.project.folder / "goal.md", team / "GOAL.md")
    for case in frozen.cases:
        if not case.heldout:
            into = team / "cases" / case.suite
            into.mkdir(parents=True, exist_ok=True)
            for file in (case.file, *case.with_files):
                source = locate(frozen.project.folder, furnished.folders(), file)
                shutil.copyfile(source, into / source.name)


def replayed(run: Path) -> Recording | None:
    """The recording that a run replays."""
    file = run / REPLAYED
    return Recording.read(file) if file.exists() else None


def thawed(folder: Path, id: str) -> str:
    """A model id with the path of a frozen script made absolute, as `agents.models.choose.make` takes it."""
    return f"{SCRIPTED}{folder / id.removeprefix(SCRIPTED)}" if id.startswith(SCRIPTED) else id
