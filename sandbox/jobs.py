"""Background jobs of rooms whose commands are processes of the host (`bubblewrap`, `local`).

A job has a folder. Its keeper, a small shell in a session of its own, is the parent of the command, so nothing changes
for the job when the orchestrator dies. Making the folder is the claim on the id; `pid` tells who the keeper is, and
survives reuse of process ids and reboots; `rc` is written last. No `rc` and no keeper: cut short.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from sandbox.process import Process, Spawner, end_tree, exited
from sandbox.results import KILLED, TIMED_OUT, result
from sandbox.room import Command, Ended, JobStatus, Result, RoomError

TAIL: Final = 4096
START_S: Final = 20.0
STATUS_FD: Final = 8
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

# Folder, bytes kept of each stream (stdbuf: written at once), seconds, then the command. Descriptor 8 is where bwrap
# says how its child ended.
KEEPER: Final = """
d=$1 n=$2 t=$3; shift 3
cat /proc/$$/stat /proc/sys/kernel/random/boot_id >"$d/pid.new" && mv "$d/pid.new" "$d/pid" || exit 1
cap() { stdbuf -o0 head -c "$n"; exec cat >/dev/null; }
exec 8>"$d/status"
{ { timeout -k 10 "$t" "$@" 2>&3 3>&- <"$d/in"; echo $? >"$d/code"; } | cap >"$d/out" 8>&-; } 3>&1 | cap >"$d/err" 8>&-
mv "$d/code" "$d/rc"
"""


def check_id(job: str) -> str:
    if not _ID.fullmatch(job):
        raise ValueError(f"a job's id is letters, digits, '.', '_', '-', at most 100 (got {job!r})")
    return job


@dataclass(frozen=True)
class Job:
    """One job's folder."""

    folder: Path

    def claim(self) -> bool:
        """Whether the id was free and is ours now."""
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            return False
        return True

    async def prepare(self, command: Command) -> None:
        """Writes down the command's input and limit."""
        async with await anyio.open_file(self.folder / "in", "wb") as file:
            if isinstance(command.stdin, bytes):
                await file.write(command.stdin)
            else:
                async for chunk in command.stdin:
                    await file.write(chunk)
        (self.folder / "limits").write_text(json.dumps([command.output_limit, command.cpu_s]))

    async def start(self, spawner: Spawner, argv: Sequence[str], command: Command, fds: Sequence[int]) -> Process:
        """Starts the keeper and returns when it has written down who it is. Raises `RoomError`."""
        await self.prepare(command)
        size = (str(self.folder), str(command.output_limit + 1), f"{command.time_s}")
        process = await spawner.spawn(("sh", "-c", KEEPER, "sh", *size, *argv), output=subprocess.DEVNULL, pass_fds=fds)
        await self.started()
        return process

    async def started(self) -> None:
        """Returns when the keeper has written down who it is. Raises `RoomError`."""
        if not await self._appears("pid", START_S):
            raise RoomError(f"the keeper of job {self.folder.name} did not start within {START_S:g} s")

    async def over(self, seconds: float) -> None:
        """Returns when the job has ended, or after `seconds`."""
        await self._appears("rc", seconds)

    def ended(self) -> bool:
        return (self.folder / "rc").exists()

    async def _appears(self, name: str, seconds: float) -> bool:
        until = anyio.current_time() + seconds
        while anyio.current_time() < until:
            if (self.folder / name).exists():
                return True
            await anyio.sleep(0.01)  # files are all that both sides of a container share
        return False

    def keeper(self) -> int | None:
        """The living keeper's process id, or None."""
        try:
            then, boot = (self.folder / "pid").read_text().split("\n")[:2]
            pid = int(then.split(" ", 1)[0])
            now = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        same = boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip() and started(then) == started(now)
        return pid if same and not now.rsplit(") ", 1)[1].startswith("Z") else None

    def age(self) -> float | None:
        """For how many seconds the keeper has lived; None when it is gone."""
        keeper = self.keeper()
        return None if keeper is None else _age(keeper)

    def status(self, age: float | None, *, boxed: bool) -> JobStatus:
        """Reads the folder. `boxed` jobs tell by a status of their own how the command itself ended."""
        if age is not None and not self.ended():
            return JobStatus(self.folder.name, True, age, self._tail(), None)
        done = self._result(boxed)
        return JobStatus(self.folder.name, False, done.seconds, self._tail(), done)

    def _result(self, boxed: bool) -> Result:
        limit, cpu_s = json.loads(self._text("limits") or "[0, null]")
        out, err = self._bytes("out"), self._bytes("err")
        kept = (out[:limit], err[:limit])
        began = self._mtime("pid")
        seconds = max(0.0, self._mtime("rc") - began) if began else 0.0
        if (self.folder / "killed").exists():
            return Result(KILLED, *kept, seconds, Ended.KILLED)
        if not (code := self._text("rc").strip()):
            return Result(KILLED, *kept, seconds, Ended.INTERRUPTED)
        over = len(out) > limit or len(err) > limit
        own = exit_code(self._bytes("status")) if boxed else int(code)
        if own is None and int(code) not in (TIMED_OUT, KILLED):
            return Result(int(code), *kept, seconds, Ended.INTERRUPTED)  # bwrap itself failed
        timed_out = int(code) == TIMED_OUT and (own is None or not boxed)
        return result(
            Command((), cpu_s=cpu_s), KILLED if own is None else own, *kept, seconds, timed_out=timed_out, over=over
        )

    async def kill(self, process: Process | None) -> None:
        """Ends the keeper and everything below it; a job that has ended is left as it is."""
        keeper = await to_thread.run_sync(self.keeper)
        if keeper is None or self.ended():
            return
        (self.folder / "killed").touch()
        await to_thread.run_sync(end_tree, keeper)
        if process is not None:
            await exited(process)

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return b""

    def _text(self, name: str) -> str:
        return self._bytes(name).decode()

    def _mtime(self, name: str) -> float:
        try:
            return (self.folder / name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _tail(self) -> bytes:
        return b"".join(_end_of(self.folder / name) for name in ("out", "err"))


def started(stat: str) -> int:
    """When a process began, in clock ticks since boot, from a line of /proc/PID/stat."""
    return int(stat.rsplit(") ", 1)[1].split()[19])


def _age(pid: int) -> float:
    try:
        began = started(Path(f"/proc/{pid}/stat").read_text()) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0
    return max(0.0, float(Path("/proc/uptime").read_text().split()[0]) - began)


def exit_code(status: bytes) -> int | None:
    """What `bwrap --json-status-fd` wrote about its child's end; None when the child never ended by itself."""
    for line in status.splitlines():
        code = json.loads(line).get("exit-code")
        if code is not None:
            return int(code)
    return None


def _end_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read(TAIL)
    except FileNotFoundError:
        return b""
