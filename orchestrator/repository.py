"""The run's repositories, and every way a tree gets into, between and out of them.

    repo.git     main, refs/changes/*, refs/drafts/*, refs/checkpoints/*, refs/kept/*: the run's own, mounted nowhere
    public.git   main and nothing else: what every seat reads
    quarantine/  one folder for each stream that is being received; empty otherwise

repo.git's main is the authority; public.git follows it and may lag behind after a crash until `recover`. Objects are
durable before a method returns their id, so a row that names one can be written after it.
"""

import os
import re
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import anyio
import psutil

from orchestrator.git import CONFINED, EPOCH, Git, GitTree, create_bare
from orchestrator.quarantine import Refused, check_policy, connect, quarantined
from orchestrator.queue import Conflict
from orchestrator.quoting import one_line
from orchestrator.workspace import CHECKPOINT, MAIL_DOMAIN, SUBMISSION, Stream
from sandbox import faults

MAIN: Final = "refs/heads/main"
ITSELF: Final = "orchestrator"
UNTOUCHED: Final = "* -text -ident -filter !working-tree-encoding\n"  # goes before every attribute of a seed
LOOSE_LIMIT: Final = 30  # objects: fewer become loose ones, synced one by one; packs by the thousand would be slow
CONFLICT_FILES, CONFLICT_TEXT = 20, 6000  # files, and characters, shown of a conflict
SUMMARY_LIMIT: Final = 4000  # characters of an agent's words that reach main
_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,119}")
# What git, or a person with grep, could take for a trailer, a divider before a patch, a comment or a scissors line.
_TRAILER_LIKE: Final = re.compile(r"[A-Za-z0-9_-]+[ \t]*[:=]|\(cherry picked from|---|#|diff |Index:")
_OWN: Final = re.compile(r"(run|seat|session|task|change)[ \t]*[:=]", re.IGNORECASE)
_KEPT: Final = re.compile(r"refs/(changes|drafts|checkpoints|kept)(/[A-Za-z0-9][A-Za-z0-9_-]*)+")


class ForeignMain(Exception):
    """Main is neither where a landing found it nor where it puts it: somebody else moved it. The run must halt."""


@dataclass(frozen=True)
class Received:
    """A change as the run keeps it: one commit of ours, `tree` on `base`, a commit of main."""

    commit: str
    base: str
    tree: str
    files: tuple[str, ...]
    added: int
    removed: int


