"""`python -m benchmarks.overhead`: what an orchestrator's own work costs, in CPU seconds.

Sessions. The same scripted session (each turn one shell command that prints thirty lines, no think time) by ours, by
inspect_ai and by mini-swe-agent, each used as its documentation says, each session in a process of its own, in turn.
The room is each one's plain host process (`local`). Counted from the session's start to its end, so without imports:
the orchestrating process alone, beside it its children (the room's commands), wall time and the process's peak memory.
ours writes each turn durably (four synced commits); mini-swe-agent, as its command `mini` does, its whole trajectory
anew at each turn; `mini-swe-agent, unsaved` nothing; inspect_ai its log. The last columns are the median, over the
rounds, of a peer's CPU divided by ours in the same round.

Exec. One command (`true`) through `Room.run`, against the same hardened argument vector run bare by `subprocess`, and
for Docker against `docker exec` in a container that runs already, in turn: medians of wall milliseconds, mean CPU
milliseconds of this process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from agents.models.base import ToolCall
from benchmarks.team import Played, a_run, call
from orchestrator.seat import work
from orchestrator.watch.journal import Scribe
from sandbox import bubblewrap, docker, mounts
from sandbox.engines import choose
from sandbox.image import ImageSpec, build
from sandbox.keep import state_home
from sandbox.process import HOST_ENV
from sandbox.room import Command, EngineUnavailable, Labels, Room, RoomSpec, RootFs

PINNED: Final = {"inspect": "inspect-ai==0.3.285", "mini": "mini-swe-agent==2.4.6"}
HERE: Final = Path(__file__).parent
IMAGE: Final = ImageSpec(packages=("git", "python3-minimal"))  # as projects/hello has it


def used() -> tuple[float, float, float]:
    """CPU seconds of this process and of its children that have ended; and the clock."""
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime, time.perf_counter()


@contextmanager
def place() -> Iterator[Path]:
    """A folder that rooms' users can walk into; gone afterwards."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        mounts.release(Path(folder))


async def root_of(room: str) -> RootFs | None:
    return None if room == "local" else await build(IMAGE, state_home(), progress=lambda line: None)


