"""The short form of chaos, and its checker: each kind of violation, planted into what a good run left, is found."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.chaos import check
from benchmarks.chaos.__main__ import Json, checked, one_run
from sandbox import limits, mounts

KILLS, AGENTS, PARTS, SEED = 8, 4, 10, 1


@dataclass(frozen=True)
class Left:
    """What a run left, in a place of its own where anything may be planted."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "logs/run"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence"

    def checked(self) -> Json:
        return checked(self.run, self.home, self.evidence)

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.run / "state.db")) as db, db:
            for statement in statements:
                db.execute(statement)

    def one(self, sql: str) -> tuple[str, ...]:
        with closing(sqlite3.connect(self.run / "state.db")) as db:
            found: tuple[str, ...] = db.execute(sql).fetchone()
            return found

    def git(self, *words: str, stdin: bytes = b"") -> str:
        who = {f"GIT_{one}_{part}": "x@y.z" for one in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        command = ["git", "--git-dir", str(self.run / "repo.git"), *words]
        return subprocess.run(
            command, check=True, capture_output=True, input=stdin, env={**os.environ, **who}
        ).stdout.decode()[:-1]

    def tell(self, name: str, **row: object) -> None:
        with (self.evidence / name).open("a") as file:
            file.write(json.dumps({"at": time.time(), **row}) + "\n")

    def lines(self, name: str) -> list[Json]:
        return [json.loads(line) for line in (self.evidence / name).read_text().splitlines()]

    def commit(self, message: str, **files: str) -> None:
        """A commit of somebody else's on main."""
        index = {"GIT_INDEX_FILE": str(self.folder / "index")}
        os.environ.update(index)
        try:
            self.git("read-tree", "main")
            for name, text in files.items():
                blob = self.git("hash-object", "-w", "--stdin", stdin=text.encode())
                self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},parts/{name.replace('_', '.')}")
            made = self.git("commit-tree", self.git("write-tree"), "-p", "main", stdin=message.encode())
        finally:
            del os.environ["GIT_INDEX_FILE"]
        for repo in ("repo.git", "public.git"):
            objects = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.run / "repo.git/objects")}
            command = ["git", "--git-dir", str(self.run / repo), "update-ref", "refs/heads/main", made]
            subprocess.run(command, check=True, env={**os.environ, **objects})
        (self.run / "public.git/objects/info").mkdir(exist_ok=True)
        (self.run / "public.git/objects/info/alternates").write_text(f"{self.run}/repo.git/objects\n")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, Path]:
    """The short form, and where all of it is kept."""
    kept = tmp_path_factory.mktemp("chaos") / "kept"
    found, _ = one_run(KILLS, AGENTS, random.Random(SEED), PARTS, [], kept, lambda _: None)
    return found, kept


@pytest.fixture
def left(short: tuple[Json, Path]) -> Iterator[Left]:
    with tempfile.TemporaryDirectory(prefix="left-") as folder:
        made = Left(Path(folder))
        shutil.copytree(short[1] / "run", made.run)
        shutil.copytree(short[1] / "evidence", made.evidence)
        (made.home / "rooms").mkdir(parents=True)
        yield made


def test_a_team_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(short: tuple[Json, Path]) -> None:
    found, _ = short
    assert found["words"] == []
    assert found["violations"] == found["wedged_seats"] == 0
    assert found["kills"] > 0 and found["landed"] > 0 and found["requests"] > 0


def test_what_a_good_run_left_is_still_good_elsewhere(left: Left) -> None:
    assert left.checked()["words"] == []