class Repository:
    """One run's repositories, under one folder. Methods raise `GitError` when git or this machine fails.

    `durable=False` spares the syncs of a repository that nobody needs after a loss of power.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        folder = folder.absolute()
        self.git = Git(folder / "repo.git", durable=durable)
        self.public = Git(folder / "public.git", durable=durable)
        self._confined = replace(self.git, bounds=CONFINED)
        self._quarantine = folder / "quarantine"
        self._kept: dict[str, str] | None = None
        self._main = ""  # as this process, which alone moves it, last saw it

    @classmethod
    async def create(cls, folder: Path, seed: Path, *, durable: bool = True) -> "Repository":
        """New repositories whose first commit holds the seed folder as it lies there: no attribute, no ignore file."""
        repository = cls(folder, durable=durable)
        await create_bare(repository.git)
        await create_bare(repository.public, readable=True)
        async with anyio.TemporaryDirectory(dir=str(folder)) as scratch:
            git = await create_bare(Git(Path(scratch) / "seed.git", durable=False))
            await anyio.Path(git.folder / "info").mkdir()
            await anyio.Path(git.folder / "info/attributes").write_text(UNTOUCHED)
            await git.run(f"--work-tree={await anyio.Path(seed).absolute()}", "add", "--all", "--force")
            # At a fixed time: the same seed gives the same first commit in every run.
            commit = await _commit(git, await git.text("write-tree"), "", "Seed\n", EPOCH, ITSELF)
            await repository._keep(git, commit, "", MAIN)
        await repository._publish()
        return repository

    async def recover(self) -> None:
        """After a crash, and before anything else: ends our git processes that outlived it, removes their locks and
        half-written files, and lets public.git catch up. Only for the process that holds the run's lock."""
        await anyio.to_thread.run_sync(_clean_up, self.git.folder, self.public.folder, self._quarantine)
        await self._publish()

    # Reading

    async def main(self) -> str:
        """Main's commit. Each turn of each seat asks, so git is asked once: only `land` moves it."""
        return self._main or await self._look()

    async def _look(self) -> str:
        self._main = await self.git.text("rev-parse", "--verify", MAIN)
        return self._main

    async def tree(self, commit: str) -> GitTree:
        """A commit's tree, for a judge."""
        return GitTree(self._confined, await self.git.text("rev-parse", "--verify", f"{commit}^{{tree}}"))

    # From a room

    async def receive(self, stream: bytes, ref: str, limits: Stream = SUBMISSION) -> Received:
        """Takes a submission in, as one commit of ours kept at `refs/changes/<number>` or `refs/drafts/<session>`.

        A second call for the same ref replaces the first: a change's ref is taken once a row names its commit.
        Raises `Refused`.
        """
        _checked(ref)
        async with quarantined(stream, limits, self.public, self._quarantine) as (git, found, base):
            entries, files, added, removed = await git.difference(base, found)
            if not files:
                raise Refused(f"nothing to submit: your workspace is the same as main at {base[:10]}")
            await check_policy(git, entries)
            facts = await git.text("log", "--no-walk=unsorted", "--format=%T %ct", found, base)
            tree, _, _, when = facts.split()
            commit = await _commit(git, tree, base, f"{ref}\n", int(when), ITSELF)
            await self._keep(git, commit, base, ref)
        return Received(commit, base, tree, files, added, removed)

    async def take_back(self, commit: str, ref: str) -> Received:
        """A change that undoes a commit of main, kept at `ref` like any other: based on it, with its parent's tree, so
        that a merge with main leaves out what the commit did."""
        facts = await self.git.text("log", "--no-walk=unsorted", "--format=%T %ct", f"{commit}^", commit)
        tree, _, _, when = facts.split()
        undone = await _commit(self.git, tree, commit, f"{_checked(ref)}\n", int(when), ITSELF)
        _, files, added, removed = await self.git.difference(commit, undone)
        await self.git.run("update-ref", ref, undone)
        return Received(undone, commit, tree, files, added, removed)

    async def receive_checkpoint(self, stream: bytes, name: str) -> str:
        """Keeps a workspace at `refs/checkpoints/<name>` (a session or a task) and returns its commit.

        It only ever goes back into a room, so what may not be on main may be in it. Older checkpoints stay readable by
        their commit, for a row that names one. Raises `Refused`.
        """
        ref = _checked(f"refs/checkpoints/{name}")
        async with quarantined(stream, CHECKPOINT, self.public, self._quarantine) as (git, commit, base):
            await self._keep(git, commit, base, ref)
        return commit

    async def checkpoint(self, name: str) -> str:
        """The newest checkpoint's commit, or ""."""
        ref = _checked(f"refs/checkpoints/{name}")
        return await self.git.text("rev-parse", "--verify", "--quiet", ref, accept=(0, 1))

    def checkpoint_pack(self, commit: str) -> AsyncGenerator[bytes, None]:
        """A checkpoint for `workspace.lay`: a thin pack over main."""
        return _packed(self.git, commit, MAIN, "--thin", "--delta-base-offset")

    # From one owner of a task to the next

    async def keep(self, task: str, found: str, session: str, why: str, at: datetime) -> str:
        """Keeps a session's tree, of a checkpoint's or a change's commit, at `refs/kept/<task>` in the place of what
        was kept there, as one commit on the main that it stands on; returns what came of it. Where nothing differs from
        main, or a submission of it would not be taken, what was kept before stays."""
        main = await self.main()
        base = await self.git.text("merge-base", found, main)
        trees = await self.git.text("rev-parse", f"{found}^{{tree}}", f"{main}^{{tree}}")
        tree, now = trees.split()
        entries, files, added, removed = await self._confined.difference(base, found)
        if not files or tree == now:
            return "no work to keep"
        counts = f"{len(files)} file{'s' * (len(files) > 1)}, +{added} -{removed}"
        told = f"kept/{task}: {counts} on main {base[:7]}, by {session}, {at:%d %b %H:%M} UTC: > {one_line(why)}"
        commit = await _commit(self.git, tree, base, f"{told}\n", int(at.timestamp()), session.partition("/")[0])
        try:
            await connect(self._confined, commit, main, SUBMISSION)
            await check_policy(self._confined, entries)
        except Refused as refusal:
            return f"work not kept: {refusal}"
        kept = dict(await self.kept())
        await self.git.run("update-ref", _checked(f"refs/kept/{task}"), commit)
        self._kept = {**kept, task: told}
        return f"work kept: {counts}"

    async def kept(self) -> Mapping[str, str]:
        """What is kept, by task, each in a line that may quote an agent."""
        if self._kept is None:
            listed = await self.git.text("for-each-ref", "--format=%(refname:lstrip=2) %(subject)", "refs/kept")
            self._kept = {task: told for task, _, told in (line.partition(" ") for line in listed.splitlines())}
        return self._kept

    async def kept_pack(self, task: str, known: str) -> tuple[str, AsyncGenerator[bytes, None]]:
        """A task's kept commit, and a thin pack of it for a room that has the commit `known` of main."""
        commit = await self.git.text("rev-parse", "--verify", _checked(f"refs/kept/{task}"))
        return commit, _packed(self.git, commit, known, "--thin", "--delta-base-offset")

    async def forget(self, task: str) -> None:
        """A change for the task landed: what was kept before is older than main."""
        if task in (kept := await self.kept()):
            await self.git.run("update-ref", "-d", _checked(f"refs/kept/{task}"))
            self._kept = {name: told for name, told in kept.items() if name != task}

    async def _keep(self, source: Git, commit: str, base: str, ref: str) -> None:
        await _copy(source, self.git, commit, base)
        faults.at("objects-kept")
        await self.git.run("update-ref", ref, commit)
        faults.at("ref-written")

    # To main

    async def merge(self, onto: str, change: str) -> GitTree | Conflict:
        """Merges a change onto a commit and returns the tree. Without a work tree: no attribute or driver of theirs has
        a say."""
        merge = ("merge-tree", "--write-tree", "--messages", "--name-only", "-z", onto, change)
        code, said = await self._confined.run(*merge, accept=(0, 1))
        tree, *rest = said.split(b"\0")
        if code == 0:
            try:  # a rename on main may have moved a link to where it leads out
                await check_policy(self._confined, (await self._confined.difference(onto, tree.decode()))[0])
            except Refused as refused:
                return Conflict((str(refused).partition(" ")[0],), str(refused))
            return GitTree(self._confined, tree.decode())
        end = rest.index(b"")
        paths = list(dict.fromkeys(rest[:end]))
        # Behind the paths: a count, so many paths, a kind, and a message, again and again.
        messages = b"".join(line for line in rest[end:] if re.match(rb"CONFLICT \([^)]*\): ", line))
        diff = ("--literal-pathspecs", "diff-tree", "-p", "--no-ext-diff", "--no-textconv", onto, tree.decode(), "--")
        shown = map(os.fsdecode, paths[:CONFLICT_FILES])
        _, hunks = await self._confined.run(*diff, *shown, accept=range(-64, 256))  # as far as it came
        text = (messages + hunks).decode(errors="backslashreplace").replace(onto, "main").replace(change, "yours")
        clipped = text if len(text) <= CONFLICT_TEXT else f"{text[:CONFLICT_TEXT]}\n… (clipped)"
        return Conflict(tuple(path.decode(errors="backslashreplace") for path in paths), clipped)

    async def commit(
        self, tree: str, parent: str, summary: str, trailers: Mapping[str, str], *, at: datetime, author: str
    ) -> str:
        """One commit for main: the same arguments give the same id. `author` is the seat; the committer is the run.

        Raises `ValueError` for a trailer that is not a plain id.
        """
        return await _commit(self.git, tree, parent, message(summary, trailers), int(at.timestamp()), author)

    async def land(self, old: str, new: str) -> None:
        """Moves main from `old` to `new`, which must be built on it, and publishes it. Raises `ForeignMain`.

        Done already is done: a landing may be repeated after a crash.
        """
        if await self.git.text("merge-base", old, new, accept=(0, 1)) != old:
            raise ValueError(f"{new} is not built on {old}: landing it would drop commits of main")
        main = await self._look()
        if main not in (old, new):
            raise ForeignMain(
                f"main of {self.git.folder} is {main}; the landing expects {old} before or {new} after it"
            )
        if main == old:
            await self.git.run("update-ref", MAIN, new, old)
            self._main = new
            faults.at("main-moved")
        await self._publish()
        faults.at("main-published")

    async def _publish(self) -> None:
        """Brings public.git to main. Only main's own objects go over."""
        new = await self._look()
        old = await self.public.text("rev-parse", "--verify", "--quiet", MAIN, accept=(0, 1))
        if old == new:
            return
        if old and await self.git.text("merge-base", old, new, accept=(0, 1, 128)) != old:
            raise ForeignMain(f"main of {self.public.folder} is {old}, which was never main of this run")
        await _copy(self.git, self.public, new, old)
        await self.public.run("update-ref", MAIN, new, old or "0" * 40)


