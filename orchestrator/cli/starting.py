"""`start`: what was asked is resolved and shown; then a process of its own works, and the terminal only looks."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from agents.models.base import Usage
from agents.models.choose import FORMS, KEYS, OPEN, make, parse
from orchestrator.cli.launch import follow, spawn
from orchestrator.cli.screen import STATE, Dir, Sandbox, Screen, asked, utc_now
from orchestrator.control import Refusal
from orchestrator.preparing import prepare
from orchestrator.prices import Prices
from orchestrator.prices import load as declared_prices
from orchestrator.project import load
from orchestrator.project.freezing import load_frozen
from orchestrator.project.project import Project
from orchestrator.roles import share_out
from orchestrator.run import prices_of
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.store import iso
from orchestrator.watch import queries, render
from orchestrator.watch.journal import PARTS, spoken
from orchestrator.watch.queries import Answer
from orchestrator.watch.text import money, span
from sandbox.engines import choose
from sandbox.keep import state_home

Agents = Annotated[int, typer.Option(min=1, help="Seats in the team.")]
Models = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]ID", help=f"{FORMS}. May be repeated.")]
Budget = Annotated[float | None, typer.Option(min=0.01, help="USD for the whole run.")]
Declared = Annotated[Path | None, typer.Option("--prices", help="TOML: USD per million tokens by model id.")]
Hours = Annotated[float | None, typer.Option(min=0.001, help="Drain after so many hours of work.")]
Name = Annotated[str | None, typer.Option(help="The run's name instead of the next number.")]
Unlocked = Annotated[bool, typer.Option("--unlocked", help="Start though the folder differs from its lock.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its worst case; spend nothing.")]
PRICED = {True: "priced", False: "price unknown", None: "unmetered"}


def start(
    screen: Screen,
    folder: Dir,
    agents: Agents,
    model: Models = None,
    budget: Budget = None,
    declared: Declared = None,
    hours: Hours = None,
    sandbox: Sandbox = None,
    unlocked: Unlocked = False,
    name: Name = None,
    dry_run: Dry = False,
) -> int:
    """Start a run in a process of its own, then look at it. Ctrl-C ends the looking, never the run.

    Example: python -m orchestrator start projects/hello --agents 4 --model open
    """
    project = load(folder)
    settings = Settings(
        name=_name(screen.logs, project.name, name),
        project=str(folder),
        agents=agents,
        models=_models(model or [], project),
        budget=round(budget * 1_000_000) if budget else project.budget.usd,
        session_budget=project.budget.session,
        prices=declared_prices(declared) if declared else {},
        hours=hours or project.budget.hours,
        idle_s=project.budget.idle,
        sandbox=sandbox,
        unlocked=unlocked,
    )
    prices = prices_of({id: make(id, os.environ) for id in settings.models.values() if id != OPEN}, settings)
    if settings.budget is not None:
        prices.check(settings.models.values(), utc_now())
    plan = _plan(settings, project, prices)
    if plan["worst_case_usd"] is None:
        raise Refusal(f"{folder}/project.toml: no budget.usd, and these models cost money", "config", "--budget USD")
    seats = ", ".join(f"{count} {role}" for role, count in plan["seats"].items())
    if dry_run:
        screen.give("start", plan, _words(plan, seats))
        return 0
    run = screen.logs / settings.name
    create(run, settings, screen.hint)
    screen.hint("run", f"{settings.name}: {agents} seats ({seats})")
    pid = spawn(run)
    if screen.as_json:
        lock = load_frozen(run).lock.digests["project"]
        launch = {"event": "launch", "pid": pid, "socket": str(run / "run.sock"), "dir": str(run), "lock": lock}
        screen.give("start", launch, "")
    screen.hint("watching", "Ctrl-C stops watching, not the run · python -m orchestrator status · --help")
    return watch(run, screen)


def create(run: Path, settings: Settings, progress: Callable[[str, str], None]) -> None:
    """Makes a run's folder with everything that is frozen in it, and its state last: without it there is no run.

    Raises what `prepare` raises; the folder is then gone again.
    """
    home = state_home()
    engine = choose(settings.sandbox, home)
    progress("ready", f"{engine.name}, {len(os.sched_getaffinity(0))} cores")
    if engine.name == "local":
        progress("WARNING", "--sandbox local: nothing keeps what agents run apart from this machine")

    async def work() -> None:
        local, told = engine.name == "local", partial(progress, "prepare")
        frozen = await prepare(run, settings, home, local=local, progress=told)
        store = Store(run / STATE, utc_now)
        await store.create(frozen.name, frozen.model_dump_json())
        await store.close()

    run.mkdir(parents=True)
    try:
        models = [f"{role}={id}".lstrip("=") for role, id in settings.models.items()]
        said = {"command": sys.argv, **settings.model_dump(exclude_none=True, exclude={"prices"}), "models": models}
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in said.items()]
        (run / "run.toml").write_text("# What was asked, for people.\n" + "".join(lines), encoding="utf-8")
        anyio.run(work)
    except BaseException:
        shutil.rmtree(run)
        raise


def watch(run: Path, screen: Screen) -> int:
    """Shows what is news until the run's process has ended; returns the exit code that its end deserves."""
    began = None
    for entry in follow(run, "1" if screen.as_json else PARTS["run"]):
        at = datetime.fromisoformat(entry.at)
        began = began or at
        event = {"event": entry.kind, "at": entry.at, "seat": entry.seat or None, **entry.data}
        minutes, seconds = divmod(int((at - began).total_seconds()), 60)
        screen.give("start", event, spoken(entry, f"+{minutes:02d}:{seconds:02d}"))
    result = asked(run, queries.status)
    end = {"event": "ended", "ended": result["reason"] or result["state"], "credit": None}
    screen.give("start", end, render.status(result))
    for trace in sorted(run.glob("crash/*"))[-1:] if result["state"] == "dead" else ():
        screen.hint("trace", f"{trace}")
    screen.hint("report", f"python -m orchestrator report {run.name}    (reveals the held-out results)")
    return 0 if result["healthy"] else 1