async def session(turns: int, room: str) -> dict[str, float]:
    """One session of ours in this process, with the scribe that writes a run's log files beside it."""

    def replies(_: str, turn: int) -> list[ToolCall] | str:
        return [call("shell", turn, command=f"seq {turn} {turn + 29}")] if turn <= turns else "Done."

    with place() as folder:
        engine, root = choose(room, folder / "home"), await root_of(room)
        async with a_run(folder, Played(replies), engine, root) as desk, anyio.create_task_group() as beside:
            beside.start_soon(Scribe(folder).keep)
            before = used()
            await work(desk.seats[0], desk)
            after = used()
            row = await desk.store.read(lambda db: db.execute("SELECT turns, end FROM session").fetchone())
            beside.cancel_scope.cancel()
    assert tuple(row) == (turns + 1, "finished"), tuple(row)
    own, children, wall = (end - begin for begin, end in zip(before, after, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"own_s": own, "children_s": children, "wall_s": wall, "peak_mib": peak}


def contestants(peers: Path, turns: int) -> dict[str, list[str]]:
    """Commands that print one session's figures; behind each stands a folder for what it writes."""
    ours = [sys.executable, "-m", "benchmarks.overhead", "--turns", str(turns), "--session"]
    inspect = [str(peers / "inspect/bin/python"), str(HERE / "peers/inspect_session.py"), str(turns), "saved"]
    mini = [str(peers / "mini/bin/python"), str(HERE / "peers/mini_session.py"), str(turns)]
    return {
        "ours": ours,
        "inspect_ai": inspect,
        "mini-swe-agent": [*mini, "saved"],
        "mini-swe-agent, unsaved": [*mini, "unsaved"],
    }


def install(peers: Path) -> None:
    """The peers at their pinned versions, each in a virtual environment of its own."""
    for name, pinned in PINNED.items():
        if not (peers / name / pinned).exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(peers / name)], check=True)
            pip = [str(peers / name / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", pinned]
            subprocess.run(pip, check=True, stdout=sys.stderr)
            (peers / name / pinned).touch()


def sessions(peers: Path, turns: int, repeats: int) -> list[dict[str, Any]]:
    """All contestants in turn, `repeats` times; a row each."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name, command in contestants(peers, turns).items():
            with tempfile.TemporaryDirectory() as folder:
                env = {**os.environ, "PYTHONPATH": str(HERE.parent)} if name == "ours" else dict(os.environ)
                cwd = HERE.parent if name == "ours" else folder
                done = subprocess.run([*command, folder], capture_output=True, text=True, env=env, cwd=cwd, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for name, runs in found.items():
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        row: dict[str, Any] = {f"{key[:-2]}_ms": round(1000 * medians[key] / turns, 2) for key in list(medians)[:3]}
        ratios = [run["own_s"] / mine["own_s"] for run, mine in zip(runs, found["ours"], strict=True)]
        row |= {"peak_mib": round(medians["peak_mib"]), "cpu_by_ours": round(statistics.median(ratios), 2)}
        rows.append({"session": name, "turns": turns, **row})
    return rows


async def execs(rounds: int, each: int) -> list[dict[str, Any]]:
    """A command through each engine's room and the ways around it, in turn."""
    rows: list[dict[str, Any]] = []
    for name in ("bubblewrap", "docker"):
        with place() as folder:
            try:
                engine = choose(name, folder / "home")
            except EngineUnavailable as error:
                rows.append({"exec": name, "note": str(error)})
                continue
            spec = RoomSpec("bench", Labels("bench", 1, "agent-01"), await root_of(name), folder / "workspace", user=1)
            room = await engine.open(spec)
            bare = await bare_bubblewrap(room) if name == "bubblewrap" else bare_docker(room)
            rows += await in_turn(name, room, bare, rounds, each)
            await room.stop()
    return rows


async def in_turn(
    engine: str, room: Room, bare: dict[str, Callable[[], object]], rounds: int, each: int
) -> list[dict[str, Any]]:
    async def by_room() -> None:
        assert (await room.run(Command(("true",)))).ok

    async def by(run: Callable[[], object]) -> None:
        run()  # in this thread: bubblewrap ends with the one that started it, and nobody else wants the loop

    ways: dict[str, Callable[[], Awaitable[object]]] = {"Room.run": by_room}
    ways |= {way: partial(by, run) for way, run in bare.items()}
    walls: dict[str, list[float]] = {way: [] for way in ways}
    cpus: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            before, took = used(), []
            for _ in range(each):
                began = time.perf_counter()
                await run()
                took.append(1000 * (time.perf_counter() - began))
            after = used()
            walls[way].append(statistics.median(took))
            cpus[way].append(1000 * (after[0] + after[1] - before[0] - before[1]) / each)
    ours = next(iter(ways))
    rows = []
    for way in ways:
        wall, cpu = (
            statistics.median(mine / other for mine, other in zip(kind[ours], kind[way], strict=True))
            for kind in (walls, cpus)
        )
        middle = {"wall_ms": round(statistics.median(walls[way]), 2), "cpu_ms": round(statistics.median(cpus[way]), 2)}
        rows.append({"exec": f"{engine}, {way}", **middle, "ours_by_it_wall": round(wall, 2), "cpu": round(cpu, 2)})
    return rows


async def bare_bubblewrap(room: Room) -> dict[str, Callable[[], object]]:
    """The argument vector that the room would run, run by `subprocess` and nothing else."""
    seen: list[list[str]] = []
    original = bubblewrap.run

    async def recording(argv: Any, *args: Any, **options: Any) -> Any:
        seen.append(list(argv))
        return await original(argv, *args, **options)

    bubblewrap.run = recording
    try:
        await room.run(Command(("true",)))
    finally:
        bubblewrap.run = original
    (argv,) = seen
    at = {word: argv.index(word) + 1 for word in ("--json-status-fd", "--seccomp") if word in argv}

    def run() -> None:
        with tempfile.TemporaryFile() as status, tempfile.TemporaryFile() as rules:
            rules.write(bubblewrap.seccomp.program(memfd=True, shm=True) or b"")
            rules.seek(0)
            for word, file in zip(("--json-status-fd", "--seccomp"), (status, rules), strict=True):
                if word in at:
                    argv[at[word]] = str(file.fileno())
            fds = [status.fileno(), rules.fileno()]
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "env": dict(HOST_ENV)}
            subprocess.run(argv, pass_fds=fds, cwd="/", start_new_session=True, check=True, **options)

    return {"the same vector bare": run}


def bare_docker(room: Room) -> dict[str, Callable[[], object]]:
    """A container with the room's options, made, run by the client and removed; and `docker exec` in a living one."""
    assert isinstance(room, docker.DockerRoom)
    client, options = docker._client(), room.options
    living = client.containers.run(**options, command=["sleep", "infinity"], detach=True, auto_remove=True)
    cli = ["docker", "-H", docker._host()]

    def container() -> None:
        made = client.containers.create(**options, command=["true"])
        subprocess.run([*cli, "start", "--attach", str(made.id)], capture_output=True, check=True)
        made.remove(force=True, v=True)

    def exec_() -> None:
        subprocess.run([*cli, "exec", str(living.id), "true"], capture_output=True, check=True)

    return {"the same container bare": container, "docker exec": exec_}


def table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of all sessions; of execs, five times as many")
    parser.add_argument("--only", choices=("sessions", "exec"))
    parser.add_argument("--peers", type=Path, default=state_home() / "peers", help="where the peers are installed")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--room", choices=("local", "bubblewrap"), default="local", help=argparse.SUPPRESS)
    parser.add_argument("--session", metavar="FOLDER", help=argparse.SUPPRESS)  # how a round starts ours
    given = parser.parse_args()
    if given.session:
        sys.stdout.write(json.dumps(anyio.run(session, given.turns, given.room)) + "\n")
        return 0
    parts: list[list[dict[str, Any]]] = []
    if given.only != "exec":
        install(given.peers)
        parts.append(sessions(given.peers, given.turns, given.repeats))
    if given.only != "sessions":
        parts.append(anyio.run(execs, 5 * given.repeats, 20))
    for rows in parts:
        sys.stdout.write("\n".join(map(json.dumps, rows)) + "\n" if given.json else table(rows) + "\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