async def _commit(git: Git, tree: str, parent: str, text: str, at: int, author: str) -> str:
    env = {"GIT_AUTHOR_DATE": f"{at} +0000", "GIT_COMMITTER_DATE": f"{at} +0000"}
    for role, name in (("AUTHOR", author), ("COMMITTER", ITSELF)):
        env |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": f"{name}@{MAIL_DOMAIN}"}
    parents = ("-p", parent) if parent else ()
    return await replace(git, env=env).text("commit-tree", tree, *parents, stdin=text.encode(errors="replace"))


def message(summary: str, trailers: Mapping[str, str]) -> str:
    """What a commit of main says: the agent's words above, the run's trailers below, never the one for the other (P9).

    The summary's words stay as they are, except that no line of it reads as a trailer.

    Raises `ValueError` for a trailer's value that is not an id. An empty one (no task) is left out.
    """
    for name, value in trailers.items():
        if value and not _VALUE.fullmatch(value):
            raise ValueError(f"trailer {name}: {value!r} is not an id (letters, digits and ._/@:+- only, at most 120)")
    lines = ("".join(c for c in line if c.isprintable() or c == "\t") for line in summary[:SUMMARY_LIMIT].splitlines())
    subject, *body = [line.rstrip() for line in "\n".join(lines).strip().splitlines()] or [""]
    if _OWN.match(subject) or subject.startswith(("#", "---")):
        subject = f'"{subject}"'
    body = [f" {line}" if _TRAILER_LIKE.match(line) else line for line in body]
    text = "\n".join([subject or "A change without a word", "", *body]).strip()
    return f"{text}\n\n" + "".join(f"{name}: {value}\n" for name, value in trailers.items() if value)


