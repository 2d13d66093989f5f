"""The scribe's files and the words they are made of; the live view, its keys and its picture."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from string import Formatter

import anyio
import pytest
from rich.console import Console

from docs.picture import picture
from orchestrator import board
from orchestrator.cli.app import main
from orchestrator.cli.watching import _on_change
from orchestrator.records import ChangeState, Session, SessionState, TaskSource
from orchestrator.store import Store, Tx, reading
from orchestrator.store.rows import insert, put
from orchestrator.store.store import KINDS, iso
from orchestrator.watch import live
from orchestrator.watch.journal import WORDS, Scribe, entries
from orchestrator.watch.live import KEYS, View, look, pressed, sparkline
from orchestrator.watch.queries import frame, status
from orchestrator.watch.render import Answer, plain, visible
from tests.orchestrator.made_run import BEGAN, MODEL, Clock, make_run
from tests.orchestrator.running import ROOT
from tests.orchestrator.test_cli import listening

GOLDEN = ROOT / "tests" / "golden" / "cli"
NOW = BEGAN + timedelta(minutes=125)
SHOWN_S = 60.0  # no test waits longer for a word on a screen
TRAP = "[red]x[/red] :boom: \x1b[2J\u202e[bold"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def files(folder: Path) -> dict[str, str]:
    found = [*folder.glob("*.log"), *folder.glob("agents/*.log"), folder / "cost.csv"]
    return {str(file.relative_to(folder)): file.read_text() for file in found}


@pytest.mark.parametrize("kind", WORDS)
def test_the_words_of_a_kind_name_nothing_that_it_has_not(kind: str) -> None:
    named = {name for template in WORDS[kind] for _, name, _, _ in Formatter().parse(template) if name}
    assert named <= {*KINDS[kind], "title", "progress"}


def test_every_entry_of_a_run_becomes_one_line(folder: Path) -> None:
    with reading(folder / "state.db") as db:
        lines = entries(db)
    assert all("\n" not in line.text and "{" not in line.text for line in lines)
    assert all(line.word and line.text for line in lines)


def test_the_scribe_writes_what_people_follow(folder: Path) -> None:
    Scribe(folder).catch_up()
    written = files(folder)
    assert written.keys() == {"progress.log", "gate.log", "cost.csv", *(f"agents/agent-0{n}.log" for n in range(1, 5))}
    assert "2026-03-14 09:11:00Z  landed    agent-02  C1 cases of kind 1" in written["progress.log"]
    assert "shell     cargo test\\x1b[31m" in written["agents/agent-02.log"]
    assert "\x1b" not in "".join(written.values())
    rows = list(csv.DictReader(written["cost.csv"].splitlines()))
    assert len(rows) == 13  # the request still in flight is not written yet
    assert [row["usd"] for row in rows if row["state"] == "in-doubt"] == ["0.410000"]


def test_files_can_be_made_again_from_the_state(folder: Path) -> None:
    Scribe(folder).catch_up()
    before = files(folder)
    (folder / "gate.log").unlink()
    (folder / "agents" / "agent-03.log").write_text("cut")
    Scribe(folder).catch_up()
    assert files(folder) == before
    Scribe(folder).catch_up()
    assert files(folder) == before


def test_what_a_crash_left_in_half_is_written_once(folder: Path) -> None:
    Scribe(folder).catch_up()
    before = files(folder)
    with (folder / "progress.log").open("a") as log:
        log.write("half a li")
    Scribe(folder).catch_up()
    assert files(folder) == before


def test_a_follower_of_a_log_keeps_its_file(folder: Path) -> None:
    Scribe(folder).catch_up()
    with (folder / "progress.log").open() as log:
        whole = log.read()
        Scribe(folder).catch_up()
        assert log.read() == ""
        (folder / "progress.log").write_text("cut")
        Scribe(folder).catch_up()
        log.seek(0)
        assert log.read() == whole


def test_progress_of_the_last_hour_is_measured_from_the_runs_own_end(folder: Path) -> None:
    with reading(folder / "state.db") as db:
        begin = frame(db, False, BEGAN)
        result = status(db, begin)
    assert begin["as_of"].startswith("2026-03-14T11:00:00")
    assert result["suites"]["torture"]["delta_1h"] == 18
    assert result["queue"]["landed"] == 10
    assert result["elapsed_s"] == 7200


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202eabc\u200b", "\\u202eabc\\u200b"),
        ("\x9b31m", "\\x9b31m"),
        ("größer → 3", "größer → 3"),
    ],
)
def test_what_would_act_on_a_terminal_is_spelled_out(raw: str, shown: str) -> None:
    assert visible(raw) == shown


def test_what_is_too_long_is_cut() -> None:
    assert visible("x" * 500, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(("micro", "text"), [(0, "0.00"), (1, "0.000001"), (1_500_000, "1.50"), (-20_000, "-0.02")])
def test_money_loses_nothing_on_its_way_into_json(micro: int, text: str) -> None:
    assert plain({"spent_usd": micro}) == {"spent_usd": text}


def test_times_and_states_become_plain_text() -> None:
    assert plain({"at": iso(BEGAN), "state": ChangeState.LANDED}) == {"at": "2026-03-14T09:00:00Z", "state": "landed"}


# -- the live view


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("ORCHESTRATOR_LOGS", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of sixteen seats in its 125th minute: at work, waiting, idle; one task's title is a trap."""
    folder = make_run(tmp_path_factory.mktemp("crowd"), ended=False)

    async def work() -> None:
        clock = Clock()
        clock.minutes(124)
        store = Store(folder / "state.db", clock)
        await store.begin_epoch()
        await store.write(seat_more)
        await store.close()

    anyio.run(work)
    return folder


