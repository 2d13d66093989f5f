"""Rooms of a Docker engine: every command is a container of its own over the room's image, workspace and mounts.

Not one container for a room, and its commands by `docker exec`: killing that leaves its process running, and what a
command left behind would have to be found among all others. A container ends as a whole, and holds no root. `timeout`
in it is the clock, so that a slow start costs the command nothing; ours outside is for commands that stop that one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from sandbox import limits
from sandbox.hosted import KILLED, HostedEngine, HostedRoom, Place, shown, tmp
from sandbox.process import HOST_ENV, TIMED_OUT, Process, end_process, exited, run
from sandbox.room import MIB, Command, Ended, EngineUnavailable, OnOutput, Result, RoomError, RoomSpec, RootFs

ANSWER_S: Final = 120.0
IMPORT_S: Final = 900.0
GRACE_S: Final = 5.0  # beyond a command's own time, for its container to start
END_S: Final = 30.0  # for a container to end before its client is ended
WALLS: Final = (
    *("--init", "--read-only", "--network", "none", "--ipc", "private", "--hostname", "room", "--log-driver", "none"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--shm-size", str(64 * MIB)),
)


def docker(*words: str, time_s: float = ANSWER_S) -> subprocess.CompletedProcess[str]:
    """Asks the engine that `DOCKER_HOST` names, in words for its command line. Blocks. Raises `EngineUnavailable` when
    it does not answer in time."""
    argv = [*_client(), *words]
    try:
        return subprocess.run(argv, capture_output=True, text=True, env=dict(HOST_ENV), check=False, timeout=time_s)
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailable(f"the Docker engine did not answer {words[0]!r} within {time_s:g} s") from error


def _client() -> tuple[str, ...]:
    return ("docker", "-H", os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")


@cache
def _takes_groups() -> bool:
    """Whether the engine puts containers into groups of ours: as root, and if it makes its own as plain folders."""
    return os.geteuid() == 0 and docker("info", "--format", "{{.CgroupDriver}}").stdout.strip() == "cgroupfs"


@dataclass(frozen=True)
class DockerPlace(Place):
    """A room's records, and the containers of its commands, which are named after its tag."""

    def end(self, names: str = "") -> None:
        super().end(names)
        listed = docker("ps", "-aq", "--filter", f"name=^/?{re.escape(self.tag + names)}")
        if found := listed.stdout.split():
            docker("rm", "-f", "-v", *found)

    def remove(self, *, quiet: bool = False) -> None:
        super().remove(quiet=quiet)
        if self.group.folders:  # the engine made them for every kind
            limits.Group(tuple(limits.CGROUPS.glob(f"*/{limits.ROOMS}/{self.tag}"))).end()


