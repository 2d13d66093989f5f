"""`python -m benchmarks.chaos --kills 40 --agents 16 --seed 1`: kills a team at random moments and fault points.

Scripted seats and seats of two vendors (a local server that fails now and then) work in real rooms on real git under a
real judge. The run's process, its whole tree, its rooms, its judge and the vendors' server are killed; each time the
run is resumed, and when all kills are used it is left to finish. Then `check.py`, which shares no code with it, counts
what was lost, done twice or left behind. The last line on stdout is one JSON object; exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import psutil

from benchmarks.chaos import check
from benchmarks.chaos.team import names, write_project, write_team
from orchestrator import board
from orchestrator.records import TaskSource
from orchestrator.store import Store
from orchestrator.store.store import utc_now
from sandbox import mounts
from sandbox.faults import POINTS, VARIABLE
from tests.orchestrator.running import ROOT, Run, Yard, yard
from tests.wire.faults import UNTIMED

Json = dict[str, Any]
KINDS: Final = {
    "process": 22,
    "tree": 15,
    "point": 30,
    "held": 8,
    "zombie": 5,
    "host": 4,
    "room": 6,
    "judge": 5,
    "wire": 5,
}
"""What is killed, and how often of a hundred times. `held` is the whole tree at a fault point; `host` the whole tree,
and every mount, and half the time every workspace; `zombie` the process alone, its children stopped until it is back.
"""
ARMED: Final = ("point", "held")  # when the process starts
ONCE: Final = {"epoch-begun", "repository-recovered", "rooms-swept", "landing-recovered", "taken-over", "listening"}
HURRY: Final = 0.3  # share of kills that do not wait until all seats are back
BACK_S, POINT_S, ROOM_S, END_S, STILL_S = 60.0, 20.0, 10.0, 900.0, 240.0
WORK_S: Final = 2.0  # between the last seat's return and the next kill, at most
EVERY: Final = 8  # of so many responses one goes wrong
MODELS: Final = {"reader": "anthropic/claude-sonnet-4-5", "writer": "openai/gpt-5"}
SIGNS: Final = ("call", "session-ended", "claimed", "submitted", "released", "noted", "waiting")  # as check.py has them


@dataclass
class Vendor:
    """The wire server, in a process that may be killed. Its port stays."""

    script: Path
    log: Path
    seed: int
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        if not self.port:
            with closing(socket.socket()) as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        argv = [
            "--port",
            str(self.port),
            "--faults",
            str(EVERY),
            "--seed",
            str(self.seed),
            "--kinds",
            ",".join(UNTIMED),
        ]
        command = [sys.executable, "-m", "tests.wire", str(self.script), *argv, "--log", str(self.log), "--arrivals"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout and self.process.stdout.readline(), "the wire server did not start"

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def env(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.port}"
        keys = {"ANTHROPIC_API_KEY": "key", "OPENAI_API_KEY": "key", "ORCHESTRATOR_MODEL_IDLE_S": "60"}
        return keys | {"ANTHROPIC_BASE_URL": url, "OPENAI_BASE_URL": f"{url}/v1"}


@contextmanager
def listening(pipe: Path, log: Path) -> Iterator[None]:
    """Writes down what seats write into the pipe, each line with its time, until the block ends."""
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    end = os.open(pipe, os.O_RDWR)

    def listen() -> None:
        with os.fdopen(os.dup(end)) as lines, log.open("a") as file:
            for line in lines:
                if line == "over\n":
                    return
                file.write(json.dumps({"at": time.time(), "said": line.split()}) + "\n")
                file.flush()

    ear = threading.Thread(target=listen, daemon=True)
    ear.start()
    try:
        yield
    finally:
        os.write(end, b"over\n")
        ear.join(10)
        os.close(end)
        pipe.unlink(missing_ok=True)


@dataclass
class Arena:
    """One run under fire."""

    run: Run
    vendor: Vendor
    luck: random.Random
    book: Path  # what was done to it, for the checker
    points: list[str]  # fault points that have not had their turn
    tell: Callable[[str], None]
    done: int = 0
    pace: float = 3.0  # seconds that the newest resume took
    stopped: list[psutil.Process] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, **facts: object) -> None:
        with self.book.open("a") as file:
            file.write(json.dumps({"at": time.time(), "what": what, **facts}) + "\n")

    def rows(self, sql: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.run.db}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(sql, values).fetchall()

    def serve(self, fault: str = "") -> None:
        env = self.run.yard.env | ({VARIABLE: fault} if fault else {})
        command = [sys.executable, "-m", "orchestrator", "_serve", "--json", str(self.run.folder)]
        self.note("resumed", fault=fault)
        with (self.run.folder / "orchestrator.jsonl").open("ab") as log:
            self.run.child = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def alive(self) -> bool:
        return self.run.child is not None and self.run.child.poll() is None

    def attack(self, kills: int) -> None:
        """Serves and kills until so many kills are done or the run has ended by itself."""
        while self.done < kills:
            kinds = {kind: often for kind, often in KINDS.items() if not (self.alive and kind in ARMED)}
            kind = self.luck.choices([*kinds], [*kinds.values()])[0]
            point = self._point() if kind in ARMED else ""
            if not self.alive:
                before, times = self._active(), 1 if point in ONCE else self.luck.choice((1, 1, 1, 2, 3))
                self.serve(f"{point}*{times}={'kill' if kind == 'point' else 'stop'}" if point else "")
                if point:
                    pass
                elif self.luck.random() < HURRY:
                    time.sleep(self.luck.uniform(0, self.pace))
                else:
                    self._until_back(before)
                self._wake()
            if not self._endured(kind, point):
                return

    def _endured(self, kind: str, point: str) -> bool:
        """One kill. False when the run has come to its end before."""
        assert self.run.child is not None
        if point:
            state = self._wait_for(lambda: not self.alive or self._stopped(), POINT_S)
            if state and not self.alive and self.run.child.returncode == -signal.SIGKILL:
                self._died(kind, point)
                return True
            kind = "held" if state and self.alive else "process"
        else:
            time.sleep(self.luck.uniform(0, WORK_S))
        if not self.alive:
            return self._over()
        self._strike(kind, point if kind == "held" else "")
        return True

    def _point(self) -> str:
        """Each point has its turn before one has another."""
        if not self.points:
            self.points += self.luck.sample(sorted(POINTS), len(POINTS))
        return self.points.pop()

    def _stopped(self) -> bool:
        assert self.run.child is not None
        with suppress(psutil.Error):
            return psutil.Process(self.run.child.pid).status() == psutil.STATUS_STOPPED
        return False

    def _wait_for(self, true: Callable[[], bool], seconds: float, every: float = 0.02) -> bool:
        until = time.monotonic() + seconds
        while not true():
            if time.monotonic() > until:
                return False
            time.sleep(every)
        return True

    def _active(self) -> list[str]:
        with suppress(sqlite3.Error):
            return [id for (id,) in self.rows("SELECT id FROM session WHERE state = 'active'")]
        return []

    def _until_back(self, sessions: Sequence[str]) -> None:
        """Until each seat that worked works again, and one does at all."""
        seats = {session.rpartition("/")[0] for session in sessions}
        epoch, since = self.rows("SELECT epoch FROM run")[0][0], datetime.now(UTC).isoformat()
        marks = ", ".join("?" * len(SIGNS))
        sql = f"SELECT seat FROM journal WHERE epoch >= ? AND kind IN ({marks})"

        known: set[str] = set()

        def back() -> bool:
            (now,) = self.rows("SELECT epoch FROM run")[0]
            here = {seat for (seat,) in self.rows(sql, epoch + 1, *SIGNS)}
            asked = self.rows("SELECT session FROM attempt WHERE epoch > ?", epoch)
            asked += self.rows("SELECT session FROM call WHERE started > ?", since)
            here |= {session.rpartition("/")[0] for (session,) in asked}
            if here > known:  # when a call began again is not kept: the next beginning of it takes its place
                self.note("seen", seats=sorted(here - known))
                known.update(here)
            return not self.alive or (now > epoch and bool(here) and seats <= here)

        began = time.monotonic()
        if self._wait_for(back, BACK_S, every=0.1):
            self.pace = time.monotonic() - began

    def _wake(self) -> None:
        """What was stopped before its parent was killed goes on, if nobody has ended it."""
        for zombie in self.stopped:
            with suppress(psutil.Error):
                zombie.resume()
        self.stopped.clear()

    # What is killed

    def _strike(self, kind: str, point: str = "") -> None:
        getattr(self, f"_kill_{kind}")()
        if kind in ("room", "judge", "wire"):
            self.done += 1
            self.killed[kind] += 1
            self.note("struck", kind=kind, n=self.done)
            self.tell(f"{self.done:4}  {kind}")
        else:
            self._died(kind, point)

    def _died(self, kind: str, point: str) -> None:
        self.done += 1
        self.killed[point or kind] += 1
        self.note("killed", kind=kind, point=point, n=self.done, active=self._active())
        self.tell(f"{self.done:4}  {kind} {point}")

    def _kill_process(self) -> None:
        assert self.run.child is not None
        self.run.child.kill()
        self.run.child.wait()

    def _kill_tree(self) -> None:
        """Everything of the run at once, as when the power fails."""
        everybody = [*self.run.yard.processes()]
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for one in everybody:
                with suppress(psutil.Error):
                    one.send_signal(sign)
        self._kill_process()
        psutil.wait_procs(everybody, timeout=30)

    _kill_held = _kill_tree

    def _kill_host(self) -> None:
        self._kill_tree()
        mounts.release(self.run.yard.folder)
        if self.luck.random() < 0.5:
            shutil.rmtree(self.run.yard.home / "workspaces", ignore_errors=True)

    def _kill_zombie(self) -> None:
        assert self.run.child is not None
        with suppress(psutil.Error):
            self.stopped = psutil.Process(self.run.child.pid).children(recursive=True)
        for one in self.stopped:
            with suppress(psutil.Error):
                one.suspend()
        self._kill_process()

    def _kill_room(self, prefix: str = "agent-") -> None:
        """What runs in one room, once there is one; a seat's is dead to everybody as well, half the time."""
        rooms: list[Path] = []

        def found() -> bool:
            there = self.run.yard.home.glob("rooms/*/*/room.json")
            rooms[:] = sorted(file.parent for file in there if file.parent.name.startswith(prefix))
            return bool(rooms) or not self.alive

        self._wait_for(found, ROOM_S)
        room = self.luck.choice(rooms) if rooms else self.run.yard.home
        dead = prefix == "agent-" and self.luck.random() < 0.5
        if dead:
            (room / "room.json").unlink(missing_ok=True)
        ended = [
            one for one, words in self.run.yard.processes().items() if f".{room.parent.name}.{room.name}." in words
        ]
        for one in ended:
            with suppress(psutil.Error):
                one.kill()
        self.note("hit", room=room.name, dead=dead, processes=len(ended))

    def _kill_judge(self) -> None:
        self._kill_room("judge-")

    def _kill_wire(self) -> None:
        self.note("down", kind="wire")
        self.vendor.kill()
        time.sleep(self.luck.uniform(0, 2))
        self.vendor.start()

    # How it ends

    def _over(self) -> bool:
        """Whether the run goes on: that a process ended neither with its run nor by us is noted."""
        assert self.run.child is not None
        if self.rows("SELECT state FROM run")[0][0] == "ended":
            return False
        if self.run.child.returncode == -signal.SIGKILL:
            return True
        last = (self.run.folder / "orchestrator.jsonl").read_bytes().splitlines()[-1].decode(errors="replace")[:300]
        self.note("broke", code=self.run.child.returncode, said=last)
        self.tell(f"      the process ended with {self.run.child.returncode}: {last}")
        self.killed["broke"] += 1
        return self.killed["broke"] <= 10

    def finish(self) -> None:
        """Lets the run come to its end. One that stands still is noted, and ended."""
        began = seen = time.monotonic()
        newest = -1
        while time.monotonic() - began < END_S and time.monotonic() - seen < STILL_S:
            if not self.alive:
                if not self._over():
                    break
                before = self._active()
                self.serve()
                self._until_back(before)
                self._wake()
            ((now,),) = self.rows("SELECT coalesce(max(seq), 0) FROM journal")
            seen, newest = (time.monotonic(), now) if now != newest else (seen, newest)
            time.sleep(0.2)
        ((state,),) = self.rows("SELECT state FROM run")
        self.note("over", state=state, alive=self.alive)
        if self.alive:
            self._kill_tree()


