"""Background jobs: each is a command that a process of its own, its keeper, runs as the orchestrator itself would.

    jobs/<id>/    making it is the claim on the id
      call        the room, the command and its name, for the keeper
      pid         the keeper's process id; the keeper holds a lock on it for as long as it lives
      out         stdout as it comes
      killed      its end was asked for, and that is how it ended
      result      written last

Nothing changes for a job when the orchestrator dies. No result and no keeper: cut short.
"""

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import anyio

from sandbox import faults
from sandbox.process import HOST_ENV, Process, spawn
from sandbox.room import Ended, JobStatus, Result

TAIL: Final = 4096
_keepers: list[Process] = []  # that may have to be reaped


def start(folder: Path, tag: str, call: object) -> None:
    """Starts the keeper, unless the id is taken. `call` is the room, and what its `perform` takes: command and name."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    faults.at("job-claimed")
    (folder / "call").write_bytes(pickle.dumps(call))
    _keepers[:] = [keeper for keeper in _keepers if keeper.poll() is None]
    argv = (sys.executable, "-P", "-m", "sandbox.jobs", "--argv0", tag, str(folder))
    env = {"PYTHONPATH": str(Path(__file__).parents[1]), "DOCKER_HOST": os.environ.get("DOCKER_HOST", "")}
    with (folder / "pid").open("w") as pid:
        fcntl.flock(pid, fcntl.LOCK_EX)
        keeper = spawn(argv, subprocess.DEVNULL, pass_fds=[pid.fileno()], env={**HOST_ENV, **env})
        pid.write(str(keeper.pid))
    _keepers.append(keeper)
    faults.at("job-started")


def keeper(folder: Path) -> int | None:
    """The living keeper's process id, or None."""
    with (folder / "pid").open("a+") as pid:  # not there yet, if the orchestrator died between claim and start
        pid.seek(0)
        try:
            fcntl.flock(pid, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(pid.read() or 0)
    return None


def status(folder: Path) -> JobStatus:
    """How the job stands."""
    running = keeper(folder) is not None  # asked first: it writes its result before it ends
    out = (folder / "out").read_bytes() if (folder / "out").exists() else b""
    killed = (folder / "killed").exists()
    if (folder / "result").exists() and not killed:
        result = pickle.loads((folder / "result").read_bytes())
    elif running:
        return JobStatus(time.time() - (folder / "pid").stat().st_mtime, out[-TAIL:], None)
    else:
        result = Result(128 + signal.SIGKILL, out, b"", 0.0, Ended.KILLED if killed else Ended.INTERRUPTED)
    return JobStatus(result.seconds, out[-TAIL:], result)


async def keep(folder: Path) -> None:
    """What a keeper does: runs the command to its end. To end it early, end the keeper and all below it."""
    room, command, name = pickle.loads((folder / "call").read_bytes())
    async with await anyio.open_file(folder / "out", "wb", buffering=0) as out:
        result = await room.perform(command, name, out.write)
    (folder / "result.new").write_bytes(pickle.dumps(result))
    (folder / "result.new").replace(folder / "result")


if __name__ == "__main__":
    anyio.run(keep, Path(sys.argv[3]))
