"""The shell tools, done in the room. No path and no command of a model's ever reaches the host.

What the engine did is raised (`RoomError`), never told to the model as what its command did; a file that is missing or
a command that fails is the model's to read. Results are short: totals first, at most 40 lines, the rest in a file that
is named.
"""

import difflib
import re
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

import anyio.to_thread

from agents.tools import FOREGROUND_S, Answer, Edit, InRoom, Shell, View, Wait
from sandbox.room import MIB, Command, Ended, Result, Room, RoomFileError

SHOWN_LINES, HEAD_SHARE = 36, 0.4  # unless asked for otherwise; with the lines around them at most 40
SHOWN_CHARS: Final = 8_000  # about 2,500 tokens, read again at each later turn
CHARS_A_LINE: Final = 100  # where more lines are asked for
LINE_CHARS: Final = 600
VIEW_LINES: Final = 200
EDIT_LIMIT: Final = 4 * MIB
OUTPUTS: Final = "/tmp/output"

# stdout and stderr in the order in which they came; bash where there is one, because that is what models write.
RUN: Final = 'exec 2>&1; exec "$(command -v bash || command -v sh)" -c "$1"'
LOOK: Final = """
if [ -d "$1" ]; then cd -- "$1"; echo "$1: a folder, $(ls -1A | wc -l) entries"; ls -1Ap | head -n 200
elif [ -f "$1" ]; then
    all=$(grep -c "" <"$1") last=$(($2 + $3 - 1))
    if [ "$all" -gt "$last" ]; then echo "$1: lines $2-$last of $all; view $1 $((last + 1))-$((last + 200)) goes on"
    else echo "$1: $all lines"; fi
    cat -n <"$1" | tail -n "+$2" | head -n "$3" | cut -b 1-600
else echo "$1: no such file or folder"; false; fi
"""
FILLED: Final = 'test -s "$1" || test -d "$1"'

HOW: Final = {
    Ended.EXITED: "exit {code} after {seconds:.1f} s",
    Ended.TIMEOUT: "ended at its time limit after {seconds:.1f} s; its processes are gone",
    Ended.OUTPUT: "exit {code} after {seconds:.1f} s; it printed too much, the rest was dropped",
    Ended.KILLED: "killed after {seconds:.1f} s, probably for the memory it used",
    Ended.INTERRUPTED: "interrupted: the sandbox or the orchestrator was restarted; it may have run in part",
}


