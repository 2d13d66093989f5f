"""Rooms of a Docker engine: every command is a container of its own over the room's image, workspace and mounts.

Not one container for a room, and its commands by `docker exec`: killing that leaves its process running, and what a
command left behind would have to be found among all others. A container ends as a whole, and holds no root. `timeout`
in it is the clock, so that a slow start costs the command nothing; ours outside is for commands that stop that one.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import anyio
import docker
from anyio import to_thread
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container
from docker.types import LogConfig
from docker.types import Mount as Bind
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from sandbox import limits, mounts
from sandbox.hosted import KILLED, HostedEngine, HostedRoom, Place
from sandbox.process import HOST_ENV, TIMED_OUT, run
from sandbox.room import MIB, Command, Ended, EngineUnavailable, OnOutput, Result, RoomError, RoomSpec, RootFs

ANSWER_S: Final = 900  # an image may take that long
GRACE_S: Final = 5.0  # beyond a command's own time, for its container to start
END_S: Final = 30.0  # for a container to be gone
WALLS: Final = {
    **{"init": True, "read_only": True, "network_mode": "none", "ipc_mode": "private", "hostname": "room"},
    **{"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "shm_size": 64 * MIB},
    "log_config": LogConfig(type="none"),
}


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


_connected = cache(partial(docker.DockerClient, timeout=ANSWER_S))


def _client() -> docker.DockerClient:
    """The engine that `DOCKER_HOST` names. Its calls block."""
    return _connected(_host())


@contextmanager
def asking() -> Iterator[None]:
    """Raises `RoomError` for what the engine refuses, `EngineUnavailable` when it does not answer."""
    try:
        yield
    except APIError as error:
        raise RoomError(f"the Docker engine refused: {error.explanation or error}") from error
    except (DockerException, OSError) as error:  # of the SDK and of the HTTP client under it
        raise EngineUnavailable(f"no Docker engine answers at {_host()}: {error}") from error


@cache
def _takes_groups() -> bool:
    """Whether the engine puts containers into groups of ours: as root, and if it makes its own as plain folders."""
    return os.geteuid() == 0 and _client().info().get("CgroupDriver") == "cgroupfs"


# An engine that is short of time may find that a container has not ended yet.
@retry(retry=retry_if_exception_type(APIError), stop=stop_after_delay(END_S), wait=wait_fixed(1.0), reraise=True)
def _remove(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):  # gone, or going
            raise


@dataclass(frozen=True)
class DockerPlace(Place):
    """A room's records, and the containers of its commands, which are named after its tag."""

    def end(self, names: str = "") -> None:
        super().end(names)
        with asking():
            name = f"^/?{re.escape(self.tag + names)}"
            for container in _client().containers.list(all=True, filters={"name": name}, ignore_removed=True):
                _remove(container)


@dataclass(eq=False)
class DockerRoom(HostedRoom):
    """One room; `options` are what the engine is told of each of its containers."""

    options: dict[str, Any]

    async def enter(self, command: Command, name: str, on_output: OnOutput | None) -> Result:
        fed = ("--interactive",) if command.stdin != b"" else ()
        bound = ("timeout", "-s", "KILL", "-k", "1", str(command.time_s), "env", "-i")
        inside = (*bound, *limits.inner(self.spec, command, self.environment(command)))
        options = self.options | {"name": self.place.tag + name, "command": list(inside), "stdin_open": bool(fed)}
        with asking():
            container = await to_thread.run_sync(lambda: _client().containers.create(**options))
        # The client is told when whoever started it dies, and passes that on to the container.
        client = ("setpriv", "--pdeathsig", "TERM", "docker", "-H", _host(), "start", "--attach", *fed)
        longer = replace(command, time_s=command.time_s + GRACE_S)
        try:
            done = await run((*client, str(container.id)), longer, on_output)
            if done.exit_code == KILLED and done.seconds >= command.time_s:
                return replace(done, exit_code=TIMED_OUT, ended=Ended.TIMEOUT)
            failed = done.exit_code and done.ended is not Ended.TIMEOUT
            if failed and not await to_thread.run_sync(self._began, container):
                raise RoomError(f"room {self.spec.name}: {done.stderr.decode(errors='replace').strip()}")
            return done
        finally:
            with anyio.CancelScope(shield=True), suppress(DockerException, OSError):
                await to_thread.run_sync(_remove, container)

    def _began(self, container: Container) -> bool:
        """Whether a container was ever started. If somebody removed it, or the engine has ended, the room is dead."""
        try:
            container.reload()
        except (DockerException, OSError):
            self.place.condemn()
            return False
        return not str(container.attrs["State"]["StartedAt"]).startswith("0001-")


class DockerEngine(HostedEngine):
    """Makes rooms with a Docker engine on this machine."""

    name = folder = "docker"
    kind = DockerPlace
    _importing = threading.Lock()

    def check(self) -> None:
        """Raises `EngineUnavailable` when no engine answers."""
        if shutil.which("docker", path=HOST_ENV["PATH"]) is None:
            raise EngineUnavailable(
                "no Docker engine answers: `docker` is not installed; install docker.io or docker-cli"
            )
        with asking():
            _client().ping()

    def gaps(self) -> tuple[str, ...]:
        found = ["memfd_create stays allowed: a room without executable scratch can still run code from memory"]
        if not self.groups():
            found.append("memory, processes and CPU are bounded for each command, not for a room as a whole")
        if not mounts.has_disks():
            found.append(mounts.NO_DISKS)
        if not mounts.can_mount():
            found.append("what a room writes into its workspace can be executed, whatever its specification says")
        return tuple(found)

    def groups(self) -> tuple[Path, ...]:
        return limits.group_roots() if _takes_groups() else ()

    def make(self, spec: RoomSpec, place: Place) -> DockerRoom:
        assert spec.root, "only `local` has no root file system"
        labels, bounds, uid = spec.labels, spec.limits, limits.room_uid(spec)
        options: dict[str, Any] = WALLS | {
            "image": self._image(spec.root),
            "user": f"{uid}:{uid}",
            "labels": {f"orchestrator.{name}": getattr(labels, name) for name in ("run", "seat", "session")},
            "mem_limit": bounds.memory,
            "memswap_limit": bounds.memory,
            "nano_cpus": int(bounds.cpus * 1e9),
            "pids_limit": bounds.processes + limits.OVERHEAD,
            "mounts": [],
        }
        if place.group.folders:
            options["cgroup_parent"] = f"/{limits.ROOMS}/{place.tag}"
        for one in mounts.shown(spec, place.folder):
            if one.target == "/tmp" and spec.brief and not mounts.can_mount():
                way = "exec" if spec.scratch_exec else "noexec"
                options["tmpfs"] = {"/tmp": f"{mounts.memory(spec)},mode=1777,nosuid,nodev,{way}"}
            else:
                options["mounts"].append(Bind(one.target, str(one.source), type="bind", read_only=not one.writable))
        return DockerRoom(spec, place, options)

    def _image(self, root: RootFs) -> str:
        """The image of a root file system, imported once."""
        tag = root.digest.removeprefix("sha256:")
        name = f"orchestrator-room:{tag}"
        with self._importing, asking():
            try:
                _client().images.get(name)
            except ImageNotFound:
                _client().api.import_image_from_file(str(root.tar), repository="orchestrator-room", tag=tag)
        return name
