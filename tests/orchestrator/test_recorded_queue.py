"""A recording of all that can become of changes in the merge queue is replayed to the same commits, in real rooms."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.recording import FILE, UNANSWERED, Recording, Step
from tests.orchestrator.running import Run, Yard, faults, small_project, yard
from tests.orchestrator.test_open_seats import asked
from tests.orchestrator.test_recording import broken, diverged, killed

PARTS = ("blue", "gold", "green", "red", "teal", "white")
SLOW = """#!/bin/sh
sleep 2  # `held` comes meanwhile
while [ -e "${0%/*}/held" ]; do sleep 0.1; done
"""


class Team:
    """Open seats, driven over the run's socket."""

    def __init__(self, run: Run) -> None:
        self.run, self.tokens, self.took = run, dict[str, str](), dict[str, str]()

    def ask(self, verb: str, **given: Any) -> dict[str, Any]:
        until = time.monotonic() + 60
        while not (self.run.folder / "run.sock").exists() and time.monotonic() < until:
            time.sleep(0.1)
        line = json.dumps({"do": "seat", "verb": verb, "by": "test", **given}).encode() + b"\n"
        answer: dict[str, Any] = asked(self.run.folder, line)["result"]
        return answer

    def take(self, seat: str, session: str) -> None:
        """The seat goes on with a session, by its id; perhaps it has to leave another one's room first."""
        until = time.monotonic() + 120
        while (took := self._take(seat)) != session:
            assert time.monotonic() < until, (took, self.run.tail())
            time.sleep(0.1)

    def _take(self, seat: str) -> str:
        token = self.tokens.get(seat, "")
        taken = self.ask("take", role="", seat="" if token else f"agent-0{seat}", token=token)
        self.tokens[seat], self.took[seat] = taken["token"], taken["session"]
        return str(taken["session"])

    def call(self, seat: str, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("call", token=self.tokens[seat], tool=tool, arguments=arguments)

    def sh(self, seat: str, command: str) -> None:
        self.call(seat, "shell", command=command)

    def claim(self, seat: str, part: str) -> None:
        task = self.run.one(f"SELECT id FROM task WHERE cases LIKE '%a-{part}%'")
        assert not self.call(seat, "claim", task=task)["failed"]

    def submit(self, seat: str, change: str = "") -> None:
        """Hands in what the seat has; returns once that is `change`, and tried."""
        given = {"token": self.tokens[seat], "tool": "submit", "arguments": {"summary": f"Of {self.took[seat]}"}}

        def ask() -> None:
            with contextlib.suppress(OSError, ValueError):  # of a process that was killed meanwhile
                self.ask("call", **given)

        threading.Thread(target=ask, daemon=True).start()
        if change:
            self.run.until("SELECT 1 FROM change WHERE id = ? AND state <> 'queued'", change)


@contextlib.contextmanager
def held(place: Yard) -> Iterator[None]:
    """Meanwhile no judgement of the gate comes to its end, and takes what comes for the next one."""
    over = threading.Event()

    def hold() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(OSError):  # of a judgement that has just ended, or was killed
                for script in place.home.glob("judges/**/step/slow.sh"):
                    (script.parent / "held").touch()

    holding = threading.Thread(target=hold, daemon=True)
    holding.start()
    try:
        yield
    finally:
        over.set()
        holding.join()
        for file in place.home.glob("judges/**/step/held"):
            file.unlink(missing_ok=True)


def recorded(place: Yard) -> tuple[Path, Run]:
    """A project, and a run of it whose recording it holds."""
    project = small_project(place.folder / "small", PARTS)
    gate_alone = project / "suites/late"
    gate_alone.mkdir()
    (gate_alone / "late.txt").write_text("late\n")
    (project / "seed/parts/late").write_text("late\n")
    file = project / "project.toml"
    slow = project / "suites/slow.sh"
    slow.write_text((project / "suites/has.sh").read_text().replace("#!/bin/sh\n", SLOW))
    slow.chmod(0o755)
    suite = (
        '[[suite]]\nname = "late"\ncases = "suites/late/*.txt"\nrun = "suites/slow.sh"\ntime = "300s"\nwhen = "gate"\n'
    )
    file.write_text(file.read_text().replace("[roles]", f"{suite}[roles]"))
    run = place.create(project, 3, name="first", models={"": "open"}, lease_s=600.0)
    run.serve()
    run.until("SELECT 1 FROM scorecard")
    team = Team(run)
    for seat, part in zip("123", ("blue", "green", "red"), strict=True):
        team.take(seat, f"agent-0{seat}/1")
        team.claim(seat, part)
    team.sh("1", "echo blue >parts/blue")
    team.sh("2", "echo green >parts/green; rm parts/base")
    team.sh("3", "echo red >parts/red; echo mine >parts/blue; echo x >/tmp/x")
    judging = "SELECT 1 FROM journal WHERE kind = 'judging' AND data ->> 'changes' LIKE ?"
    with held(place):
        team.submit("1", "C1")
        run.until(judging, '["C1"%')
        team.submit("3", "C2")
        team.submit("2", "C3")  # by the fast tier
        run.until("SELECT 1 FROM change WHERE id = 'C3' AND state = 'bounced'")
    run.until("SELECT 1 FROM change WHERE id = 'C1' AND state = 'landed'")
    run.until("SELECT 1 FROM change WHERE id = 'C2' AND state = 'bounced'")  # main conflicts with it by now
    for session in ("agent-01/2", "agent-02/1", "agent-03/1"):
        team.take(session[7], session)
    team.claim("1", "teal")
    team.sh("1", "echo teal >parts/teal")
    team.sh("2", "git checkout -q HEAD -- parts/base; echo no >parts/late")
    team.sh(
        "3", "git fetch -q; git checkout -q origin/main -- parts/blue; cat /tmp/x >parts/x || echo gone >parts/gone"
    )
    with held(place):
        team.submit("1", "C4")
        run.until(judging, '["C4"%')
        team.submit("2", "C5")  # judged in a batch with the next, and bounced by the gate
        team.submit("3", "C6")
        team.take("1", "agent-01/3")
        team.take("2", "agent-02/2")
        team.claim("1", "gold")
        team.sh("1", "echo gold >parts/gold")
        team.submit("1")  # is handed in when C4 has come to its end
        team.claim("2", "white")
        team.sh("2", "echo white >parts/white; touch /tmp/mark")
        run.until("SELECT 1 FROM session WHERE id = 'agent-01/3' AND state = 'waiting'")
    run.until("SELECT 1 FROM change WHERE id = 'C4' AND state = 'landed'")
    with held(place):
        run.until(judging, '["C5","C6"%')
        run.until("SELECT 1 FROM change WHERE id = 'C7' AND state = 'staged'")
        run.kill(tree=True)
    run.serve()
    run.until("SELECT 1 FROM change WHERE id = 'C5' AND state = 'bounced'")
    assert team.call("2", "shell", command="true")["session_over"] == "put-aside"
    team.take("2", "agent-02/1")
    team.sh("2", "echo late >parts/late")
    run.until("SELECT 1 FROM change WHERE id = 'C7'")
    team.submit("2", "C8")
    team.take("2", "agent-02/2")
    team.sh("2", "[ -e /tmp/mark ] || echo gone >parts/mark")
    team.submit("2")
    run.finish()
    assert place.say("record", "first", str(project / "recording")).returncode == 0
    return project, run


Source = tuple[Yard, Path, Run]


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    with yard() as place:
        yield place, *recorded(place)


def test_the_recording_holds_what_the_run_was_made_for(source: Source) -> None:
    _, project, run = source
    steps = Recording.read(project / FILE).steps
    assert {step.id for step in steps if step.kind == "bounced"} >= {"C3", "C2", "C5"}
    assert {"gone", "mark"} <= {*run.git("ls-tree", "--name-only", "refs/heads/main:parts").split()}


@pytest.mark.parametrize(
    ("agents", "replay", "deaths"), [(1, "short", 0), (4, "full", 0), (3, "short", 5), (16, "full", 6)]
)
def test_it_is_replayed_to_the_same_commits_and_recorded_again(
    source: Source, agents: int, replay: str, deaths: int
) -> None:
    place, project, run = source
    again = place.create(project, agents, name=f"again-{agents}", models={"": "recorded"}, replay=replay)
    killed(again, deaths)
    assert again.commits() == run.commits() and again.judged() == run.judged()
    same(place, again, (project / FILE).read_bytes())
    assert faults(again) == [] and place.leftovers() == []


def same(place: Yard, again: Run, recording: bytes) -> None:
    assert again.one("SELECT reason FROM run").startswith("recording finished"), again.tail()
    assert diverged(again) == [], again.tail()
    assert place.say("record", again.name, str(place.folder / again.name)).returncode == 0
    assert (place.folder / again.name / "recording.jsonl.xz").read_bytes() == recording


@contextlib.contextmanager
def shipped(project: Path, recording: Recording) -> Iterator[None]:
    """The project with another recording."""
    was = (project / FILE).read_bytes()
    (project / FILE).write_bytes(recording.packed())
    try:
        yield
    finally:
        (project / FILE).write_bytes(was)


def at(recording: Recording, do: str, id: str) -> int:
    return next(place for place, step in enumerate(recording.steps) if (step.do, step.id.split()[0]) == (do, id))


def stopped(whole: Recording, do: str, id: str) -> Recording:
    """As `record` writes it of a run that was stopped before a step."""
    before = whole.steps[: at(whole, do, id)]
    ended, number, steps = {step.id for step in before if step.do == "change"}, 0, list[Step]()
    for step in before:
        number += step.tool == "submit"
        if step.tool == "submit" and f"C{number}" not in ended:
            step = step.model_copy(update={"kind": UNANSWERED})
        if step.do != "judge" or ended.intersection(step.id.split()):
            steps.append(step)
    main = whole.head.main[: 1 + sum(step.kind == "landed" and step.do == "change" for step in before)]
    return Recording(whole.head.model_copy(update={"main": main}), tuple(steps))


@pytest.mark.parametrize(
    ("do", "id", "deaths"),
    [
        ("change", "C3", 0),  # that the fast tier lets bounce
        ("change", "C2", 2),  # with which main conflicts
        ("change", "C4", 0),  # that lands
        ("change", "C5", 2),  # that the gate lets bounce
        ("judge", "C6", 1),
    ],
)
def test_what_a_recording_leaves_undone_stays_so(source: Source, do: str, id: str, deaths: int) -> None:
    place, project, run = source
    cut = stopped(Recording.read(project / FILE), do, id)
    steps, main = cut.steps, cut.head.main
    with shipped(project, cut):
        again = place.create(project, 3, name=f"cut-{id}", models={"": "recorded"})
    killed(again, deaths)
    assert tuple(again.commits()) == main == tuple(run.commits()[: len(main)])
    ended = again.rows("SELECT id, state FROM change WHERE state IN ('landed', 'bounced', 'withdrawn')")
    assert {row["id"]: row["state"] for row in ended} == {one.id: one.kind for one in steps if one.do == "change"}
    same(place, again, cut.packed())


def edited(steps: list[Step]) -> None:
    (place,) = (place for place, step in enumerate(steps) if "echo teal" in str(step.arguments))
    steps[place] = steps[place].model_copy(update={"arguments": {"command": "echo teel >parts/teal"}})


def removed(steps: list[Step]) -> None:
    steps[:] = [step for step in steps if step.id != "agent-03/1.4.0"]


def not_handed_in(steps: list[Step]) -> None:
    steps[:] = [step for step in steps if step.id != "agent-01/1.3.0"]  # the last of its session


def swapped(steps: list[Step], ids: list[tuple[str, str]]) -> None:
    one, other = (next(n for n, step in enumerate(steps) if (step.do, step.id) == id) for id in ids)
    steps[one], steps[other] = steps[other], steps[one]


def otherwise(steps: list[Step], change: str, kind: str) -> None:
    place = [(step.do, step.id) for step in steps].index(("change", change))
    steps[place] = steps[place].model_copy(update={"kind": kind})


@pytest.mark.parametrize(
    ("name", "tamper", "words", "landed"),
    [
        ("edited", edited, "C4 would land as", 1),
        ("removed", removed, "agent-03/1.5.0 agent-03/1.4.0 is not in the recording", 1),
        ("lacking", not_handed_in, "C3 never came", 0),
        ("seats", partial(swapped, ids=[("call", f"agent-0{seat}/1.3.0") for seat in (1, 3)]), "C1 would land as", 0),
        ("order", partial(swapped, ids=[("stage", "C1"), ("judge", "C1")]), "C1 judge never came", 6),
        ("lost", partial(otherwise, change="C4", kind="bounced"), "C4 would land as", 1),
        ("won", partial(otherwise, change="C5", kind="landed"), "C5 bounced, recorded: landed as", 2),
    ],
)
def test_a_tampered_recording_ends_with_a_named_divergence_and_lands_nothing_else(
    source: Source, name: str, tamper: Callable[[list[Step]], None], words: str, landed: int
) -> None:
    place, project, run = source
    whole = Recording.read(project / FILE)
    tamper(steps := list(whole.steps))
    command = f"start {project} --agents 3 --model recorded --unlocked --sandbox bubblewrap --name {name}".split()
    with shipped(project, Recording(whole.head, tuple(steps))):
        played = place.say(*command)
    again = place.run(name)
    assert again.one("SELECT reason FROM run").startswith(f"recording diverged: {words}"), again.tail()
    assert played.returncode == 1 and diverged(again), played.stdout
    assert again.commits()[: landed + 1] == run.commits()[: landed + 1] and len(again.commits()) <= 1 + landed
    assert broken(again) == []


def test_at_the_recorded_pace_nobody_who_waits_for_its_time_is_given_up(source: Source) -> None:
    place, project, run = source
    whole = Recording.read(project / FILE)
    began = whole.steps[-1].at
    late, teal = began + timedelta(seconds=12), at(whole, "call", "agent-01/2.2.0")
    paced = [  # a change's date is its commit's
        step if step.tool == "submit" else step.model_copy(update={"at": late if place >= teal else began})
        for place, step in enumerate(whole.steps)
    ]
    with shipped(project, Recording(whole.head, tuple(paced))):
        again = place.create(project, 3, name="paced", models={"": "recorded"}, pace="real")
    killed(again, 0)
    assert again.commits() == run.commits()
    same(place, again, Recording(whole.head, tuple(paced)).packed())