class DockerRoom(HostedRoom):
    """One room. `words` are options of `docker create`, and the image."""

    async def enter(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        container = self.place.tag + name
        fed = ("--interactive",) if command.stdin != b"" else ()
        bound = ("timeout", "-s", "KILL", "-k", "1", str(command.time_s), "env", "-i")
        inside = (*fed, *self.words, *bound, *limits.inner(self.spec, command, self.environment(command)))
        # The client is told when whoever started it dies, and passes that on to the container.
        client = ("setpriv", "--pdeathsig", "TERM", *_client(), "start", "--attach", *fed, container)
        longer = replace(command, time_s=command.time_s + GRACE_S)
        try:
            # Not `docker run`: its warnings about the machine would be the command's stderr.
            made = await to_thread.run_sync(docker, "create", "--name", container, *inside)
            if made.returncode:
                raise self.broken(made.stderr)
            done = await run(client, longer, on_output, end=partial(_end, container))
            if done.exit_code == KILLED and done.seconds >= command.time_s:
                return replace(done, exit_code=TIMED_OUT, ended=Ended.TIMEOUT)
            if done.exit_code and done.ended is not Ended.TIMEOUT and self.place.alive:
                began = (await to_thread.run_sync(docker, "inspect", "-f", "{{.State.StartedAt}}", container)).stdout
                if not began.strip():  # somebody removed it, or the engine ended
                    self.place.condemn()
                if not began.strip() or began.startswith("0001-"):  # never
                    raise self.broken(done.stderr.decode(errors="replace"))
            return done
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(docker, "rm", "-f", "-v", container)


async def _end(container: str, client: Process) -> None:
    """Ends a container and then the client that waits for it."""
    with anyio.move_on_after(END_S):
        while client.poll() is None:  # again, because it may not have begun
            await to_thread.run_sync(docker, "rm", "-f", "-v", container)
            with anyio.move_on_after(1.0):
                await exited(client)
    await end_process(client)


class DockerEngine(HostedEngine):
    """Makes rooms with a Docker engine on this machine."""

    name = folder = "docker"
    kind = DockerPlace
    _importing = threading.Lock()

    def check(self) -> None:
        """Raises `EngineUnavailable` when no engine answers."""
        if shutil.which("docker", path=HOST_ENV["PATH"]) is None:
            raise EngineUnavailable("the command `docker` is not installed; install docker.io or docker-cli")
        asked = docker("version", "--format", "{{.Server.Version}}")
        if asked.returncode != 0:
            raise EngineUnavailable(f"no Docker engine answers at {_client()[-1]}: {asked.stderr.strip()}")

    def gaps(self) -> tuple[str, ...]:
        found = ["memfd_create stays allowed: a room without executable scratch can still run code from memory"]
        if not self.groups():
            found.append("memory, processes and CPU are bounded for each command, not for a room as a whole")
        if not limits.has_disks():
            found.append(limits.NO_DISKS)
        if not limits.can_mount():
            found.append("what a room writes into its workspace can be executed, whatever its specification says")
        return tuple(found)

    def groups(self) -> tuple[Path, ...]:
        return limits.group_roots() if _takes_groups() else ()

    def make(self, spec: RoomSpec, place: Place) -> DockerRoom:
        if spec.root is None:
            raise ValueError(f"room {spec.name}: docker needs a root file system")
        labels, bounds, uid = spec.labels, spec.limits, limits.room_uid(spec)
        words = [*WALLS, *f"--user {uid}:{uid} --memory {bounds.memory} --memory-swap {bounds.memory}".split()]
        words += f"--cpus {bounds.cpus} --pids-limit {bounds.processes + limits.OVERHEAD}".split()
        if place.group.folders:
            words += ["--cgroup-parent", f"/{limits.ROOMS}/{place.tag}"]
        for name, value in {"run": labels.run, "seat": labels.seat, "session": labels.session}.items():
            words += ["--label", f"orchestrator.{name}={value}"]
        if spec.brief and not limits.can_mount():
            executable = "exec" if spec.scratch_exec else "noexec"
            words += ["--tmpfs", f"/tmp:size={limits.tmp_bytes(bounds)},mode=1777,nosuid,nodev,{executable}"]
        else:
            words += ["--mount", f'type=bind,target=/tmp,"source={tmp(spec, place)}"']
        for number, one in enumerate(self.mounts(spec)):
            noexec = one.writable and not spec.scratch_exec
            source = shown(one.source, place.folder / f"m{number}", noexec=noexec, walk=False)
            read_only = "" if one.writable else ",readonly"
            words += ["--mount", f'type=bind,"source={source}","target={one.target}"{read_only}']
        return DockerRoom(spec, place, (*words, self._image(spec.root)))

    def _image(self, root: RootFs) -> str:
        """The image of a root file system, imported once."""
        tag = f"orchestrator-room:{root.digest.removeprefix('sha256:')}"
        with self._importing:
            if docker("image", "inspect", tag).returncode != 0:
                done = docker("import", str(root.tar), tag, time_s=IMPORT_S)
                if done.returncode != 0:
                    raise RoomError(f"the Docker engine did not take {root.tar}: {done.stderr.strip()}")
        return tag
