"""What people type and see, on runs written through the store: words, JSON fields, exit codes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from orchestrator import control
from orchestrator.cli.app import COMMANDS, main
from orchestrator.control import EXIT
from orchestrator.store import reading
from orchestrator.watch.journal import entries
from tests.orchestrator.made_run import CASES, make_run

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


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("status", "state healthy suites spent_usd burn_usd_h seats queue attention"),
        ("why C4", "id kind outcome reason lost gained next"),
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
        ("set colour=red", 2, "usage"),
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
    for command in ("status", "logs", "logs gate", "logs run", "why C12", "tasks", "cost", "runs"):
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

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.heard.append(request)
        if request["do"] == "say" and request["to"] == "agent-09":
            raise control.Refusal("there is no agent-09", "not_found")
        return {}


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
        for command in ("pause", "stop", "resume", "say hello", "set budget=9"):
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
