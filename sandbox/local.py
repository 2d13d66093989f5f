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
from sandbox.hosted import WORKSPACE, HostedEngine, HostedRoom, Place, Run
from sandbox.process import Finished
from sandbox.room import MIB, Command, Mount, RoomSpec


class LocalRoom(HostedRoom):
    """One room. As root its commands run as the room's own user, where that user can reach the workspace and mounts."""

    def __init__(self, spec: RoomSpec, place: Place) -> None:
        super().__init__(spec, place)
        self._tmp = place.folder / "tmp"
        self._mounts = (*spec.mounts, Mount(spec.workspace or self._tmp, WORKSPACE, writable=True))
        self._lowered = os.geteuid() == 0 and all(limits.reachable(mount.source) for mount in self._mounts)

    def prepare(self) -> None:
        """Makes the folders that commands write to. Raises `OSError`."""
        for folder in (self._tmp, *(mount.source for mount in self._mounts if mount.writable)):
            folder.mkdir(parents=True, exist_ok=True)
            if self._lowered:
                os.chown(folder, limits.room_uid(self.spec), limits.room_uid(self.spec))

    async def enter(self, command: Command, name: str, run: Run) -> tuple[Finished, int | None]:
        env = {"HOME": self._tmp, "TMPDIR": self._tmp, "WORKSPACE": self._host_path(WORKSPACE)}
        own = self.environment(command, **{variable: str(path) for variable, path in env.items()})
        here = replace(command, cwd=self._host_path(command.cwd))
        bounds = limits.inner(self.spec.limits, here, own, memory=True, processes=self._lowered, disk=True)
        user = limits.as_user(limits.room_uid(self.spec)) if self._lowered else ()
        reaper = (sys.executable, "-I", "-S", reap.__file__, "--argv0", self.place.tag + name, "--")
        done = await run((*reaper, *user, "env", "-i", *bounds))
        return done, done.code if done.code >= 0 else None

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
        found = [
            "commands run on the host itself: they see its files, its processes and its programs",
            "commands reach every network that the host reaches",
            "a room's root is the host's own, and mounts are not made read-only",
            "memory is bounded for each process, not for a room as a whole",
            "the share of CPU is not bounded, only CPU time where a command sets it",
            "disk space and inodes are not bounded, only the size of each file",
            "what a room writes can be executed, whatever its specification says",
            "a process that forks faster than it can be found may outlive its command",
        ]
        if os.geteuid() == 0:
            return (
                *found,
                "where a room's user cannot reach its mounts, its commands run as root, unbounded in processes",
            )
        return (
            *found,
            "the number of processes is not bounded",
            "commands run as the orchestrator's user: they can end it and read what it can read",
        )

    def make(self, spec: RoomSpec, place: Place) -> LocalRoom:
        room = LocalRoom(spec, place)
        room.prepare()
        return room
