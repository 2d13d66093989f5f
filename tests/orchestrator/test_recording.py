"""A run can be recorded, and the recording replayed to the same commits (docs/operators.md, "Recordings")."""

from __future__ import annotations

import itertools
import json
import lzma
import math
import re
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import board
from orchestrator.control import Refusal
from orchestrator.recording import FILE, UNANSWERED, Quotes, Recording, _again, _steps
from orchestrator.recording import Step as Recorded
from orchestrator.records import Session, SessionState, TaskSource
from orchestrator.store import Store, Tx, reading, sessions
from orchestrator.workspace import Sight, seen
from sandbox.room import Command, Result
from tests.orchestrator.running import SUBMIT, Run, Step, Yard, faults, made, shell, small_project, small_team, yard

VERIFY: Step = {"tool": "verify", "what": "task"}


SOURCES = tempfile.TemporaryDirectory()
(Path(SOURCES.name) / "case").write_text("\n".join(["c", *2 * ["a" * 20, "b" * 20, ""], "c"]))
QUOTES = Quotes(Path(SOURCES.name))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("said", [b"", b"no\n", b"%s %s x\n" % (b"a" * 40, b"b" * 40), b"a" * 40 + b" "])
async def test_what_a_room_says_of_its_workspace_is_believed_in_its_form_alone(said: bytes) -> None:
    async def answering(text: bytes) -> Sight:
        async def run(command: Command) -> Result:
            return Result(0, text, b"", 0.1)

        return await seen(run)

    assert await answering(said) == Sight()
    assert await answering(b"%s %s \n" % (b"a" * 40, b"b" * 40)) == Sight("a" * 40, "b" * 40)


@pytest.fixture
def place() -> Iterator[Yard]:
    with yard() as made_yard:
        yield made_yard


def test_what_each_call_came_to_is_kept_for_a_recording(place: Yard) -> None:
    steps = {
        "looks": (shell("git status; ls"), "ok"),
        "fails": (shell("exit 3"), "exit 3"),
        "late": (shell("echo late >parts/late; sleep 9", timeout_s=1), "timeout"),
        "writes": (shell("rm parts/late; echo blue >parts/blue"), "ok"),
        "edits": ({"tool": "edit", "path": "parts/blue", "old": "red", "new": "x"}, "refused"),
        "commits": (shell("git add -A && git commit -qm blue"), "ok"),
        "views": ({"tool": "view", "path": "parts/blue"}, "ok"),
        "strange": ({"tool": "shell"}, "refused"),
    }
    calls = {
        "blue": [*(step for step, _ in steps.values()), SUBMIT],
        "red": [shell("git pull -q"), made("red"), SUBMIT],
    }
    team = small_team(place.folder / "team.toml", [*calls], calls.__getitem__)
    run = place.create(small_project(place.folder / "small", [*calls]), 1, models={"": f"scripted:{team}"})
    run.serve()
    run.finish()
    rows = [dict(row) for row in run.rows("SELECT * FROM call ORDER BY session, turn")]
    first, second = ([row for row in rows if row["session"] == f"agent-01/{n}"] for n in (1, 2))
    seen = dict(zip(steps, [row for row in first if row["name"] not in ("tasks", "claim", "submit")], strict=True))
    assert {name: row["kind"] for name, row in seen.items()} == {name: kind for name, (_, kind) in steps.items()}
    tree = {name: run.git("rev-parse", f"{row['tree']}^{{tree}}") for name, row in seen.items() if name == "late"}
    assert "late" in run.git("ls-tree", "--name-only", f"{tree['late']}:parts")  # cut short: its files are kept
    assert seen["looks"]["stamp"] == seen["fails"]["stamp"] != seen["late"]["stamp"] != seen["writes"]["stamp"]
    assert seen["writes"]["stamp"] == seen["edits"]["stamp"] != seen["commits"]["stamp"]
    landed = run.one("SELECT tree FROM change WHERE id = 'C1'")
    assert seen["writes"]["tree"] == seen["commits"]["tree"] == landed
    assert seen["views"]["stamp"] == seen["strange"]["stamp"] == "" and seen["strange"]["began"] is None
    mains = [row["main"] for row in second]  # it may have begun while the first one's change was judged
    assert {row["main"] for row in first} == {0, None}
    assert mains == sorted(mains) and {*mains} <= {0, 1} and mains[-1] == 1
    places = [(row["began"], row["ended"]) for row in rows if row["began"]]
    assert places == sorted(places) and all(began < ended for began, ended in places)


