"""Commands that come before there is a run: is this machine ready (`doctor`), does a project's judge judge (`project
lock`, `project check`); `start`; and `record`, by which a run becomes what another one starts from.

What `start` was asked is resolved and shown; then a process of its own works, and the terminal only looks.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import typer

from agents.models.choose import FORMS, KEYS, MINDLESS, RECORDED, make, parse
from orchestrator import doctor as machine
from orchestrator.cli.app import Screen
from orchestrator.cli.process import STATE, asked, find, follow, live_pid, spawn, state
from orchestrator.control import Refusal
from orchestrator.freezing import SECRET, load_frozen, prepare, replayed
from orchestrator.prices import load, prices_of, unmetered
from orchestrator.project import check, lock
from orchestrator.project.folder import overlaid
from orchestrator.project.furnishing import Furnished
from orchestrator.project.schema import Project
from orchestrator.recording import FILE as RECORDING
from orchestrator.recording import Recording
from orchestrator.recording import record as write_down
from orchestrator.replay import summary
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.store import iso, utc_now
from orchestrator.watch import queries, render
from orchestrator.watch.journal import PARTS, spoken
from orchestrator.watch.render import Answer, lines, money, span, table
from sandbox.engines import choose
from sandbox.keep import state_home

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.")]
Sandbox = Annotated[Literal["docker", "bubblewrap", "local"] | None, typer.Option(help="local does not isolate.")]
Quick = Annotated[bool, typer.Option("--quick", help="A sample of the cases.")]
Unlocked = Annotated[bool, typer.Option("--unlocked", help="Start though the folder differs from its lock.")]
Replay = Annotated[Literal["short", "full"], typer.Option(envvar="REPLAY", help="full leaves no recorded call out.")]
Pace = Annotated[Literal["own", "real"], typer.Option(help="real keeps the times of what is recorded.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its worst case; spend nothing.")]
MARKS = {machine.Level.OK: "ok", machine.Level.WARN: "less", machine.Level.MISSING: "MISSING"}


def doctor(screen: Screen) -> int:
    """Is this machine ready: engine, git, cores, memory, disk, keys, prices? Exit 3 if a run could not start.

    Example: python -m orchestrator doctor
    """
    found = machine.examine(state_home())
    rows = [{"what": one.name, "is": MARKS[one.level], "": one.text, "to do": one.remedy} for one in found]
    ready = all(one.level is not machine.Level.MISSING for one in found)
    end = "ready" if ready else "NOT READY: see what is MISSING"
    screen.give("doctor", {"lines": found}, f"{table(rows)}\n{end}")
    return 0 if ready else 3


def project_lock(screen: Screen, folder: Dir, sandbox: Sandbox = None) -> None:
    """Build the image, fetch the sources, let the reference settle the cases, and write project.lock.

    Example: python -m orchestrator project lock projects/hello
    """
    made = _judged(screen, lock.lock, folder, sandbox)
    rows = [
        {"suite": name, "shown": str(one.shown), "held_out": str(one.heldout), "dropped": len(one.dropped)}
        for name, one in made.suites.items()
    ]
    screen.give("project-lock", made, f"{folder}/project.lock\n{table(rows)}")


def project_check(screen: Screen, folder: Dir, quick: Quick = False, sandbox: Sandbox = None) -> int:
    """Prove the judge: the reference passes, the seed fails, cheats are caught, honest oddities are not, three runs
    agree. Exit 1 if not.

    Example: python -m orchestrator project check projects/hello --quick
    """
    report: check.Report = _judged(screen, partial(check.check, quick=quick), folder, sandbox)
    facts = {
        "reference": ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in report.reference.items()),
        "empty": ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in report.empty.items()),
        "cheats": f"{report.cheats.caught} of {report.cheats.total} caught",
        "honest": f"{len(report.honest.flagged)} of {report.honest.total} flagged",
        "agree": f"{report.cases - len(report.wrong['unsteady'])} of {report.cases} cases",
        "moved": report.drift,
        **{label.upper(): found for label, found in report.wrong.items()},
    }
    screen.give("project-check", report, lines("proved" if report.ok else "NOT PROVED", facts))
    return 0 if report.ok else 1


def _judged(screen: Screen, work: Callable[..., Any], folder: Path, sandbox: str | None) -> Any:
    """What a piece of work with the project's judge comes to, on all cores of this machine."""
    home, cores, told = state_home(), len(os.sched_getaffinity(0)), partial(screen.hint, "project")
    engine = choose(sandbox, home, judging=True)
    return anyio.run(partial(work, folder, engine, home, cores=cores, progress=told))


