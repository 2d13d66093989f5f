"""P5 and P8 in a whole run: what seats must not see they do not see, and what they must not reach refuses them."""

from __future__ import annotations

import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator import board, ramp
from orchestrator.briefing import Show, landed_since, render_tasks
from orchestrator.records import Session
from orchestrator.store import Tx, changes, reading, rows
from orchestrator.store.sessions import stored
from orchestrator.store.store import read_payload
from tests.orchestrator.running import PARTS, SUBMIT, Run, made, shell, small_project, small_team, yard
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

CANARY = "canary-7f3e9d"

# What a hostile seat tries. Each line prints its name and what came of it; the room's own files are not the point.
PROBE = r"""
try() { name=$1; shift; if out=$("$@" 2>&1); then echo "$name REACHED $out"; else echo "$name refused"; fi; }
try state cat RUN/state.db
try repository git --git-dir RUN/repo.git log
try changes ls RUN/repo.git/refs/changes
try secret cat RUN/secret
try frozen ls RUN/frozen
try socket cat RUN/run.sock
try neighbours ls ROOMS
try judges ls JUDGES
try key sh -c 'cat /proc/[0-9]*/environ | tr "\0" "\n" | grep -a CANARY_KEY'
try main touch /team/main.git/x
try locks touch /team/current_tasks/x
try goal sh -c 'echo x >>/team/GOAL.md'
try cases touch /team/cases/x
try loopback python3 -c 'import socket; socket.create_connection(("127.0.0.1", PORT), 2)'
try outside python3 -c 'import socket; socket.create_connection(("10.255.255.1", 80), 2)'
try supervisor sh -c 'cat /proc/[0-9]*/cmdline | tr "\\0" " " | grep -a "[_]serve"'
cd /; places="team workspace tmp var etc home root opt srv mnt cases out artifacts sources run"
find $places -type f -not -path 'tmp/output*' -exec grep -l CANARY {} + 2>/dev/null | sed 's/^/FOUND /'
true
"""


@pytest.fixture(scope="module")
def finished() -> object:
    """A run of the small project with held-out cases that carry a canary, and a seat that looks for everything."""
    with yard(CANARY_KEY=CANARY) as place:
        project = small_project(place.folder / "project", PARTS + tuple(f"more{n}" for n in range(9)))
        text = (project / "project.toml").read_text().replace('time = "5s"', 'time = "5s"\nheldout = 0.3')
        (project / "project.toml").write_text(text)
        for case in (project / "suites/parts").glob("*.txt"):
            case.write_text(f"{case.read_text()}{CANARY}-{case.stem}\n")
        run = place.run("run")
        probe = PROBE.replace("RUN", str(run.folder)).replace("ROOMS", str(place.home / "rooms/run"))
        probe = probe.replace("JUDGES", str(place.home / "judges")).replace("PORT", "9")
        probe = probe.replace("CANARY", CANARY)
        parts = [case.stem.removeprefix("a-") for case in (project / "suites/parts").glob("*.txt")]
        look = {"red": [shell(probe)]}  # one shown part's session does the looking
        team = small_team(place.folder / "team.toml", parts, lambda part: [*look.get(part, ()), made(part), SUBMIT])
        place.start(project, team, 2).finish()
        yield run


def heldout(run: Run) -> list[str]:
    """Stems of the held-out case files."""
    with reading(run.db) as db:
        row = db.execute("SELECT * FROM scorecard WHERE tier = 'heldout' ORDER BY id LIMIT 1").fetchone()
        return [name.split("/", 1)[1] for name in changes.read_scorecard(db, row).verdicts]


def test_the_project_has_shown_and_held_out_cases(finished: Run) -> None:
    assert 1 <= len(heldout(finished)) < 13
    assert finished.rows("SELECT 1 FROM task WHERE source = 'cases'")


def test_no_seat_reaches_state_repositories_neighbours_judges_keys_or_the_network(finished: Run) -> None:
    answers = [text for text in finished.results("shell") if "refused" in text]
    assert answers
    for text in answers:
        assert "REACHED" not in text, text
        assert text.count("refused") == PROBE.count("\ntry "), text


