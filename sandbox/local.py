"""Rooms without isolation, for machines that allow neither namespaces nor an engine. Never chosen, only asked for.

What is left still holds: time, output, memory of each process, whole process trees, jobs, and, as root, a host user of
its own for every room's commands. `/workspace`, `/tmp` and mount targets are translated where the interface names them
(`cwd`, `read`, `write`, values of the environment); inside a command the workspace is at `$WORKSPACE`.
"""

import os
import sys
from dataclasses import dataclass, replace

from sandbox import limits, mounts, reap
from sandbox.hosted import HostedEngine, HostedRoom, Place
from sandbox.process import run
from sandbox.room import Command, Mount, OnOutput, Result, RoomSpec


@dataclass(eq=False)
class LocalRoom(HostedRoom):
    """One room. `words` become the room's own user; without them its commands run as the orchestrator's."""

    mounts: list[Mount]
    words: tuple[str, ...]

    async def enter(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        words = self.environment(command, TMPDIR="/tmp", WORKSPACE=mounts.WORKSPACE)
        env = {name: self.seen(value) for name, value in words.items()}
        here = replace(command, cwd=self.seen(command.cwd))
        inside = limits.inner(self.spec, here, env, "memory", "processes" if self.words else "")
        reaper = (sys.executable, "-I", "-S", reap.__file__, "--argv0", self.place.tag + name, "--")
        return await run((*reaper, *self.words, "env", "-i", *inside), command, on_output)

    def seen(self, path: str) -> str:
        for mount in reversed(self.mounts):
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
            mounts.NO_DISKS,
            "what a room writes can be executed, whatever its specification says",
            "a process that forks faster than it can be found may outlive its command",
            *(root if os.geteuid() == 0 else others),
        )

    def make(self, spec: RoomSpec, place: Place) -> LocalRoom:
        prepared = mounts.prepared(replace(spec, scratch_exec=True), place.folder)
        nowhere = Mount(place.folder / "tmp", mounts.WORKSPACE)  # where a room without a workspace works
        if os.geteuid() != 0 or not all(mounts.reachable(mount.source) for mount in prepared):
            return LocalRoom(spec, place, [nowhere, *prepared], ())
        mounts.give(spec, prepared)
        return LocalRoom(spec, place, [nowhere, *prepared], limits.as_user(limits.room_uid(spec)))
