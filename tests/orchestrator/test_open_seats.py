"""A seat from a shell, as a person or any program takes it: one command a tool call, in a run of its own."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from orchestrator.control import listening
from tests.orchestrator.running import HELLO, Run, faults, small_project, yard


def seat(run: Run, token: str, *words: str, code: int = 0) -> dict[str, Any]:
    """One command of the seat that holds the token; `code` is what it must end with."""
    done = run.yard.say("seat", run.name, *words, "--token", token, "--json")
    assert done.returncode == code, (words, done.stdout, done.stderr, run.tail())
    answer: dict[str, Any] = json.loads(done.stdout) if code < 2 else {}
    return answer


def test_a_change_lands_from_a_shell_through_a_killed_process_and_the_next_session_begins() -> None:
    with yard() as place:
        project = small_project(place.folder / "project", ("red", "green"))
        run = place.start(project, "open", 1)
        run.until("SELECT 1 FROM scorecard")
        for to, code in (("agent-99", 4), ("agent-01", 1), ("", 1)):  # nobody would hear it
            said = place.say("say", run.name, *filter(None, [to]), "Hello.")
            assert (said.returncode, said.stderr.count("error: ")) == (code, 1), said.stderr
        token = seat(run, "", "take")["token"]
        claimed = seat(run, token, "claim", run.one("SELECT id FROM task WHERE cases LIKE '%a-red%'"))["text"]
        assert "a-red" in claimed
        place.say("say", run.name, "agent-01", "Red is a colour.")
        made = seat(run, token, "shell", "echo red >parts/red && cat parts/red")
        assert "red" in made["text"]
        assert made["messages"] == ["[person] Red is a colour."]
        run.kill()
        run.resume()
        assert seat(run, token, "last")["text"] == made["text"]
        assert "You hold T" in seat(run, token, "take")["opening"]
        assert "1 of 1 seats are at work" in seat(run, token, "wait", "--timeout-s", "1")["text"]
        assert "red" in seat(run, token, "shell", "cat parts/red")["text"]
        seat(run, token, "shell", "--command", "exit 3", code=1)
        judged = seat(run, token, "verify", "task")["text"]
        assert "passes, and not on main (1): parts/a-red" in judged
        handed = seat(run, token, "submit", "--summary", "Red", "--fixes", "parts/a-red")
        assert handed["session_over"] == "waiting", handed
        assert seat(run, token, "last")["text"].startswith("C1 ")
        assert seat(run, token, "tasks")["session"] == "agent-01/1"
        news = seat(run, token, "wait", "--timeout-s", "60")
        assert news["text"].startswith("C1 landed as ") and news["session"] == "agent-01/1", news
        over = seat(run, token, "shell", "true", code=1)["error"]["message"]
        assert over.startswith("not run: C1 landed as ") and over.endswith("begins your next session (agent-01/1)")
        again = seat(run, token, "take")
        assert (again["session"], again["token"]) == ("agent-01/2", token)
        assert seat(run, token, "wait", "--timeout-s", "0")["text"].startswith("nothing changed\n1 of 1 seats")
        seat(run, token, "claim", "--title", "Look around", "--touches", "")
        seat(run, token, "shell", "echo seen >seen")
        judged = seat(run, token, "verify", "task")["text"]
        assert "names no cases, so this is the fast sample: fast 2/3 (main 2)" in judged
        left = seat(run, token, "leave")
        assert (left["left"], left["session"]) == ("agent-01", "agent-01/2")
        seat(run, token, "shell", "true", code=4)
        assert place.say("stop", run.name).returncode == 0
        assert run.wait() == "stopped"
        assert not faults(run)
        assert [row["end"] for row in run.rows('SELECT "end" FROM session ORDER BY number')] == ["landed", "left"]


def test_a_seat_goes_on_while_its_change_is_judged_and_first_repairs_what_comes_back() -> None:
    with yard() as place:
        project = small_project(place.folder / "project", ("red", "green", "blue"))
        file = project / "project.toml"  # the gate alone asks the cases, so that its verdict is what comes late
        slow = file.read_text().replace('run = "true"', 'run = "sleep 3"')
        file.write_text(slow.replace('time = "5s"\n', 'time = "5s"\nwhen = "gate"\n'))
        run = place.start(project, "open", 1)
        run.until("SELECT 1 FROM scorecard")
        token = seat(run, "", "take")["token"]

        def claim(part: str) -> None:
            seat(run, token, "claim", run.one(f"SELECT id FROM task WHERE cases LIKE '%a-{part}%'"))

        def submit(command: str) -> None:
            seat(run, token, "shell", command)
            handed = seat(run, token, "submit", "--summary", "A part")
            assert handed["session_over"] == "waiting"

        claim("red")
        submit("echo red >parts/red")
        run.until("SELECT 1 FROM change WHERE state = 'landed'")
        assert seat(run, token, "take")["session"] == "agent-01/2"
        claim("green")
        submit("echo green >parts/green; rm parts/red")
        if seat(run, token, "take")["session"] == "agent-01/2":  # on a very slow machine it is back by now
            submit("true")
            seat(run, token, "take")
        run.until("SELECT 1 FROM change WHERE state = 'bounced'")
        bounced = "loses parts/a-red; `take` with your token goes on with"
        told = seat(run, token, "wait", "--timeout-s", "60")["text"]  # of C2, or on a very slow machine C3
        assert told[2:].startswith(f" bounced: {bounced} it\n"), told
        aside = seat(run, token, "claim", "T3", code=1)
        assert aside["session_over"] == "put-aside"
        assert aside["text"] == f"not run: {told[:2]} of agent-01/2 bounced: {bounced} that, and later with agent-01/3"
        still = seat(run, token, "claim", "T3", code=1)["error"]["message"]
        assert still == f"{aside['text']} (agent-01/3)"
        assert "ready" in seat(run, token, "tasks")["text"]
        run.kill()
        run.resume()
        back = seat(run, token, "take")
        assert back["session"] == "agent-01/2"
        assert "bounced: loses parts/a-red" in back["opening"] and "You hold T" in back["opening"]
        assert "ERROR parts/a-red: " in back["opening"] and "Main: " not in back["opening"]
        assert "green" in seat(run, token, "shell", "cat parts/green")["text"]
        submit("true")
        assert seat(run, token, "take")["session"] == "agent-01/3"
        again = f"C{int(told[1]) + 1}"
        run.until("SELECT 1 FROM change WHERE id = ? AND state = 'bounced'", again)
        assert seat(run, token, "take")["session"] == "agent-01/2"
        submit("echo red >parts/red")
        assert seat(run, token, "take")["session"] == "agent-01/3"
        claim("blue")
        submit("echo blue >parts/blue")
        assert run.wait() == "ended"
        assert run.judged() == {f"parts/a-{part}": "PASS" for part in ("base", "red", "green", "blue")}
        assert not faults(run)


def asked(folder: Path, line: bytes) -> dict[str, Any]:
    """What the run's process answers to one line over its socket."""
    with socket.socket(socket.AF_UNIX) as ear:
        ear.connect((folder / "run.sock").read_text())
        ear.sendall(line)
        answer: dict[str, Any] = json.loads(ear.makefile(encoding="utf-8").readline())
        return answer


