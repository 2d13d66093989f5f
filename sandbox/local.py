"""Rooms without isolation, for machines that allow neither namespaces nor an engine. Never chosen, only asked for.

What is left still holds: time, output, memory of each process, whole process trees, jobs, and, as root, a host user of
its own for every room's commands. `/workspace` and mount targets are translated where the interface names them (`cwd`,
`read`, `write`); inside a command the workspace is at `$WORKSPACE`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from sandbox import limits, reap
from sandbox.hosted import WORKSPACE, HostedEngine, HostedRoom, Place
from sandbox.process import run
from sandbox.room import MIB, Command, Mount, OnOutput, Result, RoomSpec


class LocalRoom(HostedRoom):
    """One room. As root its commands run as the room's own user, where that user can reach the workspace and mounts."""

    def __init__(self, spec: RoomSpec, place: Place) -> None:
        super().__init__(spec, place)
        self._tmp = place.folder / "tmp"
        self._mounts = (*spec.mounts, Mount(spec.workspace or self._tmp, WORKSPACE, writable=True))
        own = (self._tmp, *(mount.source for mount in self._mounts if mount.writable))
        for folder in own:
            folder.mkdir(parents=True, exist_ok=True)
        self._lowered = os.geteuid() == 0 and all(limits.reachable(mount.source) for mount in self._mounts)
        for folder in own if self._lowered else ():
            os.chown(folder, limits.room_uid(self.spec), limits.room_uid(self.spec))

    async def enter(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        tmp = str(self._tmp)
        env = self.environment(command, HOME=tmp, TMPDIR=tmp, WORKSPACE=self._host_path(WORKSPACE))
        here = replace(command, cwd=self._host_path(command.cwd))
        inside = limits.inner(self.spec, here, env, "memory", "processes" if self._lowered else "")
        user = limits.as_user(limits.room_uid(self.spec)) if self._lowered else ()
        reaper = (sys.executable, "-I", "-S", reap.__file__, "--argv0", self.place.tag + name, "--")
        return await run((*reaper, *user, "env", "-i", *inside), command, on_output)

    async def write(self, path: str, data: bytes) -> None:
        await super().write(self._host_path(path), data)

    async def read(self, path: str, limit: int = MIB) -> bytes:
        return await super().read(self._host_path(path), limit)

    def _host_path(self, path: str) -> str:
        path = path if path.startswith("/") else f"{WORKSPACE}/{path}"
        for mount in self._mounts:
            if path == mount.target or path.startswith(mount.target + "/"):
                return str(mount.source) + path[len(mount.target) :]
        return path


class LocalEngine(HostedEngine):
    """Makes rooms that do not isolate. `gaps` says what that means."""

    name = folder = "local"

    def gaps(self) -> tuple[str, ...]:
        root = ("where a room's user cannot reach its mounts, its commands run as root, unbounded in processes",)
        others = (
            "the number of processes is not bounded",
            "commands run as the orchestrator's user: they can end it and read what it can read",
        )
        return (
            "commands run on the host itself: they see its files, its processes and its programs",
            "commands reach every network that the host reaches",
            "a room's root is the host's own, and mounts are not made read-only",
            "memory is bounded for each process, not for a room as a whole",
            "the share of CPU is not bounded, only CPU time where a command sets it",
            limits.NO_DISKS,
            "what a room writes can be executed, whatever its specification says",
            "a process that forks faster than it can be found may outlive its command",
            *(root if os.geteuid() == 0 else others),
        )

    def make(self, spec: RoomSpec, place: Place) -> LocalRoom:
        return LocalRoom(spec, place)
