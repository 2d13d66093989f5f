"""What people type and see, on runs written through the store: words, JSON fields, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from orchestrator import control
from orchestrator.cli import process
from orchestrator.cli.app import COMMANDS, main
from orchestrator.control import EXIT
from orchestrator.git import GitError
from orchestrator.repository import message
from orchestrator.store import reading
from orchestrator.watch.journal import entries
from tests.orchestrator.made_run import CASES, make_exceptions, make_run

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        parsed: dict[str, Any] = json.loads(lines[0])
        return parsed


Type = Callable[..., Said]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks on the screen are local: the tests live in Greenwich."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("ORCHESTRATOR_LOGS", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that nobody changes."""
    logs = tmp_path_factory.mktemp("logs")
    make_run(logs, "c-compiler-1", ended=False, metered=False)
    make_run(logs, "c-compiler-2")
    return logs


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Type:
    def run(*arguments: object, logs: Path) -> Said:
        code = main([*map(str, arguments), "--logs", str(logs)])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


def golden(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("runs", "runs"),
        ("status", "status"),
        ("status-dead", "status c-compiler-1"),
        ("why-bounced", "why C4"),
        ("why-landed", "why C5"),
        ("why-task", "why T4"),
        ("why-seat", "why agent-02"),
        ("why-session", "why agent-02/1"),
        ("why-case", f"why {CASES[6]}"),
        ("blame", f"blame {CASES[6]}"),
        ("blame-failing", f"blame {CASES[37]}"),
        ("cases", "cases torture/*3-1*"),
        ("cases-failing", "cases --failing"),
        ("regressions", "regressions"),
        ("cost-role", "cost"),
        ("cost-task", "cost --by task"),
        ("cost-unmetered", "cost c-compiler-1"),
        ("tasks", "tasks"),
        ("tasks-all", "tasks --show all"),
        ("logs-run", "logs run"),
        ("logs-gate", "logs c-compiler-2 gate"),
        ("logs-seat", "logs agent-02"),
    ],
)
def test_reads_as_the_golden_text(name: str, command: str, say: Type, shared: Path) -> None:
    golden(name, say(*command.split(), logs=shared).out)


@pytest.mark.parametrize(("name", "command"), [("status-excused", "status"), ("tasks-excused", "tasks")])
def test_reads_as_the_golden_text_where_main_may_lose_cases(name: str, command: str, say: Type, tmp_path: Path) -> None:
    make_exceptions(make_run(tmp_path))
    golden(name, say(command, logs=tmp_path).out)


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("status", "state healthy suites spent_usd burn_usd_h seats queue attention excused"),
        ("why C4", "id kind outcome reason lost gained next"),
        (f"blame {CASES[6]}", "case now history task"),
        ("cases", "rows"),
        ("regressions", "rows total"),
        ("cost", "rows waste in_doubt core_hours"),
        ("tasks", "rows"),
        ("runs", "rows"),
        ("logs agent-02", "rows"),
    ],
)
def test_json_is_one_object_with_the_promised_fields(command: str, keys: str, say: Type, shared: Path) -> None:
    answer = say(*command.split(), "--json", logs=shared)
    assert {"schema", "run", "as_of", *keys.split()} <= answer.json.keys()
    assert answer.json["schema"] == f"{command.split()[0]}/1"
    assert answer.json["as_of"].endswith("Z")
    assert answer.err == ""


def test_money_in_json_is_a_decimal_string_and_unknown_is_null(say: Type, shared: Path) -> None:
    assert say("status", "c-compiler-2", "--json", logs=shared).json["spent_usd"] == "6.53"
    assert say("status", "c-compiler-1", "--json", logs=shared).json["spent_usd"] is None


def test_why_names_where_a_lost_case_still_passes(say: Type, shared: Path) -> None:
    (lost,) = say("why", "C4", "--json", logs=shared).json["lost"]
    assert lost == {
        "case": CASES[2],
        "passes_on": ["main commit3"],
        "fails_from": "C4",
        "runs": 2,
        "line": "ERROR run: exit 134, expected 0",
    }


