"""What agents may do to their workspace and to the stream out of it: nothing of theirs runs or comes in (P5).

Each attack ends the same way: the run's repositories hold no trace of it, and honest work still lands.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from orchestrator.quarantine import Refused
from orchestrator.repository import Received, Repository
from orchestrator.workspace import CHECKPOINT, SUBMISSION, Stream, Unpacked
from tests.orchestrator.workshop import (
    Forge,
    Workspace,
    conflict,
    git,
    handmade_pack,
    land,
    make_repository,
    object_id,
    zeros,
)

pytestmark = pytest.mark.anyio
SECRET = "what another seat has not landed"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Run:
    """A run in which another seat's change waits."""

    folder: Path
    waiting: Received

    @property
    def repository(self) -> Repository:
        return Repository(self.folder / "run", durable=False)

    async def goes_on(self) -> None:
        """Honest work still lands, and nothing of theirs ran on the host."""
        honest = await Workspace.make(self.folder / "honest", self.repository, "agent-03")
        await honest.sh("echo good >>README.md")
        await land(self.repository, await honest.submit(3))
        await land(self.repository, self.waiting)
        assert not (self.folder / "canary").exists(), "something of theirs ran on the host"


@pytest.fixture(scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    """Where everything is refused: all attacks meet one run, which goes on after the last of them."""
    folder = tmp_path_factory.mktemp("attacked")
    other = await Workspace.make(folder / "other", await make_repository(folder), "agent-02")
    await other.sh(f"echo '{SECRET}' >secret.txt")
    run = Run(folder, await other.submit(2))
    yield run
    await run.goes_on()


@pytest.fixture
def repository(attacked: Run) -> Iterator[Repository]:
    """For what is refused. Afterwards nothing of it is there."""
    objects = everything(attacked.repository)
    yield attacked.repository
    assert not list((attacked.folder / "run/quarantine").iterdir()), "quarantines are thrown away"
    assert everything(attacked.repository) == objects, "what was refused left objects behind"


@pytest.fixture
async def landing(attacked: Run, tmp_path: Path) -> AsyncIterator[Repository]:
    """For what is taken: a copy of the run, which goes on afterwards."""
    await anyio.to_thread.run_sync(shutil.copytree, attacked.folder / "run", tmp_path / "run")
    run = Run(tmp_path, attacked.waiting)
    yield run.repository
    assert not list((tmp_path / "run/quarantine").iterdir()), "quarantines are thrown away"
    await run.goes_on()


@pytest.fixture
async def room(tmp_path: Path, attacked: Run) -> Workspace:
    return await Workspace.make(tmp_path / "ws", attacked.repository)


@pytest.fixture
async def landing_room(tmp_path: Path, landing: Repository) -> Workspace:
    return await Workspace.make(tmp_path / "ws", landing)


@pytest.fixture
def forge(attacked: Run) -> Forge:
    return Forge(attacked.repository)


def everything(repository: Repository) -> set[str]:
    """All objects and refs of the run's own repository."""
    objects = git(repository.git.folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return {*objects.decode().split(), *git(repository.git.folder, "for-each-ref").decode().splitlines()}


async def refused(repository: Repository, stream: bytes, words: str, limits: Stream = SUBMISSION) -> None:
    with pytest.raises(Refused, match=words):
        await repository.receive(stream, "refs/changes/1", limits)


# In the room


async def test_a_name_that_no_file_system_takes_is_refused(repository: Repository, room: Workspace) -> None:
    name = "n" * 300
    await room.sh(
        f"git update-index --add --cacheinfo 100644,$(echo x | git hash-object -w --stdin),{name}; "
        f"git update-index --skip-worktree {name}; git commit -qm long"
    )
    with pytest.raises(Refused, match="a name is longer than 255 bytes"):
        await room.submit()


async def test_a_link_that_a_rename_on_main_would_lead_out_does_not_merge(
    landing: Repository, landing_room: Workspace, tmp_path: Path
) -> None:
    """Each tree is harmless: the link points out of the repository only where main has moved it to."""
    await landing_room.sh("mkdir -p a/b; ln -s t a/b/link; echo x >a/b/t")
    await land(landing, await landing_room.submit(11))
    mover = await Workspace.make(tmp_path / "mover", landing, "agent-04")
    turner = await Workspace.make(tmp_path / "turner", landing, "agent-05")
    await mover.sh("git mv a/b/link toplink")
    await land(landing, await mover.submit(12))
    await turner.sh("ln -sfn ../../zz a/b/link")
    found = await conflict(landing, await turner.submit(13))
    assert "'toplink' is a symbolic link to '../../zz'" in found.hunks
    assert found.reason == "conflicts with main in 'toplink'"


@pytest.mark.parametrize("how", ["file", "symlink", "alternates"])
async def test_a_workspace_that_points_at_the_runs_repository_brings_nothing(
    repository: Repository, room: Workspace, how: str
) -> None:
    target = repository.git.folder
    unlanded = git(target, "rev-parse", "refs/changes/2").decode().strip()
    await room.sh(
        {
            "file": f"rm -rf .git; echo 'gitdir: {target}' >.git",
            "symlink": f"rm -rf .git; ln -s {target} .git",
            "alternates": f"echo {target}/objects >.git/objects/info/alternates; echo {unlanded} >.git/refs/heads/main",
        }[how]
    )
    with pytest.raises(Unpacked, match="could not pack"):
        await room.packed()


async def test_filters_hooks_fsmonitor_and_drivers_do_not_run_on_the_host(
    landing: Repository, landing_room: Workspace, tmp_path: Path
) -> None:
    run = f"touch {tmp_path}/canary /tmp/ran; cat"
    await landing_room.sh(
        f"""
        for hook in pre-commit post-index-change reference-transaction pre-auto-gc update post-checkout; do
            printf '#!/bin/sh\\n{run}\\n' >.git/hooks/$hook 2>/dev/null || {{ mkdir -p .git/hooks; continue; }}
            chmod +x .git/hooks/$hook
        done
        git config core.fsmonitor '{run}'
        git config filter.evil.clean '{run}'; git config filter.evil.smudge '{run}'
        git config filter.evil.required true
        git config diff.evil.textconv '{run}'; git config diff.evil.command '{run}'
        git config merge.evil.driver '{run}'
        git config uploadpack.packObjectsHook '{run}'; git config extensions.partialClone evil
        git config remote.evil.url 'ext::sh -c "{run}"'; git config remote.evil.promisor true
        printf '* filter=evil diff=evil merge=evil text eol=crlf\\n' >.gitattributes
        sed -i 's/line 3$/mine/' src/main.txt
        """
    )
    received = await landing_room.submit()
    assert received.files == (".gitattributes", "src/main.txt")
    main = await land(landing, received)
    b"".join([piece async for piece in (await landing.tree(main)).tar()])
    other = await Workspace.make(tmp_path / "late", landing, "agent-04")
    await other.sh("git reset -q --hard HEAD~1; sed -i 's/line 3$/theirs/' src/main.txt")
    assert "src/main.txt" in (await conflict(landing, await other.submit(4))).files


async def test_a_fifo_as_head_times_out(room: Workspace) -> None:
    await room.sh("rm .git/HEAD; mkfifo .git/HEAD")
    with pytest.raises(Unpacked, match="not finish"):
        await room.packed(time_s=1.0)


async def test_replace_refs_change_nothing(landing: Repository, landing_room: Workspace) -> None:
    await landing_room.sh(
        "echo true >true.txt; git add -A; git commit -qm true; echo false >false.txt; git add -A;"
        "git replace $(git rev-parse HEAD:true.txt) $(git rev-parse :false.txt); git rm -qf false.txt"
    )
    main = await land(landing, await landing_room.submit())
    assert git(landing.git.folder, "show", f"{main}:true.txt") == b"true\n"


async def test_exported_files_arrive_whatever_attributes_say(landing: Repository, landing_room: Workspace) -> None:
    await landing_room.sh("echo '* export-ignore export-subst' >.gitattributes; echo '$Format:%H$' >id")
    main = await land(landing, await landing_room.submit())
    tar = b"".join([piece async for piece in (await landing.tree(main)).tar()])
    assert b"$Format:%H$\n" in tar and b"# A thing\n" in tar


FORBIDDEN = [
    ("mkdir current_tasks; echo x >current_tasks/T1.txt", "task board"),
    ("mkdir Current_Tasks; echo x >Current_Tasks/T1.txt", "task board"),
    (
        "git init -q nested; git -C nested -c user.name=a -c user.email=a commit -q --allow-empty -m x",
        "nested repository",
    ),
    ("ln -s /etc/passwd link", "symbolic link"),
    ("ln -s ../outside src/../link", "symbolic link"),
    ("ln -s ../../outside src/link", "symbolic link"),
    ("ln -s src/../../outside link", "symbolic link"),
    ("ln -s . dot; ln -s dot/dot/.. link", "symbolic link"),
    ("printf x >\"$(printf 'a\\nb')\"", "control"),
    ("printf x >\"$(printf 'a\\377b')\"", "UTF-8"),
    ("git checkout -q --orphan lone; git commit -qm lone; echo x >x", "do not stand on main"),
    ("rm -rf .git; git init -q .", "HEAD is not a commit"),
    ("for n in 1 2 3 4 5 6; do git commit -q --allow-empty -m $n; done; echo x >x", "more than 5 commits"),
    ("head -c 300000 /dev/urandom >big", "more than 0 MiB"),
    ("head -c 3000000 /dev/zero >big", "too large"),
]


async def test_what_may_not_be_on_main_is_refused_in_words(repository: Repository, tmp_path: Path) -> None:
    limits = Stream(packed=200_000, blob=2 << 20, commits=5)
    for number, (script, words) in enumerate(FORBIDDEN):
        room = await Workspace.make(tmp_path / f"ws-{number}", repository)
        await room.sh(script)
        with pytest.raises((Refused, Unpacked), match=words):
            await repository.receive(await room.packed(), "refs/changes/1", limits)


async def test_a_link_that_stays_inside_is_taken(landing: Repository, landing_room: Workspace) -> None:
    await landing_room.sh("mkdir -p a/b; ln -s ../../src/main.txt a/b/link; ln -s a/b/link top; ln -s nowhere dangling")
    received = await landing_room.submit()
    assert received.files == ("a/b/link", "dangling", "top")
    await land(landing, received)


# Forged streams


async def test_names_that_leave_or_enter_git_are_refused(repository: Repository, forge: Forge) -> None:
    blob = forge.put("blob", b"[core]\n")
    folder = forge.tree(("100644", b"config", blob))
    dots = [
        b"..",
        b".",
        b".git",
        b".GIT",
        b"git~1",
        b".git ",
        b".git::$INDEX_ALLOCATION",
        ".g\u200cit".encode(),
        b"a/b",
    ]
    for name in dots:
        for entry in (("100644", name, blob), ("40000", name, folder)):
            await refused(repository, forge.stream(forge.commit(forge.tree(entry))), "git does not accept")


async def test_odd_entries_are_refused(repository: Repository, forge: Forge) -> None:
    blob = forge.put("blob", b"x\n")
    empty = forge.tree()
    for tree, words in (
        (forge.tree(("120000", b".gitmodules", blob)), "gitmodulesSymlink"),
        (forge.tree(("160000", b"module", "1" * 40)), "submodule"),
        (forge.tree(("40000", b"nothing", empty)), "empty folder"),
        (forge.tree(("100644", b"a", blob), ("100644", b"a", blob)), "duplicateEntries"),
        (forge.tree(("120000", b"link", forge.put("blob", b"a\0b"))), "symbolic link"),
        (forge.tree(("100644", b"n" * 1001, blob)), "longer than"),
    ):
        await refused(repository, forge.stream(forge.commit(tree)), words)


async def test_ten_thousand_million_files_in_a_kilobyte_are_counted_no_further_than_the_limit(
    repository: Repository, forge: Forge
) -> None:
    mode, below = "100644", forge.put("blob", b"")
    for _ in range(10):
        mode, below = "40000", forge.tree(*[(mode, b"%d" % n, below) for n in range(10)])
    stream = forge.stream(forge.commit(below))
    assert len(stream) < 1200
    await refused(repository, stream, "more than 100000 files")


async def test_a_tree_too_deep_to_walk_is_refused(repository: Repository, forge: Forge) -> None:
    data = b"100644 f\0" + bytes.fromhex(object_id("blob", b""))
    objects = [(3, 0, zlib.compress(b""))]
    for _ in range(5_000):
        objects.append((2, len(data), zlib.compress(data)))
        data = b"40000 d\0" + bytes.fromhex(object_id("tree", data))
    objects.append((2, len(data), zlib.compress(data)))
    text = f"tree {object_id('tree', data)}\nparent {forge.main}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n"
    objects.append((1, len(text), zlib.compress(text.encode())))
    stream = f"submission {object_id('commit', text.encode())}\n".encode() + handmade_pack(objects)
    await refused(repository, stream, "path is longer")


def pack_of_zeros() -> tuple[list[tuple[int, int, bytes]], str]:
    data, oid = zeros(1 << 30)
    return [(3, 1 << 30, data)], oid


def pack_of_copies() -> tuple[list[tuple[int, int, bytes]], str]:
    """A delta that copies one block of 64 KiB sixteen thousand times, in a few hundred bytes."""
    size, block = 1 << 30, bytes(1 << 16)
    source, target = bytes([0x80, 0x80, 0x04]), bytes([0x80, 0x80, 0x80, 0x80, 0x04])
    delta = source + target + bytes([0x80]) * (size >> 16)
    base = bytes.fromhex(object_id("blob", block))
    return [(3, len(block), zlib.compress(block)), (7, len(delta), base + zlib.compress(delta))], "1" * 40


@pytest.mark.parametrize("make", [pack_of_zeros, pack_of_copies])
async def test_a_gibibyte_in_a_small_pack_is_refused(
    repository: Repository, forge: Forge, make: Callable[[], tuple[list[tuple[int, int, bytes]], str]]
) -> None:
    objects, blob = await anyio.to_thread.run_sync(make)
    tree = b"100644 big\0" + bytes.fromhex(blob)
    text = f"tree {object_id('tree', tree)}\nparent {forge.main}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n"
    objects += [(2, len(tree), zlib.compress(tree)), (1, len(text), zlib.compress(text.encode()))]
    stream = f"submission {object_id('commit', text.encode())}\n".encode() + handmade_pack(objects)
    assert len(stream) < 6 << 20
    await refused(repository, stream, "1024 MiB is too large|Out of memory")


async def test_only_a_whole_stream_of_the_right_kind_is_read(repository: Repository, forge: Forge) -> None:
    commit = forge.commit(forge.tree(("100644", b"x", forge.put("blob", b"x" * 1000))))
    good = forge.stream(commit)
    head, objects = good.split(b"\n", 1)
    for stream, words in (
        (b"", "submission header"),
        (b"\0" * 100_000, "submission header"),
        (objects, "submission header"),
        (forge.stream(commit, kind=CHECKPOINT), "submission header"),
        (head.upper() + b"\n" + objects, "submission header"),
        (b"submission " + b"HEAD".ljust(40) + b"\n" + objects, "submission header"),
        (head + b"\n", "submission header and a pack"),
        (head + b"\nPACK\0\0\0\2\xff\xff\xff\xff" + objects[12:], "objects, at most"),
        (good[:-30], "git does not accept"),
        (good[:100] + b"!" + good[101:], "git does not accept"),
        (b"submission " + b"1" * 40 + b"\n" + objects, "git does not accept"),
        (f"submission {forge.main}\n".encode() + objects, "nothing to submit"),
        (b"submission " + forge.put("blob", b"x" * 1000).encode() + b"\n" + objects, "not a commit"),
    ):
        await refused(repository, stream, words)
    await refused(repository, good, "packs to more than", Stream(packed=20))
    await refused(repository, good, "unpacks to", Stream(unpacked=500))


async def test_what_another_seat_has_not_landed_does_not_come_in(repository: Repository, forge: Forge) -> None:
    """Somebody knows its ids; the objects themselves are in no pack."""
    unlanded = git(repository.git.folder, "rev-parse", "refs/changes/2").decode().strip()
    tree = git(repository.git.folder, "rev-parse", "refs/changes/2^{tree}").decode().strip()
    secret = git(repository.git.folder, "rev-parse", "refs/changes/2:secret.txt").decode().strip()
    mine, stolen = forge.tree(("100644", b"x", secret)), forge.tree(("40000", b"stolen", tree))
    for commit in (unlanded, forge.commit(tree), forge.commit(tree, unlanded)):
        await refused(repository, forge.exactly(commit), "git does not accept")
    for root in (mine, stolen):
        await refused(repository, forge.exactly(forge.commit(root), root), "git does not accept")


async def test_a_parent_that_never_was_main_is_refused(repository: Repository, forge: Forge) -> None:
    tree = forge.tree(("100644", b"x", forge.put("blob", b"x")))
    root = forge.commit(tree, "")
    await refused(repository, forge.stream(forge.commit(tree, root)), "do not stand on main")
    await refused(repository, forge.exactly(forge.commit(tree, root), tree), "git does not accept")


async def test_nothing_is_kept_under_a_ref_that_is_not_for_it(repository: Repository) -> None:
    for ref in ("refs/heads/main", "refs/changes/../heads/main", "refs/changes/", "refs/changes/a b", "HEAD"):
        with pytest.raises(ValueError, match="does not match"):
            await repository.receive(b"", ref)


async def test_a_checkpoint_takes_what_main_does_not_and_stays_apart(
    landing: Repository, landing_room: Workspace
) -> None:
    await landing_room.sh("ln -s /etc/passwd link; mkdir current_tasks; echo x >current_tasks/x")
    commit = await landing.receive_checkpoint(await landing_room.packed(CHECKPOINT), "agent-01/1")
    assert commit not in git(landing.git.folder, "rev-list", "main").decode()
    await landing_room.sh("git clean -qfd; echo fine >fine.txt")
    await land(landing, await landing_room.submit())
