"""Where cases come from: a project's suites become the fixed list of cases that `project lock` writes down.

Whether a case is held out hangs on the project's name and the case's *file* alone: every suite and variant that shares
a file shares its fate, and so do files that include one another. Otherwise a hidden case would be shown by its twin.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import anyio

from verifiers.suites import LockedCase, Suite, SuiteError

INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
LISTING_S = 120  # a listing command runs once, at `project lock`


@dataclass(frozen=True)
class _Found:
    """A case before it is known whether it is held out. `file` is "" for an id that a command listed."""

    suite: Suite
    name: str
    file: str
    with_files: tuple[str, ...]


def locate(folder: Path, sources: Mapping[str, Path], file: str) -> Path:
    """The host path of a file named relative to the project's folder or as `sources/NAME/…`. Raises `SuiteError`."""
    parts = PurePosixPath(file).parts
    if not parts or ".." in parts or file.startswith("/"):
        raise SuiteError(f"{file!r}: must be a path inside the project's folder or sources/NAME/…")
    if parts[0] != "sources":
        return folder / file
    if len(parts) < 2 or parts[1] not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise SuiteError(f"{file!r}: [sources] does not name it (named: {known})")
    return sources[parts[1]].joinpath(*parts[2:])


async def expand(
    project: str, folder: Path, sources: Mapping[str, Path], suites: Sequence[Suite]
) -> tuple[LockedCase, ...]:
    """All cases of all suites, with companions and the held-out split; no twist is known yet.

    Whole-suite commands have no cases here: their ids come from results. Raises `SuiteError`.
    """
    found: list[_Found] = []
    for suite in suites:
        if suite.cases.startswith("!"):
            found += [_Found(suite, name, "", ()) for name in await _listed(folder, suite)]
        elif suite.cases:
            found += await anyio.to_thread.run_sync(_globbed, folder, sources, suite)
    _refuse_torn(found)
    groups = _groups(found)
    cases: list[LockedCase] = []
    for case in found:
        lot = groups[case.file] if case.file else f"{case.suite.name}/{case.name}"
        hidden = share(project, lot) < case.suite.heldout
        for variant in case.suite.variants or ("",):
            id_ = f"{case.suite.name}/{case.name}" + (f"@{variant}" if variant else "")
            cases.append(LockedCase(id_, case.suite.name, case.file, hidden, (), case.with_files))
    doubles = sorted(id_ for id_, times in Counter(case.id for case in cases).items() if times > 1)
    if doubles:
        raise SuiteError(f"{doubles[0]}: two files make one case id; rename one of them")
    return tuple(sorted(cases, key=lambda case: case.id))


def share(project: str, lot: str) -> float:
    """Where a file falls between 0 and 1; it is held out where this is below the suite's `heldout`."""
    digest = hashlib.sha256(f"held out\0{project}\0{lot}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _globbed(folder: Path, sources: Mapping[str, Path], suite: Suite) -> list[_Found]:
    parts = PurePosixPath(suite.cases).parts
    prefix = parts[:2] if parts[0] == "sources" else ()
    base = locate(folder, sources, "/".join(prefix)) if prefix else folder
    files = sorted(path for path in base.glob("/".join(parts[len(prefix) :])) if path.is_file())
    if not files:
        raise SuiteError(f"suite {suite.name}: cases = {suite.cases!r} names no file below {base}")
    named = ((path, "/".join((*prefix, *path.relative_to(base).parts))) for path in files)
    return [_Found(suite, path.stem, file, tuple(_companions(path, file))) for path, file in named]


def _companions(path: Path, file: str) -> Iterable[str]:
    """Files beside the case that it includes, directly or through one another (one torture case includes itself)."""
    seen: set[str] = set()
    todo = [path]
    while todo:
        for include in INCLUDE.findall(todo.pop().read_bytes()):
            name = os.fsdecode(include)
            beside = path.parent / name
            if "/" not in name and name not in seen and beside.is_file():
                seen.add(name)
                todo.append(beside)
    return sorted(str(PurePosixPath(file).with_name(name)) for name in seen)


async def _listed(folder: Path, suite: Suite) -> list[str]:
    """Ids that the project's own trusted command prints, one a line."""
    with anyio.fail_after(LISTING_S):
        done = await anyio.run_process((str(folder / suite.cases[1:]),), cwd=folder, check=False)
    names = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or not names or not all(re.fullmatch(r"[\w.+:=-]+", name) for name in names):
        raise SuiteError(f"suite {suite.name}: {suite.cases}: must exit 0 and print one plain id a line")
    return names


def _refuse_torn(found: Sequence[_Found]) -> None:
    """A file may not be hidden in one suite and shown in another: all that share it declare one `heldout`."""
    declared: dict[str, Suite] = {}
    for case in found:
        for file in (case.file, *case.with_files):
            other = declared.setdefault(file, case.suite) if file else case.suite
            if other.heldout != case.suite.heldout:
                raise SuiteError(
                    f"{file}: suite {other.name} holds out {other.heldout:g} and suite {case.suite.name}"
                    f" {case.suite.heldout:g} of the same files; give both the same `heldout`"
                )


def _groups(found: Sequence[_Found]) -> dict[str, str]:
    """For each file, the first name among all files tied to it by inclusion: what the split is drawn from."""
    parent: dict[str, str] = {}

    def root(file: str) -> str:
        while parent.setdefault(file, file) != file:
            file = parent[file]
        return file

    for case in (case for case in found if case.file):
        for file in (case.file, *case.with_files):
            first, second = sorted((root(case.file), root(file)))
            parent[second] = first
    return {file: root(file) for file in parent}
