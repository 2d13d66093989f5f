"""The shell tools, done in the room. No path and no command of a model's ever reaches the host.

What the engine did is raised (`RoomError`), never told to the model as what its command did; a file that is missing or
a command that fails is the model's to read. Results are short: totals first, at most 40 lines, the rest in a file that
is named.
"""

from __future__ import annotations

import difflib
from pathlib import PurePosixPath
from typing import Final

import anyio.to_thread

from agents.team import Answer
from agents.tools import FOREGROUND_S, Arguments, Edit, Shell, View, Wait
from sandbox.room import MIB, Command, Ended, JobStatus, Result, Room, RoomFileError

SHOWN_LINES, HEAD_LINES = 36, 14  # with the lines around them at most 40
SHOWN_CHARS: Final = 8_000  # about 2,500 tokens, read again at each later turn
LINE_CHARS: Final = 600
VIEW_LINES: Final = 200
EDIT_LIMIT: Final = 4 * MIB
OUTPUTS: Final = "/tmp/output"

# stdout and stderr in the order in which they came; bash where there is one, because that is what models write.
RUN: Final = 'exec 2>&1; exec "$(command -v bash || command -v sh)" -c "$1"'
LOOK: Final = """
if [ -d "$1" ]; then echo folder; cd -- "$1" && ls -1Ap | head -n 1000
elif [ -f "$1" ]; then echo file; wc -l < "$1"; tail -n "+$2" -- "$1" | head -n "$3" | cut -b 1-4000
else echo nothing; fi
"""


class Hands:
    """What one session does in its room. `longest_s` bounds a background job."""

    def __init__(self, room: Room, longest_s: float = 3600.0) -> None:
        self._room = room
        self._longest_s = longest_s

    async def do(self, arguments: Arguments, number: int) -> Answer:
        """Runs one shell tool. `number` is the call's place in its session: it names the background job and the file of
        the full output, so that a call that is run again after a crash is the same job. Raises `RoomError`.
        """
        try:
            match arguments:
                case Shell():
                    return await self._shell(arguments, number)
                case Wait():
                    return await self._wait(arguments, number)
                case View():
                    return await self._view(arguments)
                case Edit():
                    return await self._edit(arguments)
        except RoomFileError as error:
            return Answer(f"not done: {error}", refused=True)
        raise TypeError(f"not a shell tool: {arguments!r}")

    async def _shell(self, shell: Shell, number: int) -> Answer:
        longest = self._longest_s if shell.background else FOREGROUND_S
        command = Command(("/bin/sh", "-c", RUN, "sh", shell.command), time_s=min(shell.timeout_s or longest, longest))
        if shell.background:
            await self._room.start(str(number), command)
            return Answer(f"job {number} started; wait(job={number}) for its result")
        return await self._ended(await self._room.run(command), number)

    async def _wait(self, wait: Wait, number: int) -> Answer:
        try:
            status = await self._room.job(str(wait.job), wait.timeout_s)
        except KeyError:
            return Answer(f"there is no job {wait.job} in this sandbox", refused=True)
        if status.result is not None:
            return await self._ended(status.result, number, f"job {wait.job}: ")
        return Answer(_still(status))

    async def _ended(self, result: Result, number: int, prefix: str = "") -> Answer:
        text = _decoded(result.stdout + result.stderr)
        shown = clipped(text)
        if shown != text:
            path = f"{OUTPUTS}/{number}.txt"
            try:
                await self._room.write(path, text.encode())
            except RoomFileError as error:
                path = f"not kept ({error})"
            shown = clipped(text, path)
        return Answer(f"{prefix}{_how(result)}\n{shown}".rstrip("\n"), refused=not result.ok)

    async def _view(self, view: View) -> Answer:
        first, _, last = view.lines.partition("-")
        start = max(1, int(first))
        count = min(VIEW_LINES, max(1, int(last or first) - start + 1))
        command = Command(("/bin/sh", "-c", LOOK, "sh", _absolute(view.path), str(start), str(count)), time_s=30)
        result = await self._room.run(command)
        kind, _, rest = _decoded(result.stdout).partition("\n")
        if kind == "folder":
            entries = rest.splitlines()
            return Answer("\n".join([f"{view.path}: a folder, {len(entries)} entries", *entries[:VIEW_LINES]]))
        if kind != "file":
            reason = _decoded(result.stderr).strip() or f"{view.path}: no such file or folder"
            return Answer(reason, refused=True)
        total, _, body = rest.partition("\n")
        lines = [_short(line) for line in body.removesuffix("\n").split("\n")] if body else []
        numbered = [f"{n:6}\t{line}" for n, line in enumerate(lines, start)]
        # wc counts newlines; a last line without one is a line all the same.
        return Answer("\n".join([f"{view.path}: {max(int(total), start + len(lines) - 1)} lines", *numbered]))

    async def _edit(self, edit: Edit) -> Answer:
        path, old, new = _absolute(edit.path), edit.old.encode(), edit.new.encode()
        if not old:
            seen = await self._room.run(
                Command(("/bin/sh", "-c", 'test -s "$1" || test -d "$1"', "sh", path), time_s=30)
            )
            if seen.ok:
                return Answer(f"{edit.path} is there already: give `old`, the text to replace", refused=True)
            await self._room.write(path, new)
            return Answer(f"created {edit.path}, {_lines(edit.new)} lines")
        data = await self._room.read(path, EDIT_LIMIT)
        found = data.count(old)
        if found == 1:
            await self._room.write(path, data.replace(old, new))
            start = data[: data.index(old)].count(b"\n") + 1
            return Answer(f"edited {edit.path}:{start}-{start + max(_lines(edit.new), 1) - 1}")
        if found > 1:
            parts = data.split(old)[:8]
            at = ", ".join(str(old.join(parts[:n]).count(b"\n") + 1) for n in range(1, len(parts)))
            return Answer(f"not done: `old` is there {found} times (lines {at}): add the lines around it", refused=True)
        near = await anyio.to_thread.run_sync(nearest, _decoded(data), edit.old)
        return Answer(f"not done: `old` is not in {edit.path} as given. {near}", refused=True)


