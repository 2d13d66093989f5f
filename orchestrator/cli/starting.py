"""`start`: what was asked is resolved and shown; then a process of its own works, and the terminal only looks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from agents.models.base import Model, Usage
from agents.models.choose import FORMS, KEYS, OPEN, ModelNotReady, ModelUnknown, make, parse
from orchestrator.cli.failures import Failure
from orchestrator.cli.launch import look, spawn, utc_now
from orchestrator.cli.manners import LOGS, Json, Logs, give, hint
from orchestrator.cli.places import STATE, fresh_name, live_pid
from orchestrator.preparing import prepare
from orchestrator.prices import Prices
from orchestrator.project import load
from orchestrator.project.freezing import load_frozen
from orchestrator.project.project import Project
from orchestrator.roles import share_out
from orchestrator.run import prices_of
from orchestrator.settings import Settings
from orchestrator.store import Store, reading
from orchestrator.watch import queries, render
from orchestrator.watch.encode import plain
from orchestrator.watch.journal import Entry, Line, spoken
from orchestrator.watch.text import money, span
from sandbox.engines import choose
from sandbox.home import state_home


@dataclass(frozen=True)
class ModelPlan:
    role: str
    id: str
    priced: bool | None  # None: unmetered


@dataclass(frozen=True)
class Limits:
    budget_usd: int | None
    session_usd: int | None
    hours: float | None
    idle_s: float | None


@dataclass(frozen=True)
class Plan:
    run: str
    as_of: datetime
    seats: dict[str, int]
    models: tuple[ModelPlan, ...]
    limits: Limits
    estimate_usd: int | None
    worst_case_usd: int | None


def start(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.", show_default=False)],
    agents: Annotated[int, typer.Option(min=1, help="Seats in the team.")],
    model: Annotated[list[str] | None, typer.Option(metavar="[ROLE=]ID", help=f"{FORMS}. May be repeated.")] = None,
    budget: Annotated[float | None, typer.Option(min=0.01, help="USD for the whole run.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.001, help="Drain after so many hours of work.")] = None,
    sandbox: Annotated[str | None, typer.Option(help="docker, bubblewrap or local (no isolation).")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name instead of the next number.")] = None,
    unlocked: Annotated[
        bool, typer.Option("--unlocked", help="Start though the folder differs from its lock.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its worst case; spend nothing.")
    ] = False,
    as_json: Json = False,
    logs: Logs = LOGS,
) -> None:
    """Start a run in a process of its own, then look at it. Ctrl-C ends the looking, never the run.

    Example: python -m orchestrator start projects/hello --agents 4 --model open
    """
    project = load(folder)
    settings = Settings(
        name=_name(name, logs) or fresh_name(logs, project.name),
        project=str(folder),
        agents=agents,
        models=_models(model or [], project),
        budget=round(budget * 1_000_000) if budget else project.budget.usd,
        session_budget=project.budget.session,
        hours=hours or (project.budget.run_s / 3600 if project.budget.run_s else None),
        idle_s=project.budget.idle_s,
        sandbox=sandbox,
        unlocked=unlocked,
    )
    prices = prices_of(_made(settings))
    if settings.budget is not None:
        prices.check(settings.models.values(), utc_now())
    plan = _plan(settings, project, prices)
    if plan.worst_case_usd is None:
        raise Failure(
            "config", f"{folder}/project.toml names no budget.usd, and these models cost money", "--budget USD"
        )
    if dry_run:
        give("start", plan, as_json, render_plan)
        return
    run = logs / settings.name
    create(run, settings, partial(hint, as_json=as_json))
    seats = ", ".join(f"{count} {role}" for role, count in plan.seats.items())
    hint(f"run       {settings.name}: {agents} seats ({seats})", as_json)
    pid = spawn(run)
    if as_json:
        lock = load_frozen(run).lock.digests["project"]
        launch = {"event": "launch", "pid": pid, "socket": str(run / "run.sock"), "dir": str(run), "lock": lock}
        typer.echo(json.dumps(launch))
    hint("watching  Ctrl-C stops watching, not the run · python -m orchestrator status · --help", as_json)
    raise typer.Exit(watch(run, 0, as_json))


def create(run: Path, settings: Settings, progress: Callable[[str], None]) -> None:
    """Makes a run's folder with everything that is frozen in it, and its state last: without it there is no run.

    Raises `Failure` when the name is taken, and what `prepare` raises; the folder is then gone again.
    """
    try:
        run.mkdir(parents=True)
    except FileExistsError as taken:
        raise Failure("usage", f"{run} is there already", "choose another name: --name NAME") from taken

    async def work() -> None:
        local = choose(settings.sandbox, state_home()).name == "local"
        if local:
            progress("WARNING   --sandbox local: nothing keeps what agents run apart from this machine")
        frozen = await prepare(run, settings, state_home(), local=local, progress=progress)
        store = Store(run / STATE, utc_now)
        await store.create(frozen.name, frozen.model_dump_json())
        await store.close()

    try:
        asked = {"command": sys.argv, **settings.model_dump(exclude_none=True)}
        lines = ["# What was asked, for people: the run reads its state."] + [
            f"{k} = {_toml(v)}" for k, v in asked.items()
        ]
        (run / "run.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        anyio.run(work)
    except BaseException:
        shutil.rmtree(run)
        raise


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def watch(run: Path, after: int, as_json: bool) -> int:
    """Shows what is news until the run ends; returns the exit code that its end deserves."""
    first: list[datetime] = []

    def show(entry: Entry, line: Line) -> None:
        first.append(entry.at)
        if as_json and entry.kind != "heldout-judged":
            typer.echo(
                json.dumps({"event": entry.kind, "at": plain(entry.at), "seat": entry.seat or None, **entry.data})
            )
        elif line.news and not as_json:
            minutes, seconds = divmod(int((entry.at - first[0]).total_seconds()), 60)
            typer.echo(spoken(line, f"+{minutes:02d}:{seconds:02d}"))

    state = look(run, after, show)
    with reading(run / STATE) as db:
        result = queries.status(db, live_pid(run) is not None, utc_now())
    if as_json:
        typer.echo(json.dumps({"event": "ended", "ended": result.reason or state, "credit": None}))
    else:
        typer.echo(render.status(result))
        for trace in sorted(run.glob("crash/*"))[-1:] if state == "dead" else ():
            hint(f"trace     {trace}", as_json)
        hint(f"report    python -m orchestrator report {run.name}    (reveals the held-out results)", as_json)
    return 0 if result.healthy else 1


def _name(name: str | None, logs: Path) -> str | None:
    if name is None:
        return None
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise Failure("usage", f"--name {name}: use letters, digits, - _ and .")
    if (logs / name).exists():
        raise Failure("usage", f"--name {name}: {logs / name} is there already")
    return name


def _models(asked: list[str], project: Project) -> dict[str, str]:
    """Model id for each role. Raises `Failure` for what names no model or no role."""
    if not asked:
        if not any(os.environ.get(key) for key in KEYS.values()):
            return {"": "anthropic/any"}  # whose missing key says what there is to do
        raise Failure("usage", "--model is missing", f"give {FORMS}")
    try:
        choices = [parse(one) for one in asked]
    except ModelUnknown as unknown:
        raise Failure("usage", str(unknown)) from unknown
    models = {choice.role: choice.id for choice in choices}
    if strange := [role for role in models if role and role not in project.roles]:
        raise Failure("usage", f"--model {strange[0]}=…: no such role", f"roles: {', '.join(project.roles)}")
    if without := [role for role in project.roles if role not in models and "" not in models]:
        raise Failure("usage", f"no --model for {', '.join(without)}", "one without a role is every other role's")
    return models


def _made(settings: Settings) -> dict[str, Model]:
    """The models of a team. Raises `Failure` when one cannot be reached."""
    try:
        return {id: make(id, os.environ) for id in settings.models.values() if id != OPEN}
    except ModelNotReady as missing:
        raise Failure("not_ready", str(missing), *missing.remedies) from missing


def _plan(settings: Settings, project: Project, prices: Prices) -> Plan:
    seats = share_out(project.roles, settings.agents)
    models = []
    for role in seats:
        id = settings.model_of(role)
        known = prices.cost(id, Usage(input=1), utc_now()) is not None
        models.append(ModelPlan(role, id, None if prices.unmetered(id) else known))
    limits = Limits(settings.budget, settings.session_budget, settings.hours, settings.idle_s)
    worst = settings.budget if any(one.priced is not None for one in models) else 0
    return Plan(settings.name, utc_now(), seats, tuple(models), limits, None, worst)


def render_plan(plan: Plan) -> str:
    words: Mapping[bool | None, str] = {True: "priced", False: "price unknown", None: "unmetered"}
    models = ", ".join(sorted({f"{one.id} ({words[one.priced]})" for one in plan.models}))
    limits = plan.limits
    money_words = (
        f"{money(limits.budget_usd)}, {money(limits.session_usd)} a session" if limits.budget_usd else "no money"
    )
    return "\n".join(
        [
            f"would start {plan.run}, spending nothing yet",
            "  seats     "
            + ", ".join(f"{count} {role}" for role, count in plan.seats.items())
            + "; one first, more as ready tasks appear",
            f"  model     {models}",
            f"  limits    {money_words}, {f'{limits.hours:g} h' if limits.hours else 'no end by the clock'}"
            + (f", drains after {span(limits.idle_s)} without a newly passing case" if limits.idle_s else ""),
            "  estimate  none; worst case " + money(plan.worst_case_usd),
        ]
    )