def _name(logs: Path, project: str, asked_for: str | None) -> str:
    """The name that was asked for, else `c-compiler-3` after c-compiler-2."""
    if asked_for is None:
        matches = (re.fullmatch(re.escape(project) + r"-(\d+)", folder.name) for folder in logs.glob("*"))
        return f"{project}-{max([int(match[1]) for match in matches if match], default=0) + 1}"
    if not re.fullmatch(r"\w[\w.-]*", asked_for) or (logs / asked_for).exists():
        raise Refusal(f"--name {asked_for}: taken, or not only letters, digits, - _ and .", "usage")
    return asked_for


def _models(given: list[str], project: Project) -> dict[str, str]:
    """Model id for each role. Raises `Refusal` for what names no role, `ModelUnknown` for what names no model."""
    if not given and not any(os.environ.get(key) for key in KEYS.values()):
        return {"": "anthropic/any"}  # whose missing key says what there is to do
    models = {choice.role: choice.id for choice in map(parse, given)}
    roles = f"roles: {', '.join(project.roles)}; without one it is every other role's; {FORMS}"
    if strange := [role for role in models if role and role not in project.roles]:
        raise Refusal(f"--model {strange[0]}=…: no such role", "usage", roles)
    if without := [role for role in project.roles if role not in models and "" not in models]:
        raise Refusal(f"no --model for {', '.join(without)}", "usage", roles)
    return models


def _plan(settings: Settings, project: Project, prices: Prices) -> Answer:
    seats, now = share_out(project.roles, settings.agents), utc_now()
    ids = {role: settings.model_of(role) for role in seats}
    free = {id for id in ids.values() if prices.unmetered(id)}
    priced = {id: None if id in free else prices.cost(id, Usage(), now) is not None for id in ids.values()}
    limits = {"budget_usd": settings.budget, "session_usd": settings.session_budget, "hours": settings.hours}
    return {
        "run": settings.name,
        "as_of": iso(now),
        "seats": seats,
        "models": [{"role": role, "id": id, "priced": priced[id]} for role, id in ids.items()],
        "limits": limits | {"idle_s": settings.idle_s},
        "estimate_usd": None,
        "worst_case_usd": 0 if free == priced.keys() else settings.budget,
    }


def _words(plan: Answer, seats: str) -> str:
    run, session, hours, idle = plan["limits"].values()
    limits = [f"{money(run)} for the run"] if run else []
    limits += [f"{money(session)} a session"] if session else []
    limits += [span(hours * 3600)] if hours else []
    limits += [f"drains after {span(idle)} without a newly passing case"] if idle else []
    facts = {
        "seats": f"{seats}; one first, more as ready tasks appear",
        "model": ", ".join(sorted({f"{one['id']} ({PRICED[one['priced']]})" for one in plan["models"]})),
        "limits": ", ".join(limits) or "none",
        "estimate": f"none; worst case {money(plan['worst_case_usd'])}",
    }
    return render.lines(f"would start {plan['run']}, spending nothing yet", facts)