def start(
    screen: Screen,
    folder: Dir,
    agents: Annotated[int, typer.Option(min=1, help="Seats in the team.")],
    model: Annotated[list[str] | None, typer.Option(metavar="[ROLE=]ID", help=f"{FORMS}. May be repeated.")] = None,
    budget: Annotated[float | None, typer.Option(min=0.01, max=999_999_999, help="USD for the whole run.")] = None,
    declared: Annotated[Path | None, typer.Option("--prices", help="TOML: USD per million tokens by model id.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.001, max=1e6, help="Drain after so many hours of work.")] = None,
    sandbox: Sandbox = None,
    unlocked: Unlocked = False,
    name: Annotated[str | None, typer.Option(help="The run's name instead of the next number.")] = None,
    replay: Replay = "short",
    pace: Pace = "own",
    dry_run: Dry = False,
) -> int:
    """Start a run in a process of its own, then look at it. Ctrl-C ends the looking, never the run.

    Example: python -m orchestrator start projects/hello --agents 4 --model open
    """
    with overlaid(folder) as project:
        name = _name(screen.logs, project.name, name)
        if not unlocked:  # what is fetched and built is compared when it is there
            locked, here = lock.read_lock(folder), Furnished(project, {}, {})
            lock.check_lock(here, replace(locked, sources={}))
            if not project.sources:
                lock.locked_cases(here, locked)
    settings = Settings(
        name=name,
        project=str(folder),
        agents=agents,
        models=_models(model or [], project),
        budget=round(budget * 1_000_000) if budget else project.budget.usd,
        session_budget=project.budget.session,
        prices=load(declared) if declared else {},
        hours=hours or project.budget.hours,
        idle_s=project.budget.idle,
        sandbox=sandbox,
        unlocked=unlocked,
        replay=replay,
        pace=pace,
    )
    if RECORDED in settings.models.values():
        if set(settings.models.values()) != {RECORDED}:
            raise Refusal("--model recorded plays the whole team, not a role of it", "usage")
        Recording.read(folder / RECORDING)
    made = {id: make(id, os.environ) for id in settings.models.values() if id not in MINDLESS}
    if settings.budget is not None:
        prices_of(made, settings.prices).check(settings.models.values(), utc_now())
    plan = _plan(settings, project)
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
        digest = load_frozen(run).lock.digests["project"]
        launch = {"event": "launch", "pid": pid, "socket": str(run / "run.sock"), "dir": str(run), "lock": digest}
        screen.give("start", launch, "")
    screen.hint("watching", "Ctrl-C stops watching, not the run · python -m orchestrator status · --help")
    code = watch(run, screen)
    if RECORDED in settings.models.values() and not screen.as_json:
        typer.echo("\n".join(demo(run)))
    return code


def record(
    screen: Screen,
    run: Annotated[str, typer.Argument(help="A run that no process works on.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the recording goes: PROJECT/recording.")],
    landings: Annotated[int, typer.Option(min=0, help="Only up to this landing; 0: to the end.")] = 0,
) -> None:
    """A finished run as a recording, which `start --model recorded` plays again to the same commits.

    Example: python -m orchestrator record c-compiler-2 projects/c-compiler/recording
    """
    source = find(screen.logs, run)
    if live_pid(source):
        raise Refusal(f"{run} still works", "busy", f"python -m orchestrator stop {run}")
    lock, secret = load_frozen(source).lock, (source / SECRET).read_bytes()
    made = anyio.run(write_down, source, lock.project, lock.digests, secret, replayed(source), landings)
    file, packed = folder / Path(RECORDING).name, made.packed()
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed)
    lost = sum(step.kind == "interrupted" and step.moved and not step.left for step in made.steps)
    facts = {"file": str(file), "bytes": len(packed), "steps": len(made.steps), "lost": lost}
    words = f"{file}: {len(made.steps)} steps, {len(packed) / 1e6:.2f} MB"
    screen.give(
        "record", facts, f"{words}; {lost} calls were cut short, and nobody knows what they did" if lost else words
    )


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
        frozen = await prepare(run, settings, engine, home, partial(progress, "prepare"))
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


def watch(run: Path, screen: Screen, schema: str = "start") -> int:
    """Shows what is news until the run's process has ended; returns the exit code that its end deserves."""
    began = None
    for entry in follow(run, "1" if screen.as_json else PARTS["run"]):
        at = datetime.fromisoformat(entry.at)
        began = began or at
        event = {"event": entry.kind, "at": entry.at, "seat": entry.seat or None, **entry.data}
        minutes, seconds = divmod(int((at - began).total_seconds()), 60)
        screen.give(schema, event, spoken(entry, f"+{minutes:02d}:{seconds:02d}"))
    result = asked(run, queries.status)
    end = {"event": "ended", "ended": result["reason"] or result["state"], "credit": None}
    screen.give(schema, end, render.status(result))
    for trace in sorted(run.glob("crash/*"))[-1:] if result["state"] == "dead" else ():
        screen.hint("trace", f"{trace}")
    screen.hint("report", f"python -m orchestrator report {run.name}    (reveals the held-out results)")
    return 0 if result["healthy"] else 1


def demo(run: Path) -> list[str]:
    """What a replay came to, the held-out results too: they are the recording's, and known."""
    result = asked(run, partial(queries.status, reveal=True))

    def share(suites: Answer | None) -> str:
        found = (suites or {}).values()
        return f"{sum(one['passed'] for one in found)}/{sum(one['total'] for one in found)}"

    with state(run) as db:
        played = summary(db)
        (sessions,) = db.execute("SELECT count(*) FROM session").fetchone()
        main = [row[0][:10] for row in db.execute("SELECT commit_id FROM scorecard ORDER BY id LIMIT 1")]
        main += [row[0][:10] for row in db.execute("SELECT new FROM landing WHERE done ORDER BY number")]
    ends = [f"{result['queue'].get(end, 0)} {end}" for end in ("landed", "bounced")]
    facts = [f"visible {share(result['suites'])} held-out {share(result['heldout'])}", *ends, f"{sessions} sessions"]
    return [played, f"demo: {', '.join([*facts, f'main {main[0]}..{main[-1]}', 'cost unmetered'])}"]


def _name(logs: Path, project: str, asked_for: str | None) -> str:
    """The name that was asked for, else `c-compiler-3` after c-compiler-2. It stands in a trailer of every landing."""
    matches = (re.fullmatch(re.escape(project) + r"-(\d+)", folder.name) for folder in logs.glob("*"))
    name = asked_for or f"{project}-{max([int(match[1]) for match in matches if match], default=0) + 1}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", name) or (logs / name).exists():
        rule = "only ASCII letters, digits, - _ and ., the first a letter or digit, at most 120"
        raise Refusal(f"{name!r} is taken or no name for a run: {rule}", "usage", "give another: --name NAME")
    return name