def seat_more(tx: Tx) -> None:
    for number in range(5, 17):
        name = f"agent-{number:02d}"
        if number > 13:
            tx.journal("seat-idle", name, reason="each of the 3 ready tasks is spoken for or in folders of others")
            continue
        state = SessionState.WAITING if number == 12 else SessionState.ACTIVE
        insert(tx, Session(f"{name}/1", name, 1, "builder", MODEL, state, tx.now, "commit12", turns=3 * number))
        title = TRAP if number == 5 else f"Lower kind {number} of declarators, also as parameters"
        task = board.put(tx, title, TaskSource.CASES, by="run", cases=(f"torture/x{number}",), order=number)
        board.claim(tx, task.id, f"{name}/1")
    ran = {"vendor_id": "", "arguments": "", "turn": 1, "number": 1, "name": "shell"}
    put(tx, "call", id="c1", session="agent-06/1", state="running", started=tx.now, **ran)
    asked = {"number": 1, "task": "", "model": MODEL, "metered": True, "epoch": tx.epoch, "at": tx.now}
    put(tx, "attempt", session="agent-07/1", turn=1, state="reserved", reserved=900_000, **asked)
    put(tx, "attempt", session="agent-08/1", turn=1, state="settled", reserved=900_000, cost=1_020_000, **asked)
    put(tx, "attempt", session="agent-09/1", turn=1, state="settled", **asked)
    tx.journal("waiting", "agent-10", who="agent-10/1", why="anthropic: 429", until=125.0)


def seen(folder: Path, view: View = View(), *, alive: bool = True) -> Answer:  # noqa: B008 - a frozen dataclass
    with reading(folder / "state.db") as db:
        begin = frame(db, alive, NOW)
        return begin | look(db, begin, view)


def drawn(answer: Answer, view: View, width: int, height: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(live.frame(answer, view, width, height))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "view", "width", "height"),
    [
        ("watch-80x24", View(), 80, 24),
        ("watch-160x50", View(), 160, 50),
        ("watch-calls", View("agent-02", "calls"), 80, 24),
        ("watch-why", View("agent-05", "why"), 100, 30),
    ],
)
def test_a_frame_reads_as_the_golden_text(name: str, view: View, width: int, height: int, crowd: Path) -> None:
    text, file = drawn(seen(crowd, view), view, width, height), GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
    assert {len(line) for line in text.splitlines()} == {width}
    assert text.count("\n") == height


@pytest.mark.parametrize("width", [20, 40, 80, 300])
@pytest.mark.parametrize("height", [6, 12, 24, 100])
@pytest.mark.parametrize("pane", ["", "calls", "why"])
def test_a_frame_fills_its_box_and_no_more_at_any_size(crowd: Path, width: int, height: int, pane: str) -> None:
    view = View("agent-16", pane)
    lines = drawn(seen(crowd, view), view, width, height).splitlines()
    assert ({len(line) for line in lines}, len(lines)) == ({width}, height)