def recorded(place: Yard, name: str = "first", agents: int = 3) -> tuple[Path, Run]:
    """A project, and a run of it whose recording it holds: two scripted sessions write at once, pull, lose and win."""
    parts = ("blue", "green", "red", "white")
    project = small_project(place.folder / "small", parts)
    script = "#!/bin/sh\necho $1 >parts/$1\n"

    def calls(part: str) -> list[Step]:
        look = [shell("ls parts; sleep 0.3"), {"tool": "view", "path": "parts/base"}]
        if part == "green":  # breaks the base at first, with a script that a short replay would not have
            wrong = [
                shell(f"printf '{script}' >/tmp/$$.sh; mv /tmp/*.sh /tmp/make"),
                shell("cd parts; rm base; cd ..; T=/tmp; sh $T/make green"),
            ]
            return [
                *look,
                *wrong,
                SUBMIT,
                shell("git checkout -q HEAD -- parts/base"),
                {"tool": "verify", "what": "task"},
                SUBMIT,
            ]
        return [
            *look,
            shell("git pull -q"),
            {"tool": "note", "topic": "parts", "text": part},
            made(part),
            VERIFY,
            SUBMIT,
        ]

    team = small_team(place.folder / "team.toml", parts, calls)
    run = place.create(project, agents, name=name, models={"": f"scripted:{team}"}, budget=90_000_000)
    run.serve()
    run.finish()
    done = place.say("record", name, str(project / "recording"))
    assert done.returncode == 0, done.stderr
    return project, run


def diverged(run: Run) -> list[str]:
    return [row[0] for row in run.rows("SELECT data FROM journal WHERE kind = 'diverged' ORDER BY seq")]


def test_a_recording_is_replayed_to_the_same_commits_by_teams_of_other_sizes_and_recorded_again(place: Yard) -> None:
    project, run = recorded(place)
    shipped = (project / FILE).read_bytes()
    for agents, replay in ((1, "short"), (5, "full")):
        again = place.create(project, agents, name=f"again-{agents}", models={"": "recorded"}, replay=replay)
        again.serve()
        again.finish()
        assert again.one("SELECT reason FROM run").startswith("recording finished"), again.tail()
        assert diverged(again) == [], again.tail()
        assert (" 0 of them skipped" in again.one("SELECT reason FROM run")) == (replay == "full")
        assert again.commits() == run.commits()
        assert again.judged() == run.judged()
        assert place.say("record", again.name, str(place.folder / again.name)).returncode == 0
        assert (place.folder / again.name / "recording.jsonl.xz").read_bytes() == shipped
        assert faults(again) == []
    assert place.leftovers() == []


def test_a_recording_of_a_runs_first_landings_is_replayed_and_recorded_again(place: Yard) -> None:
    project, run = recorded(place)
    with reading(run.db) as db:
        (handed_in,) = db.execute("SELECT seq FROM journal WHERE kind = 'submitted' ORDER BY seq LIMIT 1").fetchone()
        (call,) = db.execute("SELECT call FROM change WHERE id = 'C1'").fetchone()
        *_, last = (step for step in _steps(db, run.commits(), handed_in) if step.tool == "submit")
        assert last.kind == UNANSWERED and last.id.rpartition("/")[0] == call.rpartition("/")[0]
        answered = {step.kind for step in _steps(db, run.commits(), math.inf) if step.tool == "submit"}
        assert answered == {"ok", "refused"}
    done = place.say("record", run.name, str(project / "recording"), "--landings", "2")
    assert done.returncode == 0, done.stderr
    again = place.create(project, 3, name="again", models={"": "recorded"})
    again.serve()
    again.finish()
    assert diverged(again) == [] and again.commits() == run.commits()[:3]
    assert place.say("record", again.name, str(place.folder / again.name)).returncode == 0
    assert (place.folder / again.name / "recording.jsonl.xz").read_bytes() == (project / FILE).read_bytes()


@pytest.mark.anyio
@pytest.mark.parametrize("given", [True, False])
async def test_a_session_began_with_a_task_only_where_it_got_it_in_the_same_moment(tmp_path: Path, given: bool) -> None:
    seconds = itertools.count()
    store = Store(tmp_path / "state.db", lambda: datetime(2026, 3, 14, tzinfo=UTC) + timedelta(seconds=next(seconds)))
    await store.create("run", "{}")

    def put(tx: Tx) -> str:
        return board.put(tx, "a task", TaskSource.CASES, by="run", cases=("s/a",)).id

    task = await store.write(put)

    def begin(tx: Tx) -> None:
        session = Session("agent-01/1", "agent-01", 1, "builder", "open", SessionState.ACTIVE, tx.now, "base")
        sessions.start(tx, session)
        if given:
            board.claim(tx, task, session.id)

    await store.write(begin)
    if not given:
        await store.write(lambda tx: board.claim(tx, task, "agent-01/1"))
    [start] = await store.read(lambda db: _steps(db, ["base"], math.inf))
    assert start.task == (task if given else "")
    await store.close()


