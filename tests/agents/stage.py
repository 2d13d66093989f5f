"""Small real parts for tests of a session: a room over a folder, a log in memory, a board with one task."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from agents.context import Transcript, Turn
from agents.models.base import ModelFailure, Reply, Request, ToolCall, ToolResult
from agents.session import Pending
from agents.tools import Answer, End
from sandbox.room import MIB, Command, JobStatus, OnOutput, Result, RoomDied, RoomFileError


class FolderRoom:
    """Runs commands in a folder of the test's. `/workspace` and `/tmp` in paths and commands mean folders in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dead = False
        self.jobs: dict[str, Result] = {}
        self.started = 0
        for name in ("workspace", "tmp"):
            (folder / name).mkdir(exist_ok=True)

    def _inside(self, text: str) -> str:
        return re.sub("/workspace|/tmp/output", lambda found: f"{self.folder}{found[0]}", text)

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        if self.dead:
            raise RoomDied("the test ended it")
        argv = [shutil.which(command.argv[0]) or command.argv[0], *map(self._inside, command.argv[1:])]
        begun = anyio.current_time()
        done = await anyio.run_process(argv, check=False, cwd=self._inside(command.cwd), stderr=subprocess.PIPE)
        return Result(done.returncode, done.stdout, done.stderr, anyio.current_time() - begun)

    async def start(self, job: str, command: Command) -> None:
        if job not in self.jobs:
            self.started += 1
            self.jobs[job] = await self.run(command)

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        result = self.jobs[job]
        return JobStatus(result.seconds, b"", result)

    async def kill(self, job: str) -> None: ...

    async def write(self, path: str, data: bytes) -> None:
        target = anyio.Path(self._inside(path))
        await target.parent.mkdir(parents=True, exist_ok=True)
        await target.write_bytes(data)

    async def read(self, path: str, limit: int = MIB) -> bytes:
        try:
            return await anyio.Path(self._inside(path)).read_bytes()
        except OSError as error:
            raise RoomFileError(f"{path}: {error.strerror}") from error

    def seen(self, path: str) -> str:
        return path

    async def stop(self) -> None: ...


class Crash(Exception):
    """The process dies here."""


@dataclass
class MemoryLog:
    """A session's store. Its process dies before or after the write of number `crash_at`, once."""

    transcript: Transcript
    waiting: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    crash_at: int | None = None
    crash_before: bool = False
    writes: list[str] = field(default_factory=list)

    @property
    def pending(self) -> Sequence[Pending]:
        turns = self.transcript.turns
        if not turns:
            return ()
        before = sum(len(turn.reply.calls) for turn in turns[:-1])
        done = {result.call for result in turns[-1].results}
        found = []
        for n, call in enumerate(turns[-1].reply.calls):
            key = f"agent-01/1:{len(turns)}.{n}"
            if call.id not in done:
                found.append(Pending(key, before + n + 1, call, key in self.running))
        return found

    def _write(self, name: str, transcript: Transcript | None = None, running: str = "") -> None:
        dies = self.crash_at == len(self.writes)
        if dies:
            self.crash_at = None
        if dies and self.crash_before:
            raise Crash
        self.writes.append(name)
        self.transcript = transcript or self.transcript
        self.running |= {running} - {""}
        if dies:
            raise Crash

    async def store_reply(self, reply: Reply) -> None:
        self._write("reply", replace(self.transcript, turns=(*self.transcript.turns, Turn(reply))))

    async def store_summary(self, reply: Reply, text: str) -> None:
        self._write("summary", replace(self.transcript, summed=len(self.transcript.turns), summary=text))

    async def begin(self, pending: Pending) -> None:
        self._write("begin", running=pending.key)

    async def finish(self, pending: Pending, answer: Answer) -> None:
        *before, last = self.transcript.turns
        result = ToolResult(pending.call.id, answer.text, answer.refused)
        turn = replace(last, results=(*last.results, result), end=answer.end)
        self._write("finish", replace(self.transcript, turns=(*before, turn)))

    async def hear(self) -> None:
        lines, self.waiting = tuple(self.waiting), []
        if not self.transcript.turns:
            self.transcript = replace(self.transcript, said=(*self.transcript.said, *lines))
        else:
            *before, last = self.transcript.turns
            last = replace(last, said=(*last.said, *lines))
            self.transcript = replace(self.transcript, turns=(*before, last))


@dataclass
class Board:
    """The verbs over one task. Asked again with the same id, it gives the stored answer and does nothing."""

    bounces: int = 0  # how often submit bounces before it lands
    done: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    ready: str = "1 ready\nT1  lexer: identifiers  1 case: unit/lexer-1  src"

    async def do(self, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        self.asked.append(call_id)
        if call_id not in self.answers:
            self.done.append(verb)
            self.answers[call_id] = self._do(verb)
        return self.answers[call_id]

    def _do(self, verb: str) -> Answer:
        match verb:
            case "tasks":
                return Answer(self.ready)
            case "claim":
                return Answer("T1 lexer: identifiers\ncases: unit/lexer-1, unit/lexer-2\nno notes")
            case "submit" if self.bounces:
                self.bounces -= 1
                return Answer("bounced: loses 1 case\nERROR unit/lexer-2: exit 1", refused=True)
            case "submit":
                return Answer("landed as 91d0c3e, T1 closed: 2 of 2 cases pass", end=End.LANDED)
            case "release":
                return Answer("T1 released, work kept", end=End.RELEASED)
        return Answer("noted")


def going_on() -> bool:
    """What a run that is not stopping says."""
    return False


@dataclass
class Purse:
    """A meter that writes down what became of each attempt."""

    states: list[str] = field(default_factory=list)

    async def reserve(self, request: Request) -> int:
        self.states.append("reserved")
        return len(self.states) - 1

    async def settle(self, attempt: int, reply: Reply) -> None:
        self.states[attempt] = "settled"

    async def fail(self, attempt: int, failure: ModelFailure) -> None:
        self.states[attempt] = "in-doubt" if failure.billed else "free"


def call(name: str, id: str = "c1", **arguments: Any) -> ToolCall:
    return ToolCall(id, name, arguments)


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what another thread or task does, however slow the machine is."""
    while not holds():  # noqa: ASYNC110  # another thread's event loop cannot set an event of ours
        await anyio.sleep(0.01)