class Hands:
    """What one session does in its room. `longest_s` bounds a background job. `patience` is how much longer than it was
    allowed anything may take: a machine on which a recorded call is done again may be a slower one."""

    def __init__(self, room: Room, longest_s: float = 3600.0) -> None:
        self.room = room
        self.patience = 1.0
        self._longest_s = longest_s

    async def do(self, arguments: InRoom, number: int) -> Answer:
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
        except (OSError, ValueError) as error:  # a file's (`RoomFileError`), or what cannot be asked of a machine
            return Answer(f"not done: {error}", refused=True)

    async def _shell(self, shell: Shell, number: int) -> Answer:
        longest = self._longest_s if shell.background else FOREGROUND_S
        allowed = min(shell.timeout_s or longest, longest) * self.patience
        command = Command(("/bin/sh", "-c", RUN, "sh", shell.command), time_s=allowed)
        if shell.background:
            await self.room.start(str(number), command)
            return Answer(f"job {number} started; wait(job={number}) for its result")
        return await self._ended(await self.room.run(command), number, shell.lines)

    async def _wait(self, wait: Wait, number: int) -> Answer:
        try:
            status = await self.room.job(str(wait.job), wait.timeout_s * self.patience)
        except KeyError:
            return Answer(f"there is no job {wait.job} in this sandbox", refused=True)
        if status.result is not None:
            return await self._ended(status.result, number, wait.lines, f"job {wait.job}: ")
        last = _short(_decoded(status.tail).rstrip("\n").rpartition("\n")[2]) or "(nothing yet)"
        return Answer(f"job {wait.job} is running for {status.seconds:.0f} s; last line: {last}")

    async def _ended(self, result: Result, number: int, most: int | None, prefix: str = "") -> Answer:
        text, path = _decoded(result.stdout + result.stderr), f"{OUTPUTS}/{number}.txt"
        shown = clipped(text, f"view {path}", most or SHOWN_LINES)
        if shown != text:
            try:
                await self.room.write(path, text.encode())
            except RoomFileError as error:
                shown = clipped(text, f"not kept ({error})", most or SHOWN_LINES)
        how = HOW[result.ended].format(code=result.exit_code, seconds=result.seconds)
        exited = f"exit {result.exit_code}" if result.exit_code else ""
        kind = exited if result.ended is Ended.EXITED else result.ended.value
        return Answer(f"{prefix}{how}\n{shown}".rstrip("\n"), refused=not result.ok, how=kind)

    async def _view(self, view: View) -> Answer:
        first, _, last = view.lines.partition("-")
        start = max(1, int(first))
        count = min(VIEW_LINES, max(1, int(last or first) - start + 1))
        result = await self._look(LOOK, view.path, str(start), str(count))
        return Answer(_decoded(result.stdout + result.stderr).rstrip("\n"), refused=not result.ok)

    async def _look(self, script: str, path: str, *more: str) -> Result:
        return await self.room.run(Command(("/bin/sh", "-c", script, "sh", path, *more), time_s=30))

    async def _edit(self, edit: Edit) -> Answer:
        path, old, new = f"{PurePosixPath('/workspace', edit.path)}", edit.old.encode(), edit.new.encode()
        if not old:
            if (await self._look(FILLED, path)).ok:
                return Answer(f"{edit.path} is there already: give `old`, the text to replace", refused=True)
            await self.room.write(path, new)
            return Answer(f"created {edit.path}, {len(new.splitlines())} lines")
        data = await self.room.read(path, EDIT_LIMIT)
        places = islice(re.finditer(re.escape(old), data), 8)
        at = [data.count(b"\n", 0, place.start()) + 1 for place in places]
        if len(at) == 1:
            await self.room.write(path, data.replace(old, new))
            return Answer(f"edited {edit.path}:{at[0]}-{at[0] + max(len(new.splitlines()), 1) - 1}")
        if at:
            where = f"{data.count(old)} times (lines {', '.join(map(str, at))})"
            return Answer(f"not done: `old` is there {where}: add the lines around it", refused=True)
        near = await anyio.to_thread.run_sync(nearest, _decoded(data), edit.old)
        return Answer(f"not done: `old` is not in {edit.path} as given. {near}", refused=True)


def clipped(text: str, path: str, most: int = SHOWN_LINES) -> str:
    """The first and last lines of an output, `most` together, each cut where it is too long. `path` says where
    all of it is."""
    chars, first = max(SHOWN_CHARS, most * CHARS_A_LINE), int(most * HEAD_SHARE)
    lines = text.removesuffix("\n").split("\n")
    short = [_short(line) for line in lines]
    if short == lines and len(lines) <= most and len(text) <= chars:
        return text
    head, tail = short[:first], short[first:][first - most :]
    while len("\n".join(head + tail)) > chars:
        (head if len(head) > len(tail) else tail).pop(-1 if len(head) > len(tail) else 0)
    left_out = len(lines) - len(head) - len(tail)
    what = (
        f"lines {len(head) + 1}-{len(head) + left_out} of {len(lines)} left out" if left_out else "long lines are cut"
    )
    return "\n".join([*head, f"… {what}; all of it: {path} …", *tail])


def nearest(text: str, old: str) -> str:
    """Where in a file the text that was not found most probably stands, for the model to look at."""
    lines, wanted = text.split("\n"), [line for line in old.split("\n") if line.strip()]
    if not wanted or len(lines) > 20_000:
        return "View the file and copy the text from there."
    close = difflib.get_close_matches(wanted[0], lines, n=1, cutoff=0.4)
    if not close:
        return "Nothing like its first line is there either."
    at = lines.index(close[0])
    shown = enumerate(lines[at : at + min(len(wanted) + 1, 10)], at + 1)
    return "\n".join(["The nearest is:", *(f"{number:6}\t{_short(line)}" for number, line in shown)])


def _short(line: str) -> str:
    half = LINE_CHARS // 2
    if len(line) <= LINE_CHARS:
        return line
    return f"{line[:half]} … {len(line) - 2 * half} characters … {line[-half:]}"


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "�")