@pytest.mark.parametrize(
    ("command", "code", "kind"),
    [
        ("stattus", 2, "usage"),
        ("status --nonsense", 2, "usage"),
        ("logs a b c", 2, "usage"),
        ("logs --since soon", 2, "usage"),
        ("set budget=lots", 2, "usage"),
        ("waive", 2, "usage"),
        ("waive torture/x", 2, "usage"),
        ("waive torture/x --until 2d", 2, "usage"),
        ("waive torture/x --reason why", 2, "usage"),
        ("waive torture/x --reason why --until soon", 2, "usage"),
        ("waive torture/x --reason why --until 9999-12-31", 4, "not_found"),
        ("waive torture/* --reason why --until 9999-12-31", 2, "usage"),
        ("waive torture/* --reason why --until 2000-01-01", 2, "usage"),
        ("waive torture/* --reason why --until 2d", 1, "refused"),
        ("waive torture/held-1 --reason why --until 2d", 4, "not_found"),
        ("waive torture/x --end --until 2d", 2, "usage"),
        ("waive torture/x --end", 4, "not_found"),
        ("waive torture/x a b --end", 2, "usage"),
        ("set colour=red", 2, "usage"),
        ("set budget=0.0000001", 2, "usage"),
        ("set budget=inf", 2, "usage"),
        (f"set budget={'9' * 400}", 2, "usage"),
        ("logs --since 999999d", 2, "usage"),
        ("project", 2, "usage"),
        ("project look x", 2, "usage"),
        ("why", 2, "usage"),
        ("status nope", 4, "not_found"),
        ("why C99", 4, "not_found"),
        ("why T99", 4, "not_found"),
        ("why agent-99", 4, "not_found"),
        ("why agent-02/9", 4, "not_found"),
        ("why torture/none", 4, "not_found"),
        ("why nonsense", 4, "not_found"),
        ("blame", 2, "usage"),
        ("blame nonsense", 4, "not_found"),
        ("blame torture/held-1", 4, "not_found"),
        ("cases *held*", 4, "not_found"),
        ("cases unit/* --failing", 4, "not_found"),
        ("logs agent-99", 4, "not_found"),
        ("pause c-compiler-2", 1, "refused"),
        ("say hello", 1, "refused"),
        ("status ../c-compiler-2", 4, "not_found"),
    ],
)
def test_a_wrong_command_ends_with_its_code_and_says_so_twice(
    command: str, code: int, kind: str, say: Type, shared: Path
) -> None:
    answer = say(*command.split(), logs=shared)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("error: ")
    error = say(*command.split(), "--json", logs=shared).json["error"]
    assert error["kind"] == kind
    assert error.keys() == {"kind", "message", "where", "hint"}
    assert EXIT[kind] == code


def test_an_empty_folder_holds_nothing_to_show(say: Type, tmp_path: Path) -> None:
    assert say("runs", logs=tmp_path).code == 4
    assert say("status", logs=tmp_path).code == 4


def test_a_dead_run_is_not_healthy(say: Type, shared: Path) -> None:
    answer = say("status", "c-compiler-1", logs=shared)
    assert answer.code == 1
    assert "NOT RUNNING" in answer.out
    assert say("status", "c-compiler-2", "--check", logs=shared).code == 0


def test_no_command_shows_a_control_character_or_a_direction_mark(say: Type, shared: Path) -> None:
    for command in ("status", "tasks", "why T4", "why C4", "logs", "logs agent-01", "why agent-01/1", "cost --by task"):
        shown = say(*command.split(), logs=shared).out
        assert not {mark for mark in shown if mark != "\n" and (ord(mark) < 32 or mark in "\x7f\x9b\u202e")}, command
    assert "\\x1b[2J" in say("tasks", logs=shared).out


