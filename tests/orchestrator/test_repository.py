"""Repositories of a run: seed, submission, merge, landing, checkpoints, history, crash, the exact bytes of a tree."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zlib
from contextlib import aclosing
from datetime import timedelta, timezone
from pathlib import Path

import anyio
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.git import Bounds, Git, GitError, GitTree, create_bare
from orchestrator.repository import ForeignMain, Repository, message
from orchestrator.workspace import CHECKPOINT, SUBMISSION, Unfinished, is_there, lay, packed
from tests.orchestrator.workshop import NOON, TRAILERS, Workspace, conflict, git, land, make_repository, object_id

pytestmark = pytest.mark.anyio


both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's repositories as they are at its start; each test works on a copy."""
    return anyio.run(make_repository, tmp_path_factory.mktemp("made")).git.folder.parent


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Repository:
    shutil.copytree(made, tmp_path / "run")
    return Repository(tmp_path / "run", durable=False)


async def test_the_same_seed_gives_the_same_first_commit(tmp_path: Path) -> None:
    odd = tmp_path / "seed"
    (odd / 'a "folder"').mkdir(parents=True)
    (odd / 'a "folder"' / "back\\slash\nline").write_bytes(b"\0\xff\r\n")
    (odd / "run.sh").write_text("#!/bin/sh\n")
    (odd / "run.sh").chmod(0o755)
    (odd / ".gitattributes").write_text("* text eol=crlf ident filter=x\nrun.sh export-ignore\n")
    (odd / "lines").write_bytes(b"$Id: x$\r\n")
    (odd / ".gitignore").write_text("*\n")
    (odd / "link").symlink_to("run.sh")
    first = await Repository.create(tmp_path / "one", odd)
    second = await Repository.create(tmp_path / "two", odd)
    assert await first.main() == await second.main()
    listed = git(first.git.folder, "ls-tree", "-r", "-z", "main").decode().split("\0")[:-1]
    assert [line.split("\t")[1] for line in listed] == [
        ".gitattributes",
        ".gitignore",
        'a "folder"/back\\slash\nline',
        "lines",
        "link",
        "run.sh",
    ]
    assert [line.split(" ")[0] for line in listed] == ["100644", "100644", "100644", "100644", "120000", "100755"]
    assert git(first.git.folder, "cat-file", "blob", 'main:a "folder"/back\\slash\nline') == b"\0\xff\r\n"
    assert git(first.git.folder, "cat-file", "blob", "main:lines") == b"$Id: x$\r\n"


@both
async def test_an_honest_change_goes_from_a_room_to_main(repository: Repository, tmp_path: Path) -> None:
    seed = await repository.main()
    room = await Workspace.make(tmp_path / "ws", repository)
    assert await room.sh("git config user.name; git rev-parse HEAD") == f"agent-01\n{seed}"
    await room.sh(
        "echo two >>README.md; git commit -qam 'mine'; echo new >new.txt; echo x >ignored.o; echo '*.o' >.gitignore"
    )
    received = await room.submit()
    assert received.files == (".gitignore", "README.md", "new.txt")
    assert (received.base, received.added, received.removed) == (seed, 3, 0)
    new = await land(repository, received)
    assert await repository.main() == new == git(repository.public.folder, "rev-parse", "main").decode().strip()
    assert git(repository.public.folder, "show", "main:new.txt") == b"new\n"
    assert await room.sh("git status --porcelain | sort") == "?? .gitignore\n?? new.txt", "submitting changes no index"


async def test_what_a_run_keeps_is_synced_before_a_row_can_name_it(made: Path) -> None:
    """No test here can cut the power; what makes git safe against it is this setting."""
    kept = Repository(made)
    assert [await git.text("config", "core.fsync") for git in (kept.git, kept.public)] == ["all", "all"]


