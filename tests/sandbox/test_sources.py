"""Sources come from outside and are what was declared, or are refused."""

import os
import tarfile
from pathlib import Path
from typing import Final, Literal

import anyio
import pytest

from sandbox.debian import CommandFailed, SourceError, choose, fetch
from sandbox.keep import Kept, state_home, tree_digest

GCC: Final = ("deb", "gcc-12-source", "gcc-12.2.0-dfsg.tar.xz:gcc/testsuite")


def get(kind: Literal["deb", "src"], name: str, path: str = "") -> Kept:
    """Kept on the machine, so that only the first run of these tests asks a mirror."""
    return anyio.run(fetch, kind, name, path, state_home(), lambda _line: None)


def chosen(tree: Path, path: str, half: Path) -> Path:
    half.mkdir()
    return anyio.run(choose, tree, path, half)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An unpacked package with an archive in it."""
    tree, thing = tmp_path / "package", tmp_path / "thing-1.2"
    (tree / "usr/src").mkdir(parents=True)
    (thing / "inner/cases").mkdir(parents=True)
    (thing / "inner/cases/one.c").write_text("int main(void) { return 0; }\n")
    (thing / "README").write_text("a thing\n")
    with tarfile.open(tree / "usr/src/thing.tar.xz", "w:xz") as tar:
        tar.add(thing, "thing-1.2")
    return tree


def test_gcc_s_own_execute_tests_come_from_debian_s_package() -> None:
    gcc = get(*GCC)
    assert len(list((gcc.folder / "gcc.c-torture/execute").glob("*.c"))) == 1592
    assert gcc.pin.startswith("deb gcc-12-source 12.2.0-14") and gcc.pin.endswith(f" {gcc.digest}")


def test_a_source_package_comes_as_its_upstream_tree() -> None:
    lua = get("src", "lua5.4")
    assert (lua.folder / "src/lua.c").is_file()
    assert not (lua.folder / "debian").exists()
    assert lua.pin.startswith("src lua5.4 5.4.4-3")


def test_what_was_fetched_is_what_its_digest_says_and_nobody_may_write_it() -> None:
    lua = get("src", "lua5.4")
    assert lua.digest == tree_digest(lua.folder)
    assert not any(path.stat().st_mode & 0o222 for path in lua.folder.rglob("*"))


def test_a_second_fetch_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(*GCC)
    monkeypatch.setattr("sandbox.debian.run", None)
    monkeypatch.setattr("sandbox.debian.private_apt", None)
    assert get(*GCC) == first


def test_an_archive_in_a_package_is_unpacked_without_the_folder_named_after_its_version(
    package: Path, tmp_path: Path
) -> None:
    whole = chosen(package, "thing.tar.xz", tmp_path / "whole")
    assert sorted(path.name for path in whole.iterdir()) == ["README", "inner"]
    cases = chosen(package, "src/thing.tar.xz:inner/cases", tmp_path / "cases")
    assert [path.name for path in cases.iterdir()] == ["one.c"]


def test_the_digest_is_the_content_s_however_it_was_packed(package: Path, tmp_path: Path) -> None:
    with tarfile.open(package / "usr/src/thing.tar.xz") as tar, tarfile.open(package / "again.tar", "w") as out:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.mode = 1, 7, member.mode | 0o020
            out.addfile(member, tar.extractfile(member) if member.isfile() else None)
    first, second = (tree_digest(chosen(package, name, tmp_path / name)) for name in ("thing.tar.xz", "again.tar"))
    assert first == second


@pytest.mark.parametrize("path", [":nowhere", "nowhere.tar", ":../..", ":usr/../../..", "thing.tar.xz:outer"])
def test_a_path_that_is_not_in_the_source_is_refused(package: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(SourceError, match="in the source"):
        chosen(package, path, tmp_path / "half")


def test_links_in_an_archive_do_not_lead_out_of_it(package: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with tarfile.open(package / "evil.tar", "w") as tar:
        link = tarfile.TarInfo("top/way")
        link.type, link.linkname = tarfile.SYMTYPE, str(target)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("top/way/planted"))
    with pytest.raises(CommandFailed, match="tar"):
        chosen(package, "evil.tar", tmp_path / "half")
    assert not list(target.iterdir())


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