def test_what_an_agent_wrote_is_shown_as_it_stands_and_never_obeyed(crowd: Path) -> None:
    shown = drawn(seen(crowd), View(), 160, 50)
    assert r"[red]x[/red] :boom: \x1b[2J\u202e[bold" in shown
    assert not {mark for mark in shown if mark != "\n" and (ord(mark) < 32 or mark in "\x7f\x9b\u202e")}
    told = drawn(seen(crowd, View("agent-05", "why")), View("agent-05", "why"), 160, 50)
    assert r"[red]x[/red]" in told


def test_the_chosen_seat_is_in_every_frame(crowd: Path) -> None:
    for number in range(1, 17):
        for pane in ("", "calls"):
            view = View(f"agent-{number:02d}", pane)
            assert f"│ {view.seat}" in drawn(seen(crowd, view), view, 80, 24)


def test_keys_choose_a_seat_and_open_and_close_what_is_said_of_it() -> None:
    seats, view, been = [f"agent-{number}" for number in range(3)], View(), []
    for key in ("up", "down", "down", "down", "w", "enter", "enter", "w", "esc", "x"):
        view = pressed(view, key, seats)
        been.append(f"{view.seat[6:]}{view.pane}")
    assert been == ["0", "1", "2", "2", "2why", "2calls", "2", "2why", "2", "2"]
    assert pressed(replace(view, word="refused"), "up", seats).word == KEYS
    assert pressed(View(), "enter", []) == View()


def test_a_curve_holds_each_share_until_the_next_and_is_full_only_at_all() -> None:
    assert sparkline([(0.0, 0.0), (0.5, 0.5), (0.9, 1.0)], 10) == "▁▁▁▁▄▄▄▄██"
    assert sparkline([(0.5, 0.999)], 4) == " ▇▇▇"
    assert (sparkline([], 3), sparkline([(0, 1)], -2)) == ("   ", "")


def test_no_frame_has_a_heldout_result(crowd: Path) -> None:
    for view in (View(), View("agent-02", "calls"), View("agent-02", "why")):
        answer = seen(crowd, view)
        assert answer["heldout"] is None
        assert "held" not in json.dumps(plain(answer)).replace('"heldout": null', "")
    shares = {share for curve in seen(crowd)["curves"].values() for _, share in curve}
    assert not shares & {0.1, 0.2}  # one and two of ten held-out cases passed; of the shown ones, never so many


def test_without_a_terminal_there_is_a_frame_for_each_change_that_is_more_than_time(crowd: Path) -> None:
    out, answer = io.StringIO(), seen(crowd)
    show = _on_change(Console(file=out, width=100))
    later = answer | {"as_of": iso(NOW + timedelta(seconds=9)), "elapsed_s": 7509}
    for one in (answer, later, later | {"state": "paused"}):
        show(one, View())
    assert out.getvalue().count("┌") == 2
    assert all(f"│ agent-{number:02d}" in out.getvalue() for number in range(1, 17))
    assert "[q]" not in out.getvalue()