async def test_public_git_holds_main_and_nothing_else(repository: Repository, tmp_path: Path) -> None:
    room = await Workspace.make(tmp_path / "ws", repository)
    await room.sh("echo secret >unlanded.txt")
    received = await room.submit()
    await repository.receive_checkpoint(await room.packed(CHECKPOINT), "agent-01/1")
    assert git(repository.public.folder, "for-each-ref", "--format=%(refname)").split() == [b"refs/heads/main"]
    objects = git(repository.public.folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").decode()
    reachable = git(repository.public.folder, "rev-list", "--objects", "--no-object-names", "main").decode()
    assert sorted(objects.split()) == sorted(reachable.split())
    assert received.commit not in objects


async def test_every_user_may_read_public_git_and_no_other_the_runs_own(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        repository = await make_repository(tmp_path)
        seed = await repository.main()
        tree = (await repository.tree(seed)).id
        await repository.land(seed, await repository.commit(tree, seed, "x", TRAILERS, at=NOON, author="agent-01"))
    finally:
        os.umask(before)
    for path in (repository.public.folder, *repository.public.folder.rglob("*")):
        assert path.stat().st_mode & 0o005 == (0o005 if path.is_dir() else 0o004), path
        assert not path.stat().st_mode & 0o022, path
    assert repository.git.folder.stat().st_mode & 0o077 == 0


async def test_work_goes_on_with_pull_rebase_over_uncommitted_edits(repository: Repository, tmp_path: Path) -> None:
    one = await Workspace.make(tmp_path / "one", repository)
    two = await Workspace.make(tmp_path / "two", repository, "agent-02")
    await one.sh("sed -i 's/line 3$/line three/' src/main.txt")
    await two.sh(
        "sed -i 's/line 25$/line 25!/' src/main.txt; git commit -qam 'late'; echo more >more.txt; git add more.txt"
    )
    main = await land(repository, await one.submit())
    await two.sh("git pull -q --rebase")
    assert await two.sh("git rev-parse HEAD~1; cat more.txt; grep -c three src/main.txt") == f"{main}\nmore\n1"
    received = await two.submit(2)
    assert received.base == main and received.files == ("more.txt", "src/main.txt")


async def test_a_change_on_an_older_main_is_merged(repository: Repository, tmp_path: Path) -> None:
    one = await Workspace.make(tmp_path / "one", repository)
    two = await Workspace.make(tmp_path / "two", repository, "agent-02")
    seed = await repository.main()
    await one.sh("sed -i 's/line 3$/line three/' src/main.txt")
    await two.sh("sed -i 's/line 25$/line 25!/' src/main.txt")
    await land(repository, await one.submit())
    received = await two.submit(2)
    assert received.base == seed
    await land(repository, received)
    text = git(repository.git.folder, "show", "main:src/main.txt")
    assert b"line three\n" in text and b"line 25!\n" in text


@both
async def test_a_conflict_names_files_and_shows_both_sides(repository: Repository, tmp_path: Path) -> None:
    one = await Workspace.make(tmp_path / "one", repository)
    two = await Workspace.make(tmp_path / "two", repository, "agent-02")
    await one.sh("sed -i 's/line 3$/mine/' src/main.txt; git rm -q README.md")
    # A union driver would resolve the first silently, and a driver of their own would run.
    await two.sh("sed -i 's/line 3$/theirs/' src/main.txt; echo more >>README.md; echo '* merge=union' >.gitattributes")
    await land(repository, await one.submit())
    found = await conflict(repository, await two.submit(2))
    assert set(found.files) == {"README.md", "src/main.txt"}
    for expected in (
        "+++ b/src/main.txt\n@@ -1,7 +1,11 @@\n",
        "+<<<<<<< main\n mine\n+=======\n+theirs\n+>>>>>>> yours",
        "README.md deleted in main",
    ):
        assert expected in found.hunks


async def test_a_submission_without_a_difference_is_refused_in_words(repository: Repository, tmp_path: Path) -> None:
    room = await Workspace.make(tmp_path / "ws", repository)
    with pytest.raises(Exception, match="nothing to submit"):
        await room.submit()


@both
async def test_a_workspace_in_the_middle_of_a_rebase_or_merge_is_not_handed_in(
    repository: Repository, tmp_path: Path
) -> None:
    room = await Workspace.make(tmp_path / "ws", repository)
    begin = "git checkout -q main; echo ours >f; git add f; git commit -qm ours; git checkout -qb other HEAD~1; "
    await room.sh(begin + "echo theirs >f; git add f; git commit -qm theirs")
    for what, ends in (
        ("rebase main", "a rebase is unfinished: .*`git rebase --abort`"),
        ("merge main", "a merge is unfinished: .*`git merge --abort`"),
        ("cherry-pick main", "conflicts are unfinished: .*`git add FILE`"),
    ):
        await room.sh(f"git {what} >/dev/null 2>&1 && exit 1 || true")
        with pytest.raises(Unfinished, match=ends):
            await packed(room.run, SUBMISSION, finished=True)
        assert await room.packed(), "it is verified all the same"
        await room.sh(f"git {what.split()[0]} --abort")
        assert await packed(room.run, SUBMISSION, finished=True) == await room.packed()


@both
async def test_a_lost_workspace_comes_back_with_commits_index_and_untracked_files(
    repository: Repository, tmp_path: Path
) -> None:
    room = await Workspace.make(tmp_path / "ws", repository)
    await room.sh(
        "echo a >a; git add a; git commit -qm one; echo b >b; git add b; echo bb >>b; echo c >c; rm README.md"
    )
    before = await room.sh("git status --porcelain; git log --format=%H%s; git diff; git diff --cached")
    stream = await room.packed(CHECKPOINT)
    assert stream == await room.packed(CHECKPOINT), "an unchanged workspace adds nothing"
    commit = await repository.receive_checkpoint(stream, "agent-01/1")
    assert await repository.checkpoint("agent-01/1") == commit and await repository.checkpoint("agent-02/1") == ""

    other = await Workspace.make(tmp_path / "other", repository, "agent-02")
    await other.sh("echo moved >moved")
    await land(repository, await other.submit(7))  # main moved on meanwhile
    (tmp_path / "again").mkdir()
    again = Workspace(tmp_path / "again", repository)
    assert not (await again.run(is_there())).ok
    done = await again.run(lay("agent-01", checkpoint=commit, pack=repository.checkpoint_pack(commit)))
    assert done.ok, done.stderr
    assert (await again.run(is_there())).ok
    assert await again.sh("git status --porcelain; git log --format=%H%s; git diff; git diff --cached") == before
    assert (await again.submit(8)).files == ("README.md", "a", "b", "c")


async def test_a_restore_that_was_cut_is_no_workspace(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    room = Workspace(tmp_path / "ws", repository)
    assert not (await room.run(lay("agent-01", checkpoint="0" * 40, pack=b"PACK"))).ok
    assert not (await room.run(is_there())).ok


async def test_a_workspace_is_laid_over_what_a_killed_laying_left(repository: Repository, tmp_path: Path) -> None:
    room = await Workspace.make(tmp_path / "ws", repository)
    await room.sh("rm .git/refs/heads/main; touch .git/index.lock; echo older >of-another-main; mkdir a; chmod 0 a")
    assert not (await room.run(is_there())).ok
    done = await room.run(lay("agent-01"))
    assert done.ok, done.stderr
    assert await room.sh("git status --porcelain --ignored; ls -a | tr '\\n' ' '") == ". .. .git README.md src"


async def test_commit_ids_depend_on_nothing_but_their_arguments(tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        repository = await make_repository(tmp_path / name)
        room = await Workspace.make(tmp_path / name / "ws", repository)
        await room.sh("echo x >x")
        received = await room.submit()
        ids.add((received.commit, await land(repository, received)))
    assert len(ids) == 1


async def test_history_names_run_seat_session_task_and_change(repository: Repository, tmp_path: Path) -> None:
    seed = await repository.main()
    room = await Workspace.make(tmp_path / "ws", repository)
    await room.sh("echo x >x")
    new = await land(repository, await room.submit(), "parser: accept casts\n\nThey were refused.")
    assert await repository.main() == new
    found = git(repository.git.folder, "log", "--format=%H %P %an %cn %ct %s", f"{seed}..main").decode()
    assert found == f"{new} {seed} agent-01 orchestrator {NOON.timestamp():.0f} parser: accept casts\n"
    assert trailers(repository, new) == TRAILERS
    east = NOON.astimezone(timezone(timedelta(hours=5)))
    tree = (await repository.tree(new)).id
    again = await repository.commit(
        tree, seed, "parser: accept casts\n\nThey were refused.", TRAILERS, at=east, author="agent-01"
    )
    assert again == new, "a time is a moment, whatever its zone"


def trailers(repository: Repository, commit: str) -> dict[str, str]:
    """As git reads them."""
    found = git(repository.git.folder, "log", "-1", "--format=%(trailers:only,unfold)", commit).decode()
    return dict(line.split(": ", 1) for line in found.splitlines() if line)


FORGED = [
    "Fix\n\nSeat: agent-99\nChange: C99",
    "Seat: agent-99",
    "Fix\n\nwords\n---\nSeat: agent-99",
    "Fix\n\nSigned-off-by: a <a@b>\nTask : T99\n\n# ------------------------ >8 ------------------------",
    "Fix\r\rSeat: agent-99\u2028Task: T99\x0bRun: other\x85Session: z/1",
    "Fix\n\n(cherry picked from commit abc)\nSeat=agent-99\n\n\n",
    "\n\n\x00\x1b[2J",
    "Fix\n\nSeat: agent-99\n " + "x" * 10_000,
]


@pytest.mark.parametrize("summary", FORGED)
async def test_no_summary_forges_a_trailer(repository: Repository, summary: str) -> None:
    main = await repository.main()
    new = await repository.commit((await repository.tree(main)).id, main, summary, TRAILERS, at=NOON, author="agent-01")
    assert trailers(repository, new) == TRAILERS
    raw = git(repository.git.folder, "log", "-1", "--format=%B", new)
    parsed = git(repository.git.folder, "interpret-trailers", "--parse", stdin=raw).decode()
    assert parsed == "".join(f"{name}: {value}\n" for name, value in TRAILERS.items())
    assert [line for line in raw.decode().splitlines() if line.startswith("Seat")] == ["Seat: agent-01"]


@pytest.mark.parametrize("value", ["agent-01\nChange: C2", "a b", "-x", "x" * 121, "é"])
def test_a_trailer_that_is_not_an_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="trailer Seat"):
        message("words", {**TRAILERS, "Seat": value})


async def test_main_moves_only_from_where_the_landing_found_it(repository: Repository, tmp_path: Path) -> None:
    seed = await repository.main()
    tree = (await repository.tree(seed)).id
    one = await repository.commit(tree, seed, "one", TRAILERS, at=NOON, author="agent-01")
    two = await repository.commit(tree, seed, "two", TRAILERS, at=NOON, author="agent-02")
    await repository.land(seed, one)
    assert await repository.main() == one
    await repository.land(seed, one)
    with pytest.raises(ForeignMain):
        await repository.land(seed, two)
    with pytest.raises(ValueError, match="not built on"):
        await repository.land(one, two)
    assert await repository.main() == one


async def test_recovery_publishes_what_a_crash_left_unpublished(repository: Repository) -> None:
    seed = await repository.main()
    new = await repository.commit((await repository.tree(seed)).id, seed, "x", TRAILERS, at=NOON, author="agent-01")
    git(repository.git.folder, "update-ref", "refs/heads/main", new, seed)  # the crash comes right after this
    for folder in (repository.git.folder, repository.public.folder):
        (folder / "refs/heads/main.lock").touch()
        (folder / "objects/pack/tmp_pack_x").write_bytes(b"half")
    (repository.git.folder.parent / "quarantine/q-dead/q.git").mkdir(parents=True)
    reopened = Repository(repository.git.folder.parent)
    with pytest.raises(GitError, match=r"main\.lock"):
        await reopened.land(
            new, await reopened.commit((await reopened.tree(new)).id, new, "y", TRAILERS, at=NOON, author="a")
        )
    await reopened.recover()
    await reopened.land(seed, new)
    assert await reopened.main() == new
    assert git(repository.public.folder, "rev-parse", "main").decode().strip() == new
    assert not list(repository.git.folder.parent.glob("quarantine/*"))
    assert not list(repository.git.folder.parent.glob("*/objects/pack/tmp_*"))


async def test_recovery_ends_our_git_processes_and_no_other(repository: Repository, tmp_path: Path) -> None:
    elsewhere = await create_bare(Git(tmp_path / "elsewhere.git"))
    command = ["git", "cat-file", "--batch"]
    async with (
        await anyio.open_process(command, cwd=repository.git.folder) as ours,
        await anyio.open_process(command, cwd=elsewhere.folder) as theirs,
    ):
        await repository.recover()
        assert not psutil.pid_exists(ours.pid)
        assert psutil.pid_exists(theirs.pid)
        theirs.kill()


async def test_recovery_says_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"repo\.git"):
        await Repository(tmp_path).recover()


@both
async def test_a_git_that_does_not_end_is_killed(repository: Repository, tmp_path: Path) -> None:
    hung = Git(repository.git.folder, Bounds(memory=1 << 30, file=1 << 30, cpu_s=10, time_s=0.2))
    (repository.git.folder / "HEAD").unlink()
    os.mkfifo(repository.git.folder / "HEAD")
    with pytest.raises(GitError, match="not done after"):
        await hung.run("rev-parse", "HEAD")
    with pytest.raises(GitError, match="not done after"):
        await anext(hung.stream("rev-parse", "HEAD"))


async def test_a_stream_that_is_left_early_ends_its_process(repository: Repository) -> None:
    async with aclosing(repository.git.records("ls-tree", "-r", "-t", "-z", "main")) as records:
        await anext(records)
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in alive if child.cwd() == str(repository.git.folder)]


async def test_the_tar_obeys_no_attribute(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / ".gitattributes").write_text("hidden export-ignore\nid export-subst\n*.txt text eol=crlf ident filter=x\n")
    (seed / "hidden").write_text("here")
    (seed / "id").write_text("$Format:%H$")
    (seed / "a.txt").write_text("$Id$\n")
    repository = await Repository.create(tmp_path / "run", seed)
    data = b"".join([piece async for piece in (await repository.tree(await repository.main())).tar()])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert found == {path.name: path.read_bytes() for path in seed.iterdir()}


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120)
SAFE = NAMES.filter(lambda name: name.lower().strip(". ") not in ("", "git", "git~1") and len(name.encode()) < 250)
FILES = st.dictionaries(
    st.lists(SAFE, min_size=1, max_size=3).map("/".join),
    st.tuples(st.sampled_from(["file", "program", "link"]), st.binary(max_size=300)),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(files=FILES)
def test_tree_to_tar_to_tree_is_the_same_tree(made: Path, files: dict[str, tuple[str, bytes]]) -> None:
    files = {name: made for name, made in files.items() if not any(other.startswith(f"{name}/") for other in files)}
    repository = Git(made / "repo.git", durable=False)

    async def tree_and_tar() -> tuple[str, bytes]:
        entries = []
        for name, (kind, data) in files.items():
            data = data.replace(b"\0", b"0") or b"x" if kind == "link" else data
            mode = {"file": "100644", "program": "100755", "link": "120000"}[kind]
            entries.append((mode, name.encode(), data))
        tree = write_tree(repository, entries)
        return tree, b"".join([piece async for piece in GitTree(repository, tree).tar()])

    tree, tar = anyio.run(tree_and_tar)
    assert write_tree(repository, read_tar(tar)) == tree


def write_tree(repository: Git, entries: list[tuple[str, bytes, bytes]]) -> str:
    """The tree that git itself makes of (mode, path, content)."""
    lines = b""
    for mode, path, data in entries:
        oid = object_id("blob", data)
        loose = repository.folder / "objects" / oid[:2] / oid[2:]
        loose.parent.mkdir(exist_ok=True)
        loose.write_bytes(zlib.compress(b"blob %d\0%s" % (len(data), data)))
        lines += b"%s %s\t%s\0" % (mode.encode(), oid.encode(), path)
    (repository.folder / "index").unlink(missing_ok=True)
    git(repository.folder, "update-index", "-z", "--index-info", stdin=lines)
    return git(repository.folder, "write-tree").decode().strip()


def read_tar(tar: bytes) -> list[tuple[str, bytes, bytes]]:
    """What Python's own reader finds in a tar, without its folders."""
    entries = []
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as opened:
        for info in opened:
            path, target = (text.encode(errors="surrogateescape") for text in (info.name, info.linkname))
            if info.issym():
                entries.append(("120000", path, target))
            elif (content := opened.extractfile(info)) is not None:
                entries.append(("100755" if info.mode & 0o100 else "100644", path, content.read()))
    return entries