def test_heldout_results_are_nowhere_until_they_are_revealed(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    commands = "status,logs,logs gate,logs run,why C12,tasks,cost,runs,cases,regressions"
    for command in commands.split(","):
        shown = say(*command.split(), "--json", logs=tmp_path).out
        assert "torture/held" not in shown
        assert json.loads(shown).get("heldout") is None
    assert "6/10" in say("status", "--reveal", logs=tmp_path).out
    say("status", "--reveal", logs=tmp_path)
    with reading(folder / "state.db") as db:
        assert len(entries(db, "kind = 'revealed'")) == 1


def test_a_run_left_out_is_the_only_live_one_else_the_newest(say: Type, tmp_path: Path) -> None:
    for name in ("x-1", "x-2", "x-3"):
        make_run(tmp_path, name, ended=False)
    assert say("status", "--json", logs=tmp_path).json["run"] == "x-3"
    (tmp_path / "x-1" / "run.pid").write_text(str(os.getpid()))
    assert say("status", "--json", logs=tmp_path).json["run"] == "x-1"
    (tmp_path / "x-2" / "run.pid").write_text(str(os.getpid()))
    answer = say("status", logs=tmp_path)
    assert answer.code == 2
    assert "x-1, x-2" in answer.err


def test_a_process_that_was_given_a_dead_runs_number_is_not_that_run(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    (folder / "run.pid").write_text(str(os.getpid()))
    os.utime(folder / "run.pid", (0, 0))
    assert say("status", "--json", logs=tmp_path).json["state"] == "dead"


@dataclass
class Ear:
    """Stands where a run's process would: answers over the real socket and remembers what it was asked."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    slow_s: float = 0.0

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.heard.append(request)
        await anyio.sleep(self.slow_s)
        if request["do"] == "say" and request["to"] == "agent-09":
            raise control.Refusal("there is no agent-09", "not_found")
        return {}


@pytest.mark.parametrize("dies", ["before it listens", "while it listens"])
def test_what_a_killed_process_listened_at_is_gone_after_the_next(dies: str, tmp_path: Path) -> None:
    folder, short = tmp_path / "run", tmp_path / "short"
    folder.mkdir()
    short.mkdir()
    script = """if True:
        import anyio, os, pathlib, sys
        from orchestrator import control

        async def die(*_, **__):
            os.kill(os.getpid(), 9)

        async def serve():
            if sys.argv[2].startswith("before"):
                anyio.create_unix_listener = die
            async with control.listening(pathlib.Path(sys.argv[1]), die):
                await die()

        anyio.run(serve)"""
    command = [sys.executable, "-c", script, str(folder), dies]
    subprocess.run(command, env={**os.environ, "TMPDIR": str(short)}, check=False)
    assert len(list(short.iterdir())) == len(list(folder.iterdir())) == 1
    control.forget(folder)  # as the next process does first
    assert list(short.iterdir()) == list(folder.iterdir()) == []


@contextmanager
def listening(folder: Path) -> Iterator[Ear]:
    ear, ready, stop = Ear(), threading.Event(), anyio.Event

    async def serve() -> None:
        async with control.listening(folder, ear.answer):
            closing = stop()
            closers.append(lambda: anyio.from_thread.run_sync(closing.set, token=token))
            token = anyio.lowlevel.current_token()
            ready.set()
            await closing.wait()

    closers: list[Callable[[], None]] = []
    (folder / "run.pid").write_text(str(os.getpid()))
    thread = threading.Thread(target=anyio.run, args=(serve,))
    thread.start()
    ready.wait()
    try:
        yield ear
    finally:
        closers[0]()
        thread.join()


def test_who_waits_hears_of_the_gate_but_a_seat_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest thing that the gate did may be that held-out cases were judged."""
    folder = make_run(tmp_path, ended=False)
    monkeypatch.setattr(process, "NEWS_S", 0.05)
    with listening(folder) as ear:
        ear.slow_s = 0.3
        process.tell(folder, "say", to="agent-02", text="hello")
        assert "held-out" in capsys.readouterr().err
        process.tell(folder, "seat", verb="board", token="")
        waited = capsys.readouterr().err.splitlines()
    assert waited and {re.sub(r"\d+", "0", line) for line in waited} == {"… 0 s"}


def test_steering_a_live_run_asks_its_process_once_and_says_who(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with listening(folder) as ear:
        assert say("pause", "--now", logs=tmp_path).code == 0
        assert say("say", "agent-02", "prefer aarch64", logs=tmp_path).code == 0
        assert say("set", "budget=25.5", logs=tmp_path).code == 0
        assert say("resume", logs=tmp_path).code == 0
        assert say("say", "agent-09", "hello", logs=tmp_path).code == 4
    assert [(one["do"], one.get("key"), one.get("value")) for one in ear.heard] == [
        ("pause", None, None),
        ("say", None, None),
        ("set", "budget", 25_500_000),
        ("resume", None, None),
        ("say", None, None),
    ]
    assert all(one["by"] for one in ear.heard)


def test_a_dry_run_changes_nothing(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with listening(folder) as ear:
        waive = f"waive {CASES[0]} --reason why --until 2h"
        for command in ("pause", "stop", "resume", "say hello", "set budget=9", waive):
            answer = say(*command.split(), "--dry-run", logs=tmp_path)
            assert (answer.code, "would" in answer.out) == (0, True), command
    assert ear.heard == []


def test_a_stopped_run_takes_a_new_budget_as_a_changed_condition(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    assert say("set", "c-compiler-2", "budget=30", logs=tmp_path).code == 0
    assert say("status", "--json", logs=tmp_path).json["budget_usd"] == "30.00"
    with reading(folder / "state.db") as db:
        (event,) = entries(db, "kind = 'condition-changed'")
    assert (event.data["what"], event.data["old"], event.data["new"]) == ("budget", 20_000_000, 30_000_000)


def test_a_waiver_is_asked_of_a_live_run_with_its_end_in_utc(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with listening(folder) as ear:
        asked = ("waive", CASES[0], "c-compiler-2", "unit/*", "--reason", "a rewrite")
        assert say(*asked, "--until", "90m", logs=tmp_path).code == 0
    ((heard),) = ear.heard
    assert (heard["do"], heard["cases"], heard["reason"]) == ("waive", [CASES[0], "unit/*"], "a rewrite")
    ahead = datetime.fromisoformat(heard["until"]) - datetime.now(UTC)
    assert timedelta(minutes=89) < ahead <= timedelta(minutes=90) and heard["until"].endswith("+00:00") and heard["by"]


def test_a_stopped_run_takes_a_waiver_by_date_and_its_end(say: Type, tmp_path: Path) -> None:
    make_run(tmp_path)
    day = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"
    before = say("status", "--json", logs=tmp_path).json
    for _ in range(2):
        done = say("waive", CASES[0], "--reason", "a rewrite", "--until", day, "--json", logs=tmp_path).json
        assert done["did"] == f"waive {CASES[0]} until {day} 00:00:00: a rewrite"
    after = say("status", "--json", logs=tmp_path).json
    assert before["excused"] == [] and after["as_of"] == before["as_of"]
    (one,) = after["excused"]
    assert one.keys() == {"case", "kind", "since", "until", "reason", "by", "task"}
    assert (one["case"], one["kind"], one["until"]) == (CASES[0], "waived", f"{day}T00:00:00Z")
    assert say("logs", "run", logs=tmp_path).out.count(f"waived              {CASES[0]} until {day} 00:00:00") == 1
    assert say("waive", CASES[0], "--end", logs=tmp_path).code == 0
    assert say("status", "--json", logs=tmp_path).json["excused"] == []


def test_a_flaky_case_is_counted_apart_and_not_as_passing(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    before = say("status", "--json", logs=tmp_path).json["suites"]["torture"]
    make_exceptions(folder)
    after = say("status", "--json", logs=tmp_path).json["suites"]
    assert after["torture"] == before | {"passed": before["passed"] - 1, "flaky": 1}
    assert after["unit"]["flaky"] == before["flaky"] == 0


@pytest.mark.parametrize("by", ["role", "seat", "task", "model", "day"])
def test_whatever_the_rows_of_cost_are_they_add_up_to_the_total(by: str, say: Type, shared: Path) -> None:
    answer = say("cost", "c-compiler-2", "--by", by, "--json", logs=shared).json
    rows, total = answer["rows"], answer["total"]
    assert sum(Decimal(row["spent_usd"] or 0) for row in rows) == Decimal(total["spent_usd"])
    assert (sum(row["requests"] for row in rows), sum(row["landed"] for row in rows)) == (total["requests"], 10)


def test_a_run_that_never_began_can_be_looked_at(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("PRAGMA foreign_keys = OFF")
        for table in ("journal", "landing", "scorecard", "change", "attempt", "claim", "session", "task"):
            db.execute(f"DELETE FROM {table}")
    assert say("status", logs=tmp_path).code == 1
    for command in ("runs", "tasks", "cost", "logs", "report"):
        answer = say(*command.split(), logs=tmp_path)
        assert answer.code == 0, answer.err


def test_help_says_in_one_line_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert "serve " not in shown


def test_a_look_loads_no_vendor_and_no_docker(shared: Path) -> None:
    code = (
        "import sys; from orchestrator.cli.app import main; code = main(sys.argv[1:]);"
        "print(code, sorted({'anthropic', 'openai', 'docker', 'genai_prices'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, "status", "--logs", str(shared)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_every_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS.keys() - {"seat"}:
        assert main([*name.split(), "--help"]) == 0
        assert f"Example: python -m orchestrator {name}" in " ".join(capsys.readouterr().out.split()), name


# -- what start and its dry run refuse


HELLO, SCRIPT = Path("projects/hello"), "scripted:projects/hello/team.toml"


def start(say: Type, *options: object, logs: Path, project: Path = HELLO, models: tuple[str, ...] = (SCRIPT,)) -> Said:
    given = [word for model in models for word in ("--model", model)]
    return say("start", project, "--agents", 4, *given, *options, "--dry-run", logs=logs)


def test_every_role_may_be_named_without_a_model_for_the_others(say: Type, tmp_path: Path) -> None:
    models = (f"planner={SCRIPT}", "builder=open")
    project = Path("projects/c-compiler")
    answer = say(
        "start", project, "--agents", 8, *("--model", models[0], "--model", models[1]), "--dry-run", logs=tmp_path
    )
    assert answer.code == 0, answer.err
    assert start(say, "--budget", 1, project=project, models=models, logs=tmp_path).code == 0
    twice = start(say, models=("builder=open", f"builder={SCRIPT}"), logs=tmp_path)
    assert (twice.code, "more than one for a role" in twice.err) == (2, True)


@pytest.mark.parametrize("name", ["my hello-1", "héllo", "_x", "{}", "x" * 121, "x" * 300, "a/b", "-x", "x:y"])
def test_a_name_that_no_trailer_could_carry_is_refused_before_anything_starts(
    name: str, say: Type, tmp_path: Path
) -> None:
    answer = start(say, f"--name={name}", logs=tmp_path)
    assert (answer.code, "no name for a run" in answer.err) == (2, True)
    assert start(say, "--name", "x" * 120, logs=tmp_path).code == 0
    with pytest.raises(ValueError, match="not an id") if name not in ("a/b", "x:y") else nullcontext():
        message("", {"Run": name})


def test_a_folder_whose_name_no_run_can_have_asks_for_another(say: Type, tmp_path: Path) -> None:
    project = shutil.copytree(HELLO, tmp_path / "my hello")
    answer = start(say, project=project, logs=tmp_path / "logs")
    assert (answer.code, "--name NAME" in answer.err, "'my hello-1'" in answer.err) == (2, True, True)
    named = start(say, "--name", "hello", project=project, logs=tmp_path / "logs")
    assert (named.code, "suites.greet gives other cases" in named.err) == (6, True)  # which are drawn by its name
    assert start(say, "--name", "hello", "--unlocked", project=project, logs=tmp_path / "logs").code == 0


def test_a_dry_run_compares_the_folder_with_its_lock(say: Type, tmp_path: Path) -> None:
    project = shutil.copytree(HELLO, tmp_path / "hello")
    (project / "goal.md").write_text("Another goal.\n")
    differs = start(say, project=project, logs=tmp_path)
    assert (differs.code, "project differ from project.lock" in differs.err) == (6, True)
    assert start(say, "--unlocked", project=project, logs=tmp_path).code == 0
    (project / "project.lock").unlink()
    missing = start(say, "--json", project=project, logs=tmp_path)
    assert (missing.code, missing.json["error"]["where"]) == (6, f"{project}/project.lock")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--sandbox dokcer", "'docker', 'bubblewrap', 'local'"),
        ("--budget inf", "--budget"),
        ("--budget nan", "--budget"),
        ("--hours inf", "--hours"),
    ],
)
def test_what_start_cannot_take_is_refused_in_words(options: str, words: str, say: Type, tmp_path: Path) -> None:
    answer = say("start", HELLO, "--agents", 2, "--model", SCRIPT, *options.split(), logs=tmp_path)
    assert (answer.code, words in answer.err) == (2, True), answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_of_runs(say: Type) -> None:
    for command in ("runs", f"start {HELLO} --agents 2 --model {SCRIPT}"):
        answer = say(*command.split(), logs=Path("README.md"))
        assert (answer.code, "is a file" in answer.err) == (2, True)


def test_an_error_in_a_project_says_where(say: Type, tmp_path: Path) -> None:
    project = tmp_path / "my project"
    project.mkdir()
    (project / "project.toml").write_text("schema = 1\ncolour = 'red'\n")
    error = start(say, "--json", project=project, logs=tmp_path).json["error"]
    assert error["message"].startswith(error["where"] + ": ")
    assert error["where"].startswith(f"{project}/project.toml:")
    assert start(say, "--json", models=(SCRIPT, SCRIPT), logs=tmp_path).json["error"]["where"] is None


# -- runs whose files cannot be used


def whole_run(logs: Path, name: str = "c-compiler-2", *, ended: bool = False) -> Path:
    """A run with all that a resume looks for."""
    folder = make_run(logs, name, ended=ended)
    for part in ("secret", "repo.git/HEAD", "public.git/HEAD"):
        (folder / part).parent.mkdir(exist_ok=True)
        (folder / part).touch()
    return folder


def cut(file: Path) -> None:
    for beside in file.parent.glob(f"{file.name}-*"):
        beside.unlink()
    file.write_bytes(file.read_bytes()[:20_000])


def a_folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("hello\n" * 1000),
    "cut": cut,
    "folder": a_folder,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_state_is_refused_by_name_and_spoils_no_other_run(how: str, say: Type, tmp_path: Path) -> None:
    whole_run(tmp_path, "good-1", ended=True)
    state = whole_run(tmp_path, "bad-1") / "state.db"
    BROKEN[how](state)
    for command in ("status", "logs", "tasks", "why", "cost", "report", "resume", "stop", "set"):
        word = {"why": ["C1", "--run"]}.get(command, [])
        answer = say(command, *word, "bad-1", *["budget=99"] * (command == "set"), logs=tmp_path)
        assert (answer.code, f"error: {state} cannot be used" in answer.err) == (1, True), (command, answer.err)
        assert "take " in answer.err
    listed = say("runs", logs=tmp_path)
    assert (listed.code, str(state) in listed.err) == (0, True)
    assert {line.split()[0]: line.split()[1] for line in listed.out.splitlines()[1:]} == {
        "good-1": "ended",
        "bad-1": "unreadable",
    }
    rows = {row["run"]: row for row in say("runs", "--json", logs=tmp_path).json["rows"]}
    assert str(state) in rows["bad-1"]["reason"]
    assert rows["good-1"]["spent_usd"] == "6.53"


@pytest.mark.parametrize("part", ["lock.json", "secret", "repo.git/HEAD", "public.git/HEAD"])
def test_a_run_that_lost_a_file_is_not_resumed(part: str, say: Type, tmp_path: Path) -> None:
    file = whole_run(tmp_path) / part
    file.unlink()
    answer = say("resume", logs=tmp_path)
    assert (answer.code, f"error: {file} cannot be used" in answer.err) == (1, True), answer.err


def test_a_cut_lock_is_refused_by_name(say: Type, tmp_path: Path) -> None:
    lock = whole_run(tmp_path) / "lock.json"
    lock.write_text('{"project": "sha')
    for command in ("resume", "report"):
        answer = say(command, logs=tmp_path)
        assert (answer.code, f"error: {lock} cannot be used" in answer.err) == (1, True), answer.err


def test_files_that_are_not_ours_to_write_are_no_bug(say: Type, tmp_path: Path) -> None:
    folder = whole_run(tmp_path)
    for name in ("orchestrator.jsonl", "run.lock"):
        (folder / name).mkdir()
    assert (say("resume", logs=tmp_path).code, say("set", "budget=99", logs=tmp_path).code) == (1, 1)
    assert control.failure_of(GitError(folder, ("rev-parse",), 128, "not a git repository")).kind == "refused"


# -- usage


@pytest.mark.parametrize(
    "command",
    ["seat", "seat live frob", "seat live shell --bogus ls", "seat live wait --token x --timeout-s nan", "seat live"],
)
def test_a_wrong_use_of_a_seat_is_one_object(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--json"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["error"]["kind"] == "usage"


def test_project_lists_its_commands_and_a_slip_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for command, code in (("project --help", 0), ("project", 2)):
        assert main(command.split()) == code
        assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]] == ["lock", "check"]
    assert main(["statu"]) == 2
    assert "did you mean status?" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_full_disk_at_the_other_end_is_one_line(option: str, shared: Path) -> None:
    for command, code in (("runs", 1), ("logs c-compiler-2", 1), ("--help", 1)):
        words = [*command.split(), "--logs", str(shared), *option.split()]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "orchestrator", *words], stdout=full, stderr=subprocess.PIPE, check=False
            )
        assert (done.returncode, done.stderr.count(b"\n")) == (code, 1), done.stderr


def test_a_closed_standard_input_is_a_usage_error(shared: Path) -> None:
    command = f"exec {sys.executable} -m orchestrator seat c-compiler-1 edit - --token x --logs {shared} <&-"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "must hold one JSON object" in done.stderr) == (2, True), done.stderr


# -- what a run is said to do


def test_stopping_an_ended_run_is_done_and_says_so(say: Type, shared: Path) -> None:
    answer = say("stop", "c-compiler-2", "--json", logs=shared)
    assert (answer.code, answer.json["dry_run"], "does not run" in answer.json["did"]) == (0, False, True)
    assert say("stop", "c-compiler-2", "--dry-run", "--json", logs=shared).json["dry_run"] is True


def test_nobody_works_in_a_run_that_has_stopped(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("UPDATE run SET state = 'stopped', reason = 'stopped by hand'")
    assert "4 suspended" in say("status", logs=tmp_path).out
    assert {one["state"] for one in say("status", "--json", logs=tmp_path).json["seats"]} == {"suspended"}


def test_a_run_that_has_asked_nothing_yet_has_its_whole_budget(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("DELETE FROM attempt")
    assert "$0.00 of $20.00" in say("status", logs=tmp_path).out
    assert say("status", "--json", logs=tmp_path).json["spent_usd"] == "0.00"
    assert "unmetered" not in say("cost", logs=tmp_path).out


@pytest.mark.parametrize("budget", ["6.53", "1"])
def test_a_budget_below_what_is_spent_is_refused(budget: str, say: Type, shared: Path) -> None:
    for option in ([], ["--dry-run"]):
        answer = say("set", "c-compiler-2", f"budget={budget}", *option, logs=shared)
        assert (answer.code, "has spent $6.53 already" in answer.err) == (1, True), answer.err


def test_a_run_without_money_is_resumed_once_it_has_more(say: Type, tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with sqlite3.connect(folder / "state.db") as db:
        reason = "budget: $0.01 left"
        db.execute("UPDATE journal SET data = json_object('reason', ?) WHERE kind = 'run-ended'", [reason])
    answer = say("resume", logs=tmp_path)
    assert (answer.code, reason in answer.err, "set c-compiler-2 budget=USD" in answer.err) == (1, True, True)
    assert say("set", "budget=30", logs=tmp_path).code == 0
    assert say("resume", "--dry-run", logs=tmp_path).code == 0
