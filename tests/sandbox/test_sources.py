"""Sources come from outside and are what was declared, or are refused."""

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import anyio
import pytest

from sandbox.debian import bare_environment
from sandbox.digest import tree_digest
from sandbox.home import state_home
from sandbox.sources import Deb, Fetched, Git, Source, SourceError, Src, Url, fetch, kept


def get(source: Source, home: Path) -> Fetched:
    return anyio.run(lambda: fetch(source, home))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    tree = tmp_path / "thing-1.2"
    (tree / "inner/cases").mkdir(parents=True)
    (tree / "inner/cases/one.c").write_text("int main(void) { return 0; }\n")
    (tree / "README").write_text("a thing\n")
    with tarfile.open(tmp_path / "thing.tar.xz", "w:xz") as tar:
        tar.add(tree, "thing-1.2")
    return tmp_path / "thing.tar.xz"


def test_gcc_s_own_execute_tests_come_from_debian_s_package() -> None:
    home = state_home()
    gcc = get(Deb("gcc-12-source", "gcc-12.2.0-dfsg.tar.xz:gcc/testsuite"), home)
    assert len(list((gcc.folder / "gcc.c-torture/execute").glob("*.c"))) == 1592
    assert gcc.version.startswith("12.2.0-14")
    assert gcc.pin == f"deb gcc-12-source {gcc.version} {gcc.digest}"
    assert kept(gcc.digest, home) == gcc.folder


def test_a_source_package_comes_as_its_upstream_tree(tmp_path: Path) -> None:
    lua = get(Src("lua5.4"), tmp_path)
    assert (lua.folder / "src/lua.c").is_file()
    assert not (lua.folder / "debian").exists()
    assert lua.version.startswith("5.4.4-3")


def test_an_archive_is_unpacked_without_the_folder_named_after_its_version(archive: Path, tmp_path: Path) -> None:
    thing = get(Url(archive.as_uri(), sha256(archive)), tmp_path)
    assert sorted(path.name for path in thing.folder.iterdir()) == ["README", "inner"]


def test_the_digest_is_the_content_s_however_it_was_packed(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    with tarfile.open(archive) as tar, tarfile.open(again, "w") as out:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.mode = 1, 7, member.mode | 0o020
            out.addfile(member, tar.extractfile(member) if member.isfile() else None)
    first, second = (get(Url(file.as_uri(), sha256(file)), tmp_path / "home") for file in (archive, again))
    assert first.digest == second.digest == tree_digest(first.folder)
    assert first.folder == second.folder


def test_nobody_may_write_what_was_fetched(archive: Path, tmp_path: Path) -> None:
    thing = get(Url(archive.as_uri(), sha256(archive)), tmp_path)
    assert not any(path.stat().st_mode & 0o222 for path in thing.folder.rglob("*"))


def test_another_digest_than_declared_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="declared is 0000"):
        get(Url(archive.as_uri(), "0" * 64), tmp_path)
    assert not [path for path in (tmp_path / "sources").iterdir() if path.name != "requests"]


@pytest.mark.parametrize("path", [":nowhere", "nowhere.tar", ":../..", ":inner/../../.."])
def test_a_path_that_is_not_in_the_source_is_refused(archive: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(SourceError, match="in the source"):
        get(Url(archive.as_uri(), sha256(archive), path), tmp_path)


def test_an_archive_in_the_archive_can_be_named_with_its_folder(archive: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer.tar"
    with tarfile.open(outer, "w") as tar:
        tar.add(archive, "usr/src/thing.tar.xz")
    cases = get(Url(outer.as_uri(), sha256(outer), "thing.tar.xz:inner/cases"), tmp_path / "home")
    assert [path.name for path in cases.folder.iterdir()] == ["one.c"]


def test_links_in_an_archive_do_not_lead_out_of_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as tar:
        link = tarfile.TarInfo("top/way")
        link.type, link.linkname = tarfile.SYMTYPE, str(target)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("top/way/planted"))
    with pytest.raises(Exception, match="tar"):
        get(Url(evil.as_uri(), sha256(evil)), tmp_path / "home")
    assert not list(target.iterdir())


def test_one_commit_comes_without_history_filters_or_hooks(tmp_path: Path) -> None:
    env = bare_environment(
        GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b"
    )

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path / "up", env=env, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "up").mkdir()
    git("init", "--quiet")
    (tmp_path / "up/.gitattributes").write_text("*.txt text eol=crlf\nsecret export-ignore\n")
    (tmp_path / "up/a.txt").write_text("one\n")
    (tmp_path / "up/secret").write_text("kept\n")
    git("add", "-A")
    git("commit", "--quiet", "-m", "one")
    first = git("rev-parse", "HEAD")
    (tmp_path / "up/a.txt").write_text("two\n")
    git("commit", "--quiet", "-am", "two")
    got = get(Git((tmp_path / "up").as_uri(), first), tmp_path / "home")
    assert (got.folder / "a.txt").read_bytes() == b"one\n"
    assert (got.folder / "secret").exists() and not (got.folder / ".git").exists()
    assert got.version == first


def test_a_second_fetch_asks_nobody(archive: Path, tmp_path: Path) -> None:
    source = Url(archive.as_uri(), sha256(archive))
    first = get(source, tmp_path)
    archive.unlink()
    assert get(source, tmp_path) == first


def test_a_tree_s_digest_sees_names_kinds_targets_and_the_executable_bit(tmp_path: Path) -> None:
    seen = set()
    for change in ("nothing", "touch", "rename", "chmod", "link", "empty folder", "odd name"):
        tree = tmp_path / change
        tree.mkdir()
        file = tree / "f"
        file.write_text("x")
        match change:
            case "touch":
                os.utime(file, (1, 1))
            case "rename":
                file.rename(tree / "g")
            case "chmod":
                file.chmod(0o755)
            case "link":
                (tree / "l").symlink_to("f")
            case "empty folder":
                (tree / "d").mkdir()
            case "odd name":
                Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).touch()
        seen.add(tree_digest(tree))
    assert len(seen) == 6  # only touching changed nothing
