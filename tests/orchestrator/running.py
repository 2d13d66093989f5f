"""Real runs for tests and benchmarks: made, served by a process of their own, killed, resumed, and read from what they
leave behind.

A `Yard` holds the runs of one test: logs and rooms of its own, so that what is left in it afterwards is theirs. Images
are the machine's, because building one takes a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import psutil

from orchestrator.cli.process import live_pid
from orchestrator.doctor import examine
from orchestrator.records import ChangeState
from orchestrator.store import changes, reading
from orchestrator.store.store import read_payload
from sandbox import mounts
from sandbox.engines import choose
from sandbox.hosted import key
from sandbox.keep import state_home

ROOT: Final = Path(__file__).parents[2]
HELLO: Final = ROOT / "projects/hello"
PATIENCE_S: Final = 600.0  # no test waits longer for a run, which then hangs
SHARED: Final = ("images", "apt", "sources")
SETTLING_S: Final = 10.0  # what is being ended may take so long to be gone
PARTS: Final = ("red", "green", "blue")


@dataclass(frozen=True)
class Yard:
    """A place for runs. `env` is what their processes see."""

    folder: Path
    env: dict[str, str]
    sandbox: str | None = "bubblewrap"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, name: str) -> Run:
        return Run(self, name)

    def say(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """One command, to its end; `typed` is its standard input."""
        command = [sys.executable, "-m", "orchestrator", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.env, text=True, capture_output=True, timeout=PATIENCE_S, input=typed
        )

    def create(self, project: Path, agents: int, name: str = "run", **settings: Any) -> Run:
        """Makes a run's folder by what `start` calls for it; no process works on it yet. `models` by role."""
        asked = {"agents": agents, "sandbox": self.sandbox, "unlocked": True, **settings}
        made = {"name": name, "project": str(project), **asked}
        script = "import sys; from tests.orchestrator.running import create_here; create_here(*sys.argv[1:])"
        command = [sys.executable, "-c", script, str(self.logs / name), json.dumps(made)]
        done = subprocess.run(command, cwd=ROOT, env=self.env, text=True, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return self.run(name)

    def start(self, project: Path, team: Path | str, agents: int, name: str = "run", *options: str) -> Run:
        """`start` as people type it, without staying to look."""
        models = [f"scripted:{team}"] if isinstance(team, Path) else team.split()
        arguments = ["start", str(project), "--agents", str(agents), "--name", name, "--unlocked", *options]
        if self.sandbox:
            arguments += ["--sandbox", self.sandbox]
        for model in models:
            arguments += ["--model", model]
        with (self.folder / f"{name}.start").open("wb") as out:
            command = [sys.executable, "-m", "orchestrator", *arguments]
            looking = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=out, stderr=out)
        run = self.run(name)
        _wait(lambda: looking.poll() is not None or (run.db.exists() and run.pid is not None), "the run to start")
        looking.terminate()
        looking.wait()
        assert run.db.exists(), (self.folder / f"{name}.start").read_text()
        return run

    def leftovers(self) -> list[str]:
        """What still lives of this yard some seconds after its runs have ended."""
        until = time.monotonic() + SETTLING_S
        while (found := self._living()) and time.monotonic() < until:
            time.sleep(0.2)
        return found

    def _living(self) -> list[str]:
        """Processes, mounts, rooms, containers, and what judges worked in."""
        found = [f"process {one.pid}: {words[:200]}" for one, words in self.processes().items()]
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        found += [f"mount {mount}" for mount in mounts if Path(mount).is_relative_to(self.folder)]
        found += [f"room {file.parent.name}" for file in self.home.glob("*/*/*/room.json")]
        found += [f"scratch {path}" for path in self.home.glob("judges/*/*/*")]
        return found + [f"container {name}" for name in self._containers()]

    def processes(self) -> dict[psutil.Process, str]:
        """Whoever was started with this yard in its environment, or is a tagged command in a room of its runs; with its
        command line."""
        here = str(self.folder)
        tags = [f".{folder.name}/" for folder in self.home.glob("rooms/*")]
        found = {}
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            try:
                words = "\0".join(["", *process.cmdline()])
                theirs = here in process.environ().get("ORCHESTRATOR_HOME", "") or here in words
                if (theirs or any(tag in words for tag in tags)) and process.status() != psutil.STATUS_ZOMBIE:
                    found[process] = words.replace("\0", " ").strip()
            except psutil.Error:
                continue
        return found

    def _containers(self) -> list[str]:
        if self.sandbox == "bubblewrap" or shutil.which("docker") is None:
            return []
        mine = key(str(self.home / "docker")).rsplit(".", 1)[1]
        listed = subprocess.run(
            ["docker", "ps", "-a", "--filter", f"name={mine}", "--format", "{{.Names}}"],
            text=True,
            capture_output=True,
            check=False,
        )
        return listed.stdout.split()

    def clear(self) -> None:
        """Ends and removes everything."""
        _kill([one for one, words in self.processes().items() if "_serve" in words or "dying" in words])
        for file in self.home.glob("*/*/*/room.json"):
            label = json.loads(file.read_text())["run"]
            for engine in {"bubblewrap", self.sandbox}:
                anyio.run(choose(engine, self.home).sweep, label, 1 << 30)
        mounts.release(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def isolates() -> bool:
    """Is there anything on this machine that keeps a room apart from the rest?"""
    return all(line.name != "sandbox" for line in examine(state_home()))


@contextmanager
def yard(sandbox: str | None = "bubblewrap", **env: str) -> Iterator[Yard]:
    """A fresh place, open to the users that rooms run as; gone afterwards with all that lives in it."""
    folder = Path(tempfile.mkdtemp(prefix="yard-"))
    folder.chmod(0o755)
    shared = state_home()
    for name in SHARED:
        (shared / name).mkdir(parents=True, exist_ok=True)
        (folder / "home").mkdir(exist_ok=True)
        (folder / "home" / name).symlink_to(shared / name)
    (folder / "logs").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    places = {"ORCHESTRATOR_HOME": str(folder / "home"), "ORCHESTRATOR_LOGS": str(folder / "logs"), "TZ": "UTC"}
    made = Yard(folder, kept | places | env, sandbox)
    try:
        yield made
    finally:
        made.clear()


def create_here(run: str, settings: str) -> None:
    """`Yard.create`, in a process that has the yard's environment."""
    from orchestrator.cli.projects import create
    from orchestrator.settings import Settings

    create(Path(run), Settings.model_validate_json(settings), partial(print, file=sys.stderr))


@dataclass
class Run:
    """One run, from outside: its folder, its state and its process are all that is known of it."""

    yard: Yard
    name: str
    deaths: int = 0
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        return self.yard.logs / self.name

    @property
    def db(self) -> Path:
        return self.folder / "state.db"

    @property
    def pid(self) -> int | None:
        return live_pid(self.folder)

    # What is done to it

    def serve(self, dying: str = "", by: Sequence[str] = ("orchestrator", "_serve", "--json")) -> None:
        """Starts its process, one that dies at a named point if `dying` names one (`dying.py`); `by` is the module and
        its arguments, to which the run's folder is added."""
        module = ["tests.orchestrator.dying", dying] if dying else by
        with (self.folder / "orchestrator.jsonl").open("ab") as log:
            command = [sys.executable, "-m", *module, str(self.folder)]
            self.child = subprocess.Popen(
                command, cwd=ROOT, env=self.yard.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        _wait(lambda: self.pid is not None or self._gone(), "its process to take the run")

    def resume(self) -> None:
        """`resume` as people type it."""
        done = self.yard.say("resume", self.name, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        self.child = None

    def kill(self, *, tree: bool = False) -> None:
        """SIGKILL to its process, or to that and everything below it."""
        pid = self.pid
        if pid is not None:
            process = psutil.Process(pid)
            _kill([process, *(process.children(recursive=True) if tree else ())])
        self._gone()
        self.deaths += 1

    def died(self) -> None:
        """Waits until its process has killed itself, as `dying.py` does."""
        state = self.wait()
        assert self.child is not None and self.child.returncode == -signal.SIGKILL, f"it is {state}\n{self.tail()}"
        self.deaths += 1

    def wait(self, seconds: float = PATIENCE_S) -> str:
        """Waits until its process has ended; returns the state that it left."""
        pid = self.pid
        _wait(lambda: self.pid is None and self._gone(), "the run to end", seconds, self.tail)
        _wait(lambda: pid is None or not psutil.pid_exists(pid), "its process to be gone")
        return self.state

    def finish(self) -> None:
        """Waits for the end that a run is for."""
        assert self.wait() == "ended", self.tail()

    def until(self, sql: str, *parameters: object) -> None:
        """Waits until a query has an answer. Fails when the process ends before."""

        def there() -> bool:
            found = bool(self.rows(sql, *parameters))
            assert found or self.pid is not None, f"the run ended without {sql} {parameters}\n{self.tail()}"
            return found

        _wait(there, f"{sql} {parameters}", PATIENCE_S, self.tail)

    def _gone(self) -> bool:
        return self.child is None or self.child.poll() is not None

    # What it left

    def rows(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        with reading(self.db) as db:
            return db.execute(sql, parameters).fetchall()

    def one(self, sql: str, *parameters: object) -> Any:
        """The first column of the only row."""
        (row,) = self.rows(sql, *parameters)
        return row[0]

    @property
    def state(self) -> str:
        return str(self.one("SELECT state FROM run"))

    def results(self, tool: str) -> list[str]:
        """What the finished calls of a tool answered, oldest first."""
        sql = "SELECT result FROM call WHERE name = ? AND state = 'done' ORDER BY started"
        with reading(self.db) as db:
            return [read_payload(db, row["result"]).decode() for row in db.execute(sql, (tool,))]

    def git(self, *words: str) -> str:
        command = ["git", "--git-dir", str(self.folder / "repo.git"), *words]
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(command, check=True, capture_output=True, env=env, text=True).stdout.strip()

    @property
    def tree(self) -> str:
        """The tree of main."""
        return self.git("rev-parse", "refs/heads/main^{tree}")

    def commits(self) -> list[str]:
        """Main's commits, the seed first."""
        return self.git("rev-list", "--reverse", "--first-parent", "refs/heads/main").split()

    def trailers(self, commit: str) -> dict[str, str]:
        text = self.git("log", "-1", "--format=%(trailers:only,unfold)", commit)
        return dict(line.split(": ", 1) for line in text.splitlines() if line)

    def outcomes(self, commit: str, tier: str = "full") -> dict[str, str] | None:
        """Outcome by case of the scorecard that counts for a commit; None without one."""
        with reading(self.db) as db:
            card = changes.scorecard_of(db, commit, tier)
        return None if card is None else {case: verdict.outcome.name for case, verdict in card.verdicts.items()}

    def judged(self) -> dict[str, str]:
        """Outcome by case of main, held-out cases too."""
        main = self.commits()[-1]
        return (self.outcomes(main) or {}) | (self.outcomes(main, "heldout") or {})

    def tail(self) -> str:
        journal = self.rows("SELECT seq, substr(at, 12, 12), kind, seat, substr(data, 1, 160) FROM journal")[-25:]
        log = (self.folder / "orchestrator.jsonl").read_text(errors="replace")[-3000:]
        return "\n".join([*(" ".join(map(str, row)) for row in journal), log])


def faults(run: Run) -> list[str]:
    """Where an ended run breaks what a killed and resumed one promises as well (P2, P3, P4, P9). Empty is right."""
    found = []
    ended = [state.value for state in ChangeState if state.terminal]
    for row in run.rows("SELECT id, state FROM change"):
        if row["state"] not in ended:
            found.append(f"{row['id']} is still {row['state']}")
    commits = run.commits()
    landed = [run.trailers(commit).get("Change", "") for commit in commits[1:]]
    order = "(SELECT number FROM landing WHERE change = change.id)"
    rows = run.rows(f"SELECT id, landed_as FROM change WHERE state = 'landed' ORDER BY {order}")
    if [row["id"] for row in rows] != landed:
        found.append(f"landed by the state: {[row['id'] for row in rows]}, by main: {landed}")
    if [row["landed_as"] for row in rows] != commits[1:]:
        found.append("main's commits are not those that the changes landed as")
    if open_ones := run.rows("SELECT change FROM landing WHERE NOT done"):
        found.append(f"landings never finished: {[row['change'] for row in open_ones]}")
    passed: set[str] = set()
    sql = "SELECT l.new, s.commit_id FROM landing l JOIN scorecard s ON s.id = l.scorecard"
    judged_as = {row["new"]: row["commit_id"] for row in run.rows(sql)}
    for commit in commits:
        card = run.outcomes(commit)
        if card is None:  # then it landed below one that was judged, and main never pointed at it
            if judged_as.get(commit) not in commits[commits.index(commit) + 1 :]:
                found.append(f"{commit} is on main without a scorecard")
            continue
        now = {case for case, outcome in card.items() if outcome == "PASS"}
        if lost := passed - now:
            found.append(f"{commit} lost {sorted(lost)}")
        passed |= now
    for row in run.rows("SELECT task, count(*) AS many FROM claim GROUP BY task HAVING many > 1"):
        found.append(f"{row['task']} is claimed {row['many']} times")
    cut = "SELECT session, epoch, count(*) AS many FROM attempt WHERE failure LIKE 'the process ended%' GROUP BY 1, 2"
    for row in run.rows(f"{cut} HAVING many > 1"):
        found.append(f"{row['session']} had {row['many']} requests in flight at one death")
    return found


# A project still smaller than hello, and its team


def small_project(folder: Path, parts: Sequence[str] = PARTS, roles: Mapping[str, int] | None = None) -> Path:
    """`parts/NAME` shall hold its own name: one case and one task for each part. A part `base` is in the seed."""
    for name in ("seed/parts", "suites/parts", "prompts"):
        (folder / name).mkdir(parents=True)
    (folder / "seed/parts/base").write_text("base\n")
    (folder / "goal.md").write_text("# Parts\n\nEach file `parts/NAME` shall hold NAME.\n")
    for part in ("base", *parts):
        (folder / f"suites/parts/a-{part}.txt").write_text(f"{part}\n")
    script = folder / "suites/has.sh"
    lines = ["#!/bin/sh", 'read -r name <"$CASE"', 'read -r text <"$ARTIFACTS/parts/$name" && [ "$text" = "$name" ] ||']
    script.write_text("\n".join([*lines, '{ echo "ERROR there is no $name part yet"; exit 1; }', ""]))
    script.chmod(0o755)
    for role in set(roles or {}) - {"builder"}:
        (folder / f"prompts/{role}.md").write_text(f"You are a {role}. Take a task, do it, submit it.\n")
    weights = "\n".join(f"{role} = {count}" for role, count in (roles or {"builder": 1}).items())
    (folder / "project.toml").write_text(
        f"""schema = 1
[image]
packages = ["git", "python3-minimal"]   # as projects/hello has it: one image for both
[build]
run = "true"
artifacts = ["parts"]
time = "1m"
[limits]
cpus = 1
memory = "512M"
disk = "256M"
command = "5m"
[[suite]]
name = "parts"
cases = "suites/parts/*.txt"
run = "suites/has.sh"
time = "5s"
[roles]
{weights}
[budget]
usd = 100
session = 50
"""
    )
    return folder


Step = dict[str, Any]


def shell(command: str, **more: Any) -> Step:
    return {"tool": "shell", "command": command, **more}


SUBMIT: Final[Step] = {"tool": "submit", "summary": "One part more", "fixes": ["{case}"]}


def made(part: str) -> Step:
    """The call that solves a part's task in the workspace."""
    return shell(f"echo {part} >parts/{part} && git add -A && git commit -qm 'Part {part}'")


def small_team(
    file: Path,
    parts: Sequence[str] = PARTS,
    calls: Callable[[str], list[Step]] = lambda part: [made(part), SUBMIT],
    cents: float | None = 1.0,
) -> Path:
    """A scripted team that solves the parts, at so many cents a request; None declares no price and no usage."""
    text = []
    if cents is not None:
        text = ["usage = { input = 1000 }", f"price = {{ input = {cents * 10}, output = 0.0 }}"]
    for part in parts:
        text += ["[[session]]", f'match = "*no {part} part*"', f"calls = {toml(calls(part))}"]
    file.write_text("\n".join([*text, ""]))
    return file


def toml(value: object) -> str:
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return json.dumps(value)


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=30)


def _wait(
    ready: Callable[[], bool], what: str, seconds: float = PATIENCE_S, tail: Callable[[], str] = lambda: ""
) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}\n{tail()}"
        time.sleep(0.02)