def test_no_odd_request_or_call_ends_the_run_or_the_seat() -> None:
    with yard() as place:
        run = place.start(small_project(place.folder / "project", ("red",)), "open", 1)
        run.until("SELECT 1 FROM scorecard")
        token = seat(run, "", "take")["token"]
        for line in (b"[" * 100_000 + b"\n", b"[]\n", b"{\n", b'{"do": "reveal"}\n'):
            assert asked(run.folder, line)["error"]["kind"] == "usage", line[:20]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            assert asked(run.folder, b"x" * (9 << 20))["error"]["kind"] == "usage"
        long = json.dumps({"topic": "T1", "text": "x" * (9 << 20)})
        said = run.yard.say("seat", run.name, "note", "-", "--token", token, typed=long)
        assert (said.returncode, said.stderr) == (2, "error: a request may hold 8 MiB, this has 9\n")
        call = {"do": "seat", "verb": "call", "token": token, "by": "x"}
        for tool, arguments in (
            ("\ud800", {}),
            ("shell", {"command": "echo \0"}),
            ("view", {"path": "a\0"}),
            ("view", {"path": "README.md", "lines": "9" * 5000}),
            ("wait", {"job": -1}),
            ("wait", {"job": 10**30}),
            ("edit", {"path": "x" * 5000, "old": "", "new": "x"}),
        ):
            answer = asked(run.folder, json.dumps({**call, "tool": tool, "arguments": arguments}).encode() + b"\n")
            assert answer["result"]["failed"], (tool, answer)
        wait = {"do": "seat", "verb": "board", "wait_s": 10**400, "token": token, "by": "x"}
        assert asked(run.folder, json.dumps(wait).encode() + b"\n")["error"]["kind"] == "usage"
        assert "well" in seat(run, token, "shell", "echo well")["text"]
        assert place.say("stop", run.name, "--now").returncode == 0
        assert not faults(run)


def test_a_bug_of_ours_is_told_as_one_and_not_as_the_askers_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"found": {}[request["key"]]}

    async def scenario() -> dict[str, Any]:
        async with listening(tmp_path, answer):
            return await anyio.to_thread.run_sync(asked, tmp_path, b'{"key": "gone"}\n')

    told = anyio.run(scenario)["error"]
    assert (told["kind"], told["message"]) == ("internal", "our bug: KeyError: 'gone'")
    assert "Traceback" in capsys.readouterr().err


def test_the_seeds_own_unit_tests_are_no_beginning() -> None:
    """hello's seed passes a unit test and no case: one seat works alone, as on an empty tree."""
    with yard() as place:
        run = place.start(HELLO, "open", 2)
        run.until("SELECT 1 FROM scorecard")
        assert '"unit": [1, 1]' in run.one("SELECT counts FROM scorecard")
        first, second = (seat(run, "", "take")["token"] for _ in range(2))
        tasks = [row["id"] for row in run.rows("SELECT id FROM task WHERE state = 'ready' ORDER BY number")]
        seat(run, first, "claim", tasks[0])
        assert "works alone first" in seat(run, second, "claim", tasks[1], code=1)["text"]
        assert place.say("stop", run.name, "--now").returncode == 0


def test_what_a_planner_has_drawn_the_others_build_side_by_side() -> None:
    with yard() as place:
        project = small_project(place.folder / "project", ("red", "green"), {"planner": 1, "builder": 2})
        (project / "seed/parts/base").rename(project / "seed/parts/nothing")  # so that no case passes
        run = place.start(project, "open", 3)
        run.until("SELECT 1 FROM scorecard")
        planner, *builders = (
            seat(run, "", "take", "--role", role)["token"] for role in ("planner", "builder", "builder")
        )
        tasks = [row["id"] for row in run.rows("SELECT id FROM task WHERE state = 'ready' ORDER BY number")]
        assert "works alone first" in seat(run, builders[0], "claim", tasks[0], code=1)["text"]
        seat(run, planner, "shell", "echo red, then green >DESIGN.md")
        seat(run, planner, "submit", "--summary", "What there will be")
        run.until("SELECT 1 FROM change WHERE state = 'landed'")
        for builder, task in zip(builders, tasks, strict=False):
            seat(run, builder, "claim", task)
        assert place.say("stop", run.name, "--now").returncode == 0