def test_a_run_that_has_ended_is_one_frame_and_the_line_of_status(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", "--logs", str(folder.parent)]) == 0
    out = capsys.readouterr().out
    assert out.count("┌─ c-compiler-2 ─ healthy ─ ended after 2.0 h: idle: 12 h without") == 1
    assert out.splitlines()[-1].startswith("c-compiler-2   ended after 2.0 h")


def test_watch_as_json_is_one_event_a_line_until_the_run_ends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--json", "--logs", str(folder.parent)]) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    with reading(folder / "state.db") as db:
        assert [line["event"] for line in lines] == [*(entry.kind for entry in entries(db)), "ended"]
    assert {line["schema"] for line in lines} == {"watch/1"}
    assert err == ""


class Terminal:
    """`watch` in a pseudo-terminal of 24 lines, as a person sees it and types into it."""

    def __init__(self, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self.before = termios.tcgetattr(self._ours)
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        command = [sys.executable, "-m", "orchestrator", "watch", "--logs", str(folder.parent)]
        env |= {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(command, env=env, cwd=ROOT, preexec_fn=partial(os.login_tty, theirs))
        os.close(theirs)
        self.shown = ""

    def press(self, keys: str) -> None:
        self.shown = ""
        os.write(self._ours, keys.encode())

    def until(self, words: str) -> str:
        """What has been shown since the last key, as soon as those words are in it."""
        give_up = time.monotonic() + SHOWN_S
        while words not in self.shown:
            assert time.monotonic() < give_up, self.shown
            assert self._read(), f"{words!r} was never shown: {self.shown!r}"
        return self.shown

    def end(self) -> int:
        """The exit code; what was shown meanwhile is in `shown`, and what the terminal is like then in `after`."""
        give_up = time.monotonic() + SHOWN_S
        while self._read():
            assert time.monotonic() < give_up, self.shown
        return self.process.wait(SHOWN_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def after(self) -> list[object]:
        return termios.tcgetattr(self._ours)

    def _read(self) -> bool:
        """Whether something more was shown before the other end was closed."""
        if select.select([self._ours], [], [], 0.5)[0]:
            try:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                return False
        return True


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    one = Terminal(folder)
    try:
        one.until("[q] leave")
        yield one
    finally:
        one.close()


HOME, LEFT = "\x1b[?1049h", "\x1b[?1049l"


def test_a_person_looks_at_a_live_run_with_keys_and_leaves_it_running(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    with listening(folder) as ear, terminal(folder) as screen:
        assert HOME in screen.shown
        screen.press("\x1b[B\x1b[B")
        screen.press("\r")
        assert r"shell     cargo test\x1b[31m" in screen.until("· 4 s")
        screen.press("w")
        screen.until("history")
        assert ear.heard == []
        screen.press("p")
        screen.until("pause: asked for by")
        assert [(one["do"], one["now"], bool(one["by"])) for one in ear.heard] == [("pause", False, True)]
        screen.press("q")
        assert screen.end() == 0
        assert "c-compiler-2   running" in screen.shown.partition(LEFT)[2]
        assert len(ear.heard) == 1
        assert screen.after == screen.before


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_look_puts_the_terminal_back(tmp_path: Path, sign: signal.Signals, code: int) -> None:
    folder = make_run(tmp_path, ended=False)
    with listening(folder) as ear, terminal(folder) as screen:
        assert screen.after != screen.before
        screen.press("\x03") if sign is signal.SIGINT else screen.process.send_signal(sign)
        assert screen.end() == code
        assert LEFT in screen.shown
        assert (screen.after == screen.before, ear.heard) == (True, [])


def test_the_look_ends_with_the_run_and_leaves_the_last_frame(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    (folder / "run.pid").write_text(str(os.getpid()))
    with terminal(folder) as screen:
        screen.shown = ""
        (folder / "run.pid").unlink()
        assert screen.end() == 1
        left = re.sub(r"\x1b\[[\d;]*m", "", screen.shown.partition(LEFT)[2])
        assert left.startswith("┌─ c-compiler-2 ─ NOT HEALTHY ─ NOT RUNNING since")
        assert left.splitlines()[-1].startswith("c-compiler-2   NOT RUNNING since")


def test_a_pause_that_nobody_hears_is_said_and_ends_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ended=False)
    (folder / "run.pid").write_text(str(os.getpid()))
    with terminal(folder) as screen:
        screen.press("p")
        screen.until("no process answers")
        screen.press("q")
        assert screen.end() == 0


def test_the_picture_fetches_nothing_and_is_small(crowd: Path) -> None:
    svg = picture(seen(crowd), 112, 30)
    for text in (svg, (ROOT / "docs" / "watch.svg").read_text(encoding="utf-8")):
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert re.findall(r"https?://|@font-face|\ssrc:|<image|<script", text) == ["http://"]  # the name of SVG itself
        assert len(text.encode()) < 60_000
    assert "[red]x[/red]" in svg.replace("&#160;", " ")


def test_the_script_of_the_picture_draws_a_run_as_it_was(crowd: Path, tmp_path: Path) -> None:
    before, file = (crowd / "state.db").read_bytes(), tmp_path / "then.svg"
    command = [sys.executable, "-m", "docs.picture", str(crowd), "2026-03-14T10:01:00", str(file)]
    subprocess.run(command, cwd=ROOT, check=True)
    text = " ".join(ET.fromstring(file.read_text()).itertext()).replace("\xa0", " ")
    assert "running 61 min, as of 10:01:00" in text
    assert "C6 cases of kind 6" in text and "C7" not in text
    assert "18/40" in text
    assert (crowd / "state.db").read_bytes() == before