def one_run(
    kills: int,
    agents: int,
    luck: random.Random,
    parts: int,
    points: list[str],
    keep: Path | None,
    tell: Callable[[str], None],
) -> tuple[Json, Counter[str]]:
    """A run that is killed up to so many times, and what the checker says of it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        evidence = Path(scratch)
        todo = names(parts, luck)
        script = write_team(evidence / "team.toml", todo, luck)
        vendor = Vendor(script, evidence / "wire.jsonl", luck.getrandbits(16))
        vendor.start()
        try:
            with yard("bubblewrap", **vendor.env()) as place:
                (place.folder / "tmp").mkdir()
                place.env["TMPDIR"] = str(place.folder / "tmp")
                run = made(place, agents, script, todo, luck)
                arena = Arena(run, vendor, luck, evidence / "driver.jsonl", points, tell)
                with listening(run.folder / "team/witness", evidence / "witness.jsonl"):
                    arena.attack(kills)
                    arena.finish()
                    found = checked(run.folder, place.home, evidence)
                if keep:
                    shutil.copytree(evidence, keep / "evidence")
                    shutil.copytree(run.folder, keep / "run")
                return found, arena.killed
        finally:
            vendor.kill()


def made(place: Yard, agents: int, script: Path, todo: Sequence[str], luck: random.Random) -> Run:
    """The run's folder, with a task for each part."""
    project = write_project(place.folder / "chaos", len(todo), luck)
    run = place.create(project, agents, models={"": f"scripted:{script}", **MODELS}, budget=1_000_000_000)

    async def add() -> None:
        store = Store(run.db, utc_now)
        await store.begin_epoch()
        add_task = board.add_task
        await store.write(lambda tx: [add_task(tx, f"part {one}", TaskSource.PROJECT, by="project") for one in todo])
        await store.close()

    anyio.run(add)
    return run