@pytest.mark.parametrize("background", [True, False])
def test_how_far_a_job_had_come_when_its_start_was_answered_is_recorded_as_it_first_was(background: bool) -> None:
    arguments = {"command": "make", "background": background}
    facts: dict[str, Any] = {"at": datetime(2026, 3, 14, tzinfo=UTC), "main": 0, "tool": "shell", "kind": "ok"}
    then = Recorded(do="call", id="agent-01/1.1.0", tree="a" * 40, arguments=arguments, **facts)
    now = then.model_copy(update={"tree": "b" * 40})
    assert [step.tree for step in _again([now], [then])] == [then.tree if background else now.tree]
    failed = now.model_copy(update={"kind": "exit 1"})
    assert [step.tree for step in _again([failed], [then])] == [now.tree]


def test_a_replay_killed_at_random_moments_ends_with_the_same_commits(place: Yard) -> None:
    project, run = recorded(place)
    again = place.create(project, 3, name="again", models={"": "recorded"})
    killed(again, 4)
    assert again.one("SELECT reason FROM run").startswith("recording finished"), again.tail()
    assert diverged(again) == [], again.tail()
    assert again.commits() == run.commits() and again.judged() == run.judged()
    assert place.say("record", again.name, str(place.folder / "made")).returncode == 0
    assert (place.folder / "made/recording.jsonl.xz").read_bytes() == (project / FILE).read_bytes()
    assert faults(again) == [] and place.leftovers() == []


def killed(run: Run, deaths: int) -> None:
    """Serves a run to its end, through deaths after so many journaled events: drawn, but the same in each test."""
    moments, journaled = Random(deaths), 0
    for death in range(deaths):
        run.serve(f"journal {journaled + moments.randint(3, 30)}{' tree' * (death % 2)}")
        if run.wait() == "ended":
            return
        run.died()
        journaled = run.one("SELECT max(seq) FROM journal")
    run.serve()
    run.finish()


def altered(project: Path, old: str, new: str) -> None:
    """The project's recording with one of its calls asking for something else."""
    file = project / FILE
    text = lzma.decompress(file.read_bytes())
    assert text.count(old.encode()) == 1
    file.write_bytes(lzma.compress(text.replace(old.encode(), new.encode())))


@pytest.mark.parametrize("wrong", ["echo blew", "exit"])
def test_a_tampered_recording_ends_with_a_named_divergence_and_lands_nothing_that_fails(
    place: Yard, wrong: str
) -> None:
    project, _ = recorded(place)
    altered(project, "echo blue", wrong)
    (call,) = (step.id for step in Recording.read(project / FILE).steps if wrong in str(step.arguments))
    again = place.create(project, 3, name="again", models={"": "recorded"})
    again.serve()
    again.finish()
    assert again.one("SELECT reason FROM run").startswith("recording diverged: C"), again.tail()
    first = json.loads(diverged(again)[0])
    assert first["what"] == f"{call} shell" and "its tree is" in first["now"]
    assert broken(again) == []


def broken(run: Run) -> list[str]:
    """Its faults, but for changes without an end: a replay that has diverged takes none of them further."""
    return [fault for fault in faults(run) if " is still " not in fault]


def test_what_a_kill_cut_short_is_in_the_recording_as_what_it_had_done(place: Yard) -> None:
    project = small_project(place.folder / "small", ["blue"])
    before = "echo own >parts/own; git add -A; git commit -qm own; echo x >parts/x; git add parts/x"
    cut = "git commit -qm cut; mkdir parts/new; echo blue | tee parts/blue >parts/new/blue; git add parts/new"
    cut += "; rm parts/own"
    log = "{ git log --format=%s -2; git diff --cached --name-only; } | tee parts/log; git checkout parts/own"
    calls = [shell(before), shell(f"{cut}; sleep 99"), shell(log), SUBMIT]
    team = small_team(place.folder / "team.toml", ["blue"], lambda _: calls)
    run = place.create(project, 1, models={"": f"scripted:{team}"})
    run.serve()
    run.until("SELECT 1 FROM call WHERE state = 'running' AND turn = 4")
    time.sleep(2)
    run.kill(tree=True)
    run.serve()
    run.finish()
    assert run.git("show", "main:parts/log").split() == ["cut", "own", "parts/new/blue"]
    assert place.say("record", "run", str(project / "recording")).returncode == 0
    (step,) = (step for step in Recording.read(project / FILE).steps if step.kind == "interrupted")
    assert step.moved and step.left
    again = place.create(project, 1, name="again", models={"": "recorded"})
    again.serve()
    again.finish()
    assert diverged(again) == [] and again.commits() == run.commits() and len(run.commits()) == 2
    assert place.say("record", "again", str(place.folder / "made")).returncode == 0
    assert (place.folder / "made/recording.jsonl.xz").read_bytes() == (project / FILE).read_bytes()