def clipped(text: str, path: str = "") -> str:
    """The first and last lines of an output. `path` is where all of it is."""
    lines = text.removesuffix("\n").split("\n")
    short = [_short(line) for line in lines]
    if len(lines) <= SHOWN_LINES and len(text) <= SHOWN_CHARS:
        return text if short == lines else "\n".join([*short, *_where("long lines are cut", path)])
    head, tail = short[:HEAD_LINES], short[HEAD_LINES:][HEAD_LINES - SHOWN_LINES :]
    while len("\n".join(head + tail)) > SHOWN_CHARS:
        (head if len(head) > len(tail) else tail).pop(-1 if len(head) > len(tail) else 0)
    left_out = len(lines) - len(head) - len(tail)
    return "\n".join([*head, *_where(f"{left_out} of {len(lines)} lines left out", path), *tail])


def _where(what: str, path: str) -> list[str]:
    return [f"… {what}; all of it: {path} …" if path else f"… {what} …"]


def nearest(text: str, old: str) -> str:
    """Where in a file the text that was not found most probably stands, for the model to look at."""
    lines, wanted = text.split("\n"), [line for line in old.split("\n") if line.strip()]
    if not wanted or len(lines) > 20_000:
        return "View the file and copy the text from there."
    close = difflib.get_close_matches(wanted[0], lines, n=1, cutoff=0.4)
    if not close:
        return "Nothing like its first line is there either."
    at = lines.index(close[0])
    shown = [f"{n:6}\t{_short(line)}" for n, line in enumerate(lines[at : at + min(len(wanted) + 1, 10)], at + 1)]
    return "\n".join(["The nearest is:", *shown])


def _how(result: Result) -> str:
    match result.ended:
        case Ended.TIMEOUT:
            return f"ended at its time limit after {result.seconds:.1f} s; its processes are gone"
        case Ended.OUTPUT:
            return f"exit {result.exit_code} after {result.seconds:.1f} s; it printed too much, the rest was dropped"
        case Ended.KILLED:
            return f"killed after {result.seconds:.1f} s, probably for the memory it used"
        case Ended.INTERRUPTED:
            return "interrupted: the sandbox or the orchestrator was restarted; it may have run in part"
        case Ended.EXITED:
            return f"exit {result.exit_code} after {result.seconds:.1f} s"


def _still(status: JobStatus) -> str:
    last = _decoded(status.tail).rstrip("\n").rpartition("\n")[2]
    return f"job {status.id} is running for {status.seconds:.0f} s; last line: {_short(last) or '(nothing yet)'}"


def _short(line: str) -> str:
    if len(line) <= LINE_CHARS:
        return line
    half = LINE_CHARS // 2
    return f"{line[:half]} … {len(line) - 2 * half} characters … {line[-half:]}"


def _absolute(path: str) -> str:
    return str(PurePosixPath("/workspace") / path)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "�")


def _lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n") and bool(text))