def checked(run: Path, home: Path, evidence: Path) -> Json:
    """What the checker says, in a process of its own that has nothing of ours."""
    command = [sys.executable, "-I", check.__file__, str(run), str(home), str(evidence)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd="/")
    answer: Json = json.loads(done.stdout)
    return answer


def chaos(
    kills: int, agents: int, seed: int, keep: Path | None = None, tell: Callable[[str], None] = lambda _: None
) -> Json:
    """All runs that it takes, summed up."""
    luck, points = random.Random(seed), list[str]()
    found: list[Json] = []
    killed: Counter[str] = Counter()
    began = time.monotonic()
    while (left := kills - sum(one["kills"] for one in found)) > 0:
        parts = max(agents, min(100, 2 * left))
        into = keep and keep / f"{seed}-{len(found) + 1}"
        one, by_kind = one_run(left, agents, luck, parts, points, into, tell)
        found.append(one)
        killed += by_kind
        tell(
            f"      run {len(found)}: {one['kills']} kills, {one['violations']} violations; "
            + "; ".join(one["words"][:9])
        )
        if not one["kills"]:
            break
    return check.summed(found) | {
        "runs": len(found),
        "seconds": round(time.monotonic() - began),
        "by_kind": dict(killed),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a new folder for each run and the evidence of it")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    given = parser.parse_args()

    def tell(line: str) -> None:
        if not given.json:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which takes all of it away
    found = chaos(given.kills, given.agents, given.seed, given.keep, tell)
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["violations"] or found["wedged_seats"] else 0


if __name__ == "__main__":
    sys.exit(main())