@pytest.mark.parametrize("replay", ["short", "full"])
def test_a_background_job_and_what_it_left_outside_of_the_workspace_are_there_again_after_a_kill(
    place: Yard, replay: str
) -> None:
    project = small_project(place.folder / "small", ["blue"])
    job = shell("sleep 2; echo blue >/tmp/made; echo made >parts/log", background=True)
    calls = [job, {"tool": "wait", "job": 2}, shell("cat /tmp/made >parts/blue"), SUBMIT]
    run = place.create(
        project, 1, models={"": f"scripted:{small_team(place.folder / 'team.toml', ['blue'], lambda _: calls)}"}
    )
    run.serve()
    run.finish()
    assert place.say("record", "run", str(project / "recording")).returncode == 0
    again = place.create(project, 1, name="again", models={"": "recorded"}, replay=replay)
    called = "SELECT 1 FROM call WHERE name = ? AND state = ?"
    for tree, moment in ((False, ("wait", "running")), (True, ("wait", "done"))):
        again.serve()
        again.until(called, *moment)
        again.kill(tree=tree)
    again.serve()
    again.finish()
    assert diverged(again) == [], again.tail()
    assert again.commits() == run.commits() and len(run.commits()) == 2
    assert place.say("record", "again", str(place.folder / "made")).returncode == 0
    assert (place.folder / "made/recording.jsonl.xz").read_bytes() == (project / FILE).read_bytes()


@pytest.mark.parametrize("looking", [False, True])
def test_a_job_is_given_the_time_to_come_as_far_as_it_had_when_the_recorded_run_looked(
    place: Yard, looking: bool
) -> None:
    project = small_project(place.folder / "small", ["blue"])
    job = shell("sleep 2; echo blue >parts/blue", background=True)
    calls = [job, shell("true"), {"tool": "wait", "job": 2}, shell("test -e parts/blue && echo >>parts/blue"), SUBMIT]
    team = small_team(place.folder / "team.toml", ["blue"], lambda _: calls)
    run = place.create(project, 1, models={"": f"scripted:{team}"})
    run.serve()
    run.finish()
    assert place.say("record", "run", str(project / "recording")).returncode == 0
    recording = Recording.read(project / FILE)
    begun, looked, waited, *_ = (step for step in recording.steps if step.in_room)
    late = looked if looking else begun
    assert late.tree != waited.tree
    seen = late.model_copy(update={"tree": waited.tree, "moved": True})
    steps = tuple(seen if step is late else step for step in recording.steps)
    (project / FILE).write_bytes(Recording(recording.head, steps).packed())
    again = place.create(project, 1, name="again", models={"": "recorded"})
    again.serve()
    again.finish()
    assert diverged(again) == [] and again.commits() == run.commits() and len(run.commits()) == 2, again.tail()


def test_what_ended_in_the_recorded_run_is_given_the_time_to_end_on_a_slower_machine(place: Yard) -> None:
    project = small_project(place.folder / "small", ["blue"])
    job, slow = shell("sleep 2; exit 3", background=True), shell("sleep 2; echo blue >parts/blue", timeout_s=60)
    calls = [job, {"tool": "wait", "job": 2, "timeout_s": 60}, slow, SUBMIT]
    team = small_team(place.folder / "team.toml", ["blue"], lambda _: calls)
    run = place.create(project, 1, models={"": f"scripted:{team}"})
    run.serve()
    run.finish()
    assert place.say("record", "run", str(project / "recording")).returncode == 0
    text = lzma.decompress((project / FILE).read_bytes()).decode()
    assert text.count('"timeout_s":60') == 2
    (project / FILE).write_bytes(lzma.compress(text.replace('"timeout_s":60', '"timeout_s":1').encode()))
    again = place.create(project, 1, name="again", models={"": "recorded"})
    again.serve()
    again.finish()
    assert diverged(again) == [] and again.commits() == run.commits() and len(run.commits()) == 2, again.tail()