def test_no_held_out_file_is_in_a_room(finished: Run) -> None:
    hidden = heldout(finished)
    shown = [line for text in finished.results("shell") for line in text.splitlines() if line.startswith("FOUND ")]
    assert shown, "the probe finds shown cases, so it would find hidden ones"
    assert not [line for line in shown if any(f"/{name}" in line for name in hidden)]


def test_no_held_out_name_or_text_is_in_anything_a_seat_was_told(finished: Run) -> None:
    hidden = heldout(finished)
    with reading(finished.db) as db:
        tx = Tx(db, 0, datetime.now(UTC))
        told = [row[0] for row in db.execute("SELECT system FROM session UNION SELECT opening FROM session")]
        told += [row[0] for row in db.execute("SELECT result FROM call UNION SELECT reply FROM turn")]
        words = "\n".join(read_payload(tx.db, digest).decode() for digest in told if digest)
        words += "\n".join(row[0] for row in db.execute("SELECT title || why || cases FROM task"))
        words += "\n".join(row[0] for row in db.execute("SELECT text FROM message"))
    for name in hidden:
        assert f"parts/{name}" not in words
        assert f"{CANARY}-{name}" not in words


def test_no_held_out_case_is_in_the_matrix(finished: Run) -> None:
    shown = {row["name"] for row in finished.rows("SELECT name FROM shown_case")}
    assert shown and not shown & {f"parts/{name}" for name in heldout(finished)}


def test_no_held_out_text_is_in_what_seats_mount(finished: Run) -> None:
    hidden = heldout(finished)
    for folder in ("team", "current_tasks", "public.git"):
        grep = ["grep", "-ralF", CANARY, str(finished.folder / folder)]
        files = subprocess.run(grep, capture_output=True, text=True, check=False).stdout.splitlines()
        assert not [file for file in files if any(name in Path(file).name for name in hidden)]
    objects = finished.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").splitlines()
    for line in objects:
        name, kind = line.split()
        if kind == "blob":
            assert CANARY not in finished.git("cat-file", "blob", name)


def next_task(db: sqlite3.Connection, seat: str, passing: bool) -> str:
    try:
        return ramp.next_task(db, seat, {"agent-01": "builder", "agent-02": "builder"}, {}, any_case_passes=passing)
    except board.Refused as idle:
        return str(idle)


def seen_by_seats(db: sqlite3.Connection) -> list[object]:
    """Everything that decides what a seat reads next or does next."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    boards = [render_tasks(db, show, now) for show in Show]
    ramps = [next_task(db, seat, passing) for seat in ("agent-01", "agent-02") for passing in (True, False)]
    logs = [stored(db, session) for session in rows.find(db, Session, "ORDER BY id")]
    return [boards, ramps, logs, [landed_since(db, seat) for seat in ("agent-01", "agent-02")]]


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL, Outcome.ERROR])
def test_no_held_out_outcome_changes_what_a_seat_sees(finished: Run, tmp_path: Path, outcome: Outcome) -> None:
    """Held-out scorecards are replaced by others; what every seat reads next stays byte for byte the same."""
    copy = tmp_path / "state.db"
    source = sqlite3.connect(finished.db)
    target = sqlite3.connect(copy)
    source.backup(target)
    target.row_factory = sqlite3.Row
    before = repr(seen_by_seats(target))
    cards = target.execute("SELECT id, commit_id FROM scorecard WHERE tier = 'heldout'").fetchall()
    tx = Tx(target, 0, datetime(2026, 1, 1, tzinfo=UTC))
    for card in cards:
        target.execute("DELETE FROM scorecard WHERE id = ?", (card["id"],))
        verdicts = {f"parts/a-{n}": Verdict(f"parts/a-{n}", outcome, reason=CANARY) for n in range(3)}
        changes.add_scorecard(tx, Scorecard("t", "heldout", Build(True, 0.0), verdicts), commit=card["commit_id"])
    assert cards
    assert repr(seen_by_seats(target)) == before