def _models(given: list[str], project: Project) -> dict[str, str]:
    """Model id for each role. Raises `Refusal` for what names no role, `ModelUnknown` for what names no model."""
    if not given and not any(os.environ.get(key) for key in KEYS.values()):
        return {"": "anthropic/any"}  # whose missing key says what there is to do
    models = dict(map(parse, given))
    roles = f"roles: {', '.join(project.roles)}; without one it is every other role's; {FORMS}"
    if strange := [role for role in models if role and role not in project.roles]:
        raise Refusal(f"--model {strange[0]}=…: no such role", "usage", roles)
    if len(models) < len(given):
        raise Refusal(f"--model {' --model '.join(given)}: more than one for a role", "usage", roles)
    if without := [role for role in project.roles if role not in models and "" not in models]:
        raise Refusal(f"no --model for {', '.join(without)}", "usage", roles)
    return models


def _plan(settings: Settings, project: Project) -> Answer:
    """What would be started. A team of which a model costs money has a budget, and a price for each of its models."""
    seats = settings.seats(project.roles)
    ids = {role: settings.model_of(role) for role in seats}
    limits = {"budget_usd": settings.budget, "session_usd": settings.session_budget, "hours": settings.hours}
    return {
        "run": settings.name,
        "as_of": iso(utc_now()),
        "seats": seats,
        "models": [{"role": role, "id": id, "priced": None if unmetered(id) else True} for role, id in ids.items()],
        "limits": limits | {"idle_s": settings.idle_s},
        "estimate_usd": None,
        "worst_case_usd": 0 if all(map(unmetered, ids.values())) else settings.budget,
    }


def _words(plan: Answer, seats: str) -> str:
    run, session, hours, idle = plan["limits"].values()
    limits = [f"{money(run)} for the run"] if run else []
    limits += [f"{money(session)} a session"] if session else []
    limits += [span(hours * 3600)] if hours else []
    limits += [f"drains after {span(idle)} without a newly passing case"] if idle else []
    models = {f"{one['id']} ({'priced' if one['priced'] else 'unmetered'})" for one in plan["models"]}
    facts = {
        "seats": f"{seats}; one first, more as ready tasks appear",
        "model": ", ".join(sorted(models)),
        "limits": ", ".join(limits) or "none",
        "estimate": f"none; worst case {money(plan['worst_case_usd'])}",
    }
    return lines(f"would start {plan['run']}, spending nothing yet", facts)