def _packed(git: Git, commit: str, without: str, *options: str) -> AsyncGenerator[bytes, None]:
    """A pack of what `commit` reaches and `without` (all, when empty) does not."""
    wanted = f"{commit}\n" + (f"^{without}\n" if without else "")
    return git.stream("pack-objects", "-q", "--revs", "--stdout", *options, stdin=wanted.encode())


async def _copy(source: Git, target: Git, commit: str, without: str) -> None:
    """Copies what `commit` reaches and `without` does not; durable on return."""
    async with anyio.TemporaryFile("w+b", buffering=0, dir=str(target.folder)) as pack:
        async with aclosing(_packed(source, commit, without)) as pieces:
            async for piece in pieces:
                await pack.write(piece)
        await pack.seek(8)
        few = int.from_bytes(await pack.read(4), "big") <= LOOSE_LIMIT
        await pack.seek(0)
        unpack = ("unpack-objects", "-q", "--strict") if few else ("index-pack", "--stdin", "--strict")
        await target.run(*unpack, stdin=pack.wrapped)


def _checked(ref: str) -> str:
    if not _KEPT.fullmatch(ref):
        raise ValueError(f"{ref!r} does not match {_KEPT.pattern}")
    return ref


def _clean_up(*folders: Path) -> None:
    """Ends git processes that work in the folders; removes the locks and half-written files they left, and the last
    folder, the quarantine, as a whole."""
    ours = [
        process
        for process in psutil.process_iter(["name", "cwd"])  # None where another user's
        if process.info["name"] in ("git", "prlimit")
        and any(Path(process.info["cwd"] or "/").is_relative_to(folder) for folder in folders)
    ]
    for process in ours:
        process.kill()
    psutil.wait_procs(ours, timeout=30)
    for folder in folders:
        for path in (*folder.rglob("*.lock"), *folder.glob("objects/**/tmp_*")):
            path.unlink(missing_ok=True)
    shutil.rmtree(folders[-1], ignore_errors=True)