def test_the_checker_shares_no_code_with_what_it_judges() -> None:
    for node in ast.walk(ast.parse(Path(check.__file__).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names), names


def still_judged(left: Left) -> None:
    left.sql("UPDATE change SET state = 'judging' WHERE number = 1")


def main_set_back(left: Left) -> None:
    left.git("update-ref", "refs/heads/main", "main~1")


def submission_overwritten(left: Left) -> None:
    left.git("update-ref", "refs/changes/1", "main")


def submission_forgotten(left: Left) -> None:
    left.sql("DELETE FROM landing WHERE change = 'C1'", "DELETE FROM change WHERE id = 'C1'")


def landed_in_part(left: Left) -> None:
    """A change of two files of which main has got one."""
    base, commit = left.one("SELECT base, commit_id FROM change WHERE state = 'landed' LIMIT 1")
    blob = left.git("hash-object", "-w", "--stdin", stdin=b"more\n")
    tree = left.git("mktree", stdin=f"{left.git('ls-tree', commit)}\n100644 blob {blob}\tmore\n".encode())
    whole = left.git("commit-tree", tree, "-p", base, stdin=b"x")
    (number,) = left.one("SELECT number FROM change WHERE state = 'landed' LIMIT 1")
    left.git("update-ref", f"refs/changes/{number}", whole)
    left.sql(f"UPDATE change SET commit_id = '{whole}' WHERE number = {number}")


def landed_as_something_else(left: Left) -> None:
    """A change whose new file stands in main with other words in it."""
    base, number = left.one("SELECT base, number FROM change WHERE state = 'landed' LIMIT 1")
    (commit,) = left.one("SELECT landed_as FROM change WHERE state = 'landed' LIMIT 1")
    blob = left.git("hash-object", "-w", "--stdin", stdin=b"other words\n")
    (new,) = left.git("diff-tree", "-r", "--diff-filter=A", "--name-only", f"{commit}~1", commit).split()[:1]
    parts = left.git("ls-tree", f"{base}:parts") + f"\n100644 blob {blob}\t{new.removeprefix('parts/')}\n"
    tree = left.git("mktree", stdin=parts.encode())
    whole = left.git("mktree", stdin=f"040000 tree {tree}\tparts\n".encode())
    made = left.git("commit-tree", whole, "-p", base, stdin=b"x")
    left.git("update-ref", f"refs/changes/{number}", made)
    left.sql(f"UPDATE change SET commit_id = '{made}' WHERE number = {number}")


def task_closed_for_nothing(left: Left) -> None:
    left.sql(
        "INSERT INTO task (id, number, title, state, source, created) VALUES ('T0', 0, 'part no.a', 'closed', '', '')"
    )


def word_of_a_landing(left: Left) -> None:
    left.sql(
        "INSERT INTO session (id, seat, number, role, model, state, started, base, end, ended) SELECT 'agent-01/999',"
        " seat, 999, role, model, 'ended', ended, base, 'landed', ended FROM session WHERE state = 'ended' LIMIT 1"
    )


def change_twice_on_main(left: Left) -> None:
    left.commit("Again\n\nChange: C1\n", again_a="again.a\n")


def part_added_twice(left: Left) -> None:
    (part,) = left.one("SELECT substr(title, 6) FROM task WHERE title LIKE 'part %' AND state = 'closed' LIMIT 1")
    gone = left.git("commit-tree", "main~1^{tree}", "-p", "main", stdin=b"Gone")
    empty = left.git("commit-tree", left.git("mktree"), "-p", gone, stdin=b"Nothing")
    left.git("update-ref", "refs/heads/main", left.git("commit-tree", "main^{tree}", "-p", empty, stdin=part.encode()))


def two_changes_for_a_task(left: Left) -> None:
    left.sql("UPDATE change SET task = (SELECT task FROM change WHERE state = 'landed' LIMIT 1) WHERE state = 'landed'")


def two_in_turns(left: Left) -> None:
    for seat in ("agent-01", "agent-02", "agent-01"):
        left.tell("witness.jsonl", said=[seat, "T9999", "makes", f"mark-of-{seat}"])


def claimed_while_held(left: Left) -> None:
    for session in ("agent-01/98", "agent-02/98"):
        data = json.dumps({"task": "T9999", "session": session, "plan": ""})
        left.sql(
            f"INSERT INTO journal (at, epoch, kind, data) VALUES ('2026-01-01T00:00:00+00:00', 1, 'claimed', '{data}')"
        )


def two_claims_of_one(left: Left) -> None:
    for task in ("T9998", "T9999"):
        data = json.dumps({"task": task, "session": "agent-01/98", "plan": ""})
        left.sql(
            f"INSERT INTO journal (at, epoch, kind, data) VALUES ('2026-01-01T00:00:00+00:00', 1, 'claimed', '{data}')"
        )


def request_of_nobody(left: Left) -> None:
    row = {"id": "x", "session": "agent-01/98", "turn": 1, "model": "m", "fault": None}
    for state in ("arrived", "complete"):
        left.tell("wire.jsonl", **row, state=state)


def attempt_forgotten(left: Left) -> None:
    done = next(row for row in left.lines("wire.jsonl") if row["state"] == "complete")
    left.sql(f"DELETE FROM attempt WHERE session = '{done['session']}' AND turn = {done['turn']}")


def attempt_open(left: Left) -> None:
    left.sql("UPDATE attempt SET state = 'reserved' WHERE id = (SELECT max(id) FROM attempt)")


def stored_and_asked_again(left: Left) -> None:
    done = next(row for row in left.lines("wire.jsonl") if row["state"] == "complete")
    left.tell("driver.jsonl", what="killed", kind="process", active=[])
    for state in ("arrived", "complete"):
        left.tell("wire.jsonl", **{**done, "at": time.time(), "id": "y", "state": state})


def asked_again_for_nothing(left: Left) -> None:
    row = {"session": "agent-01/98", "turn": 1, "model": "m", "fault": None}
    for id, state in (("x", "arrived"), ("x", "complete"), ("y", "arrived")):
        left.tell("wire.jsonl", **row, id=id, state=state)


def settled_twice(left: Left) -> None:
    left.sql(
        "UPDATE attempt SET (session, turn, state) = (SELECT session, turn, 'settled' FROM attempt WHERE"
        " state = 'settled' ORDER BY id LIMIT 1) WHERE id = (SELECT max(id) FROM attempt)"
    )


def main_without_a_scorecard(left: Left) -> None:
    left.commit("Mine", mine_b="mine.b\n")


def main_that_loses(left: Left) -> None:
    """A commit with a scorecard, which lies."""
    left.commit("Lost", seed_b="lost\n")
    new, old = left.git("rev-parse", "main"), left.git("rev-parse", "main~1")
    left.sql(
        "INSERT INTO scorecard SELECT 999999, tree, '" + new + "', tier, at, seconds, built, void, cases, outcomes,"
        " details, counts FROM scorecard WHERE tier = 'full' LIMIT 1",
        "INSERT INTO landing (number, change, old, new, scorecard, at, done)"
        f" VALUES (999999, 'C0', '{old}', '{new}', 999999, '', 1)",
    )


def public_behind(left: Left) -> None:
    first = left.git("rev-list", "--max-parents=0", "main")
    command = ["git", "--git-dir", str(left.run / "public.git"), "update-ref", "refs/heads/main", first]
    subprocess.run(command, check=True)


def secret_of(left: Left) -> str:
    suites = left.run / "frozen/project/suites/parts"
    hidden = [file for file in suites.glob("*.txt") if not (left.run / "team/cases/parts" / file.name).exists()]
    return hidden[0].read_text().split()[2]


def secret_in_a_log(left: Left) -> None:
    with (left.run / "agents/agent-01.log").open("a") as file:
        file.write(secret_of(left))


def secret_in_a_request(left: Left) -> None:
    row = {"id": "x", "session": "agent-01/98", "turn": 1, "model": "m", "state": "arrived"}
    left.tell("wire.jsonl", **row, heard=f"look: {secret_of(left)}")


def secret_in_a_room(left: Left) -> None:
    left.tell("witness.jsonl", said=[secret_of(left)])


def secret_in_public(left: Left) -> None:
    command = ["git", "--git-dir", str(left.run / "public.git"), "hash-object", "-w", "--stdin"]
    subprocess.run(command, input=secret_of(left).encode(), check=True, capture_output=True)


def secret_in_a_message(left: Left) -> None:
    left.sql(f"INSERT INTO message (session, at, sender, text) VALUES ('x', '', 'run', '{secret_of(left)}')")


PLANTED: dict[str, list[Callable[[Left], None]]] = {
    "lost_changes": [
        *(still_judged, main_set_back, submission_overwritten, submission_forgotten),
        *(landed_in_part, landed_as_something_else, task_closed_for_nothing, word_of_a_landing),
    ],
    "double_merges": [change_twice_on_main, part_added_twice, two_changes_for_a_task],
    "double_claims": [two_in_turns, claimed_while_held, two_claims_of_one],
    "unaccounted_requests": [request_of_nobody, attempt_forgotten, attempt_open],
    "paid_twice": [stored_and_asked_again, asked_again_for_nothing, settled_twice],
    "red_main_commits": [main_without_a_scorecard, main_that_loses, public_behind],
    "held_out_leaks": [
        *(secret_in_a_log, secret_in_a_request, secret_in_a_room, secret_in_public, secret_in_a_message),
    ],
}
EVERY = [(kind, plant) for kind, plants in PLANTED.items() for plant in plants]


@pytest.mark.parametrize(("kind", "plant"), EVERY, ids=[plant.__name__ for _, plant in EVERY])
def test_a_planted_violation_is_found(left: Left, kind: str, plant: Callable[[Left], None]) -> None:
    plant(left)
    found = left.checked()
    assert found[kind] > 0, found["words"]
    assert found["violations"] >= found[kind]


def test_every_kind_has_a_planted_one() -> None:
    assert {*PLANTED, "orphans"} == set(check.KINDS)


@pytest.mark.parametrize(
    "path",
    [
        *("tmp/orch-x", "logs/run/quarantine/x", "logs/run/repo.git/refs/heads/main.lock", "logs/run/run.sock.new"),
        *("logs/run/repo.git/objects/pack/tmp_pack_x", "home/judges/run/gate/x", "home/rooms/run/agent-01"),
    ],
)
def test_a_file_that_was_left_is_an_orphan(left: Left, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SETTLING_S", 0.0)
    (left.folder / path).parent.mkdir(parents=True, exist_ok=True)
    (left.folder / path).touch()
    found = check.orphans(check.Evidence(left.run, left.home, left.evidence))
    assert found == [f"temporary {left.folder / path}"]


def test_a_process_that_was_left_is_an_orphan(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SETTLING_S", 0.0)
    env = {**os.environ, "ORCHESTRATOR_HOME": str(left.home)}
    with subprocess.Popen(["sleep", "60"], env=env) as child:
        found = check.orphans(check.Evidence(left.run, left.home, left.evidence))
        child.kill()
    assert len(found) == 1 and found[0].startswith(f"process {child.pid}: ")


@pytest.mark.skipif(not mounts.can_mount(), reason="nothing can be mounted here, so nothing can be left mounted")
def test_a_mount_that_was_left_is_an_orphan(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SETTLING_S", 0.0)
    place = left.folder / "home/workspaces"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmp", str(place)], check=True)
    try:
        assert f"mount {place}" in check.orphans(check.Evidence(left.run, left.home, left.evidence))
    finally:
        mounts.release(place)


@pytest.mark.skipif(not limits.group_roots(), reason="no control groups can be made here, so none can be left")
def test_a_control_group_that_was_left_is_an_orphan(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox.bubblewrap import BubblewrapEngine

    monkeypatch.setattr(check, "SETTLING_S", 0.0)
    group = BubblewrapEngine(left.home)._place("run", "room").group
    for folder in group.folders:
        folder.mkdir()
    try:
        found = check.orphans(check.Evidence(left.run, left.home, left.evidence))
        assert len(found) == len(group.folders) > 0 and found[0].startswith("cgroup ")
    finally:
        group.end()


def run_without_an_end(left: Left) -> None:
    file = left.evidence / "driver.jsonl"
    file.write_text(file.read_text().replace('"state": "ended"', '"state": "running"'))


def seat_without_a_sign(left: Left) -> None:
    left.sql("UPDATE session SET started = '2020-01-01T00:00:00+00:00' WHERE id = (SELECT min(id) FROM session)")


@pytest.mark.parametrize("plant", [run_without_an_end, seat_without_a_sign])
def test_a_seat_that_stands_still_is_wedged(left: Left, plant: Callable[[Left], None]) -> None:
    plant(left)
    assert left.checked()["wedged_seats"] > 0


def test_recovery_lasts_from_the_kill_to_the_last_seats_work(left: Left) -> None:
    began = time.time() + 1000
    for at, row in (
        (0.0, {"what": "killed", "kind": "process", "active": ["agent-01/1", "agent-02/1"]}),
        (1.0, {"what": "resumed", "fault": ""}),
        (50.0, {"what": "over", "state": "ended"}),
    ):
        left.tell("driver.jsonl", **{**row, "at": began + at})
    book = [line for line in left.lines("driver.jsonl") if line["what"] != "over" or line["at"] > began]
    (left.evidence / "driver.jsonl").write_text("".join(json.dumps(line) + "\n" for line in book))
    for at, seat in ((0.5, "agent-02"), (2.0, "agent-02"), (4.5, "agent-01"), (9.0, "agent-01")):
        left.tell("witness.jsonl", at=began + at, said=[seat, "T1", "makes", "mark"])
    assert left.checked()["recoveries"][-1] == pytest.approx(4.5)
    assert check.summed([left.checked()])["recovery_s"]["max"] is not None