def test_start_plays_a_projects_recording_and_refuses_one_of_another_lock_in_words(place: Yard) -> None:
    project, run = recorded(place)
    words = ["start", str(project), "--agents", "4", "--model", "recorded", "--unlocked", "--sandbox", "bubblewrap"]
    played = place.say(*words, "--name", "demo")
    last = played.stdout.splitlines()[-1]
    assert played.returncode == 0, played.stderr
    main = run.commits()
    counts = "visible 4/5 held-out 0/0, 3 landed, 3 bounced"
    assert re.fullmatch(
        rf"demo: {counts}, \d sessions, main {main[0][:10]}\.\.{main[-1][:10]}, cost unmetered", last
    ), last
    assert "replay     0 divergences" in played.stdout
    assert played.stdout.splitlines()[-2].endswith(" 0 divergences"), played.stdout
    (project / "suites/has.sh").write_text("#!/bin/sh\nexit 0\n")
    other = place.say(*words, "--name", "other")
    assert other.returncode == 6 and "made under another lock: project, verifiers differ" in other.stderr
    assert place.say(*words[:-4], "--model", "builder=open").returncode == 2
    assert not (place.logs / "other").exists()
    (project / FILE).unlink()
    assert place.say(*words).returncode == 4


def test_a_recording_holds_no_line_of_a_case_and_a_replay_reads_it_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "torture").mkdir()
    case = "int main (void)\n{\n  unsigned long long x = 1;\n\n  if (x << 3 != 8)\n    abort ();\n  exit (0);\n}\n"
    (tmp_path / "torture/a.c").write_text(case)
    (tmp_path / "torture/b.c").write_text("static short y;\n" + case)
    quotes = Quotes(tmp_path)
    said = {"command": f"cat >t.c <<'E'\n{case}E\ncc t.c\nint main (void)\n{{\n", "background": False, "fixes": ["a/b"]}
    folded = quotes.folded(said)
    assert "unsigned" not in folded["command"] and "cc t.c\nint main" in folded["command"]
    assert folded["background"] is False and quotes.unfolded(folded) == said
    with pytest.raises(Refusal, match=r"quotes torture/a.c from line 1 on, which is not there"):
        Quotes(tmp_path / "nowhere").unfolded(folded)


@given(st.lists(st.sampled_from(["a" * 20, "b" * 20, "c", "", "\0"]), max_size=12))
def test_quotations_come_back_as_they_were(lines: list[str]) -> None:
    text = "\n".join(lines).replace("\0", " ")
    assert QUOTES.unfolded(QUOTES.folded({"text": text})) == {"text": text}


def test_what_stands_between_conflict_markers_is_no_divergence(place: Yard) -> None:
    """They name a commit of the workspace's own, whose id has its time in it."""
    parts = ("blue", "red")
    project = small_project(place.folder / "small", parts)
    commit = "echo {0} >parts/{0}; echo {0} >parts/shared; git add -A; git commit -qm {0}"

    def calls(part: str) -> list[Step]:
        if part == "blue":
            return [shell(commit.format(part)), SUBMIT]
        wait = "until git fetch -q && git cat-file -e origin/main:parts/blue 2>/dev/null; do sleep 0.2; done"
        pull = shell("git pull -q --rebase; git status --short; grep -q '>>>>>>>' parts/shared")
        mend = shell("echo both >parts/shared; git add -A; GIT_EDITOR=true git rebase --continue")
        return [shell(commit.format(part)), shell(wait), pull, mend, SUBMIT]

    team = small_team(place.folder / "team.toml", parts, calls)
    run = place.create(project, 2, name="first", models={"": f"scripted:{team}"})
    run.serve()
    run.finish()
    assert run.one("SELECT count(*) FROM change WHERE state = 'landed'") == 2
    assert place.say("record", "first", str(project / "recording")).returncode == 0
    for replay in ("short", "full"):
        again = place.create(project, 2, name=replay, models={"": "recorded"}, replay=replay)
        again.serve()
        again.finish()
        assert diverged(again) == [] and again.git("rev-parse", "main") == run.git("rev-parse", "main")
        assert place.say("record", replay, str(place.folder / replay)).returncode == 0
        assert (place.folder / replay / Path(FILE).name).read_bytes() == (project / FILE).read_bytes()
