"""Where cases come from: a project's suites become the fixed list of cases that `project lock` writes down.

Whether a case is held out hangs on the project's name and the case's *file* alone: every suite that shares a file
shares its fate, and so do files that include one another. Otherwise a hidden case would be shown by its twin.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from verifiers.drawing import load_plugin
from verifiers.suites import LockedCase, Suite, SuiteError

INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


def locate(folder: Path, sources: Mapping[str, Path], file: str) -> Path:
    """The host path of a file named relative to the project's folder or as `sources/NAME/…`. Raises `SuiteError`."""
    parts = PurePosixPath(file).parts
    if not parts or ".." in parts or file.startswith("/"):
        raise SuiteError(f"{file!r}: must be a path inside the project's folder or sources/NAME/…")
    if parts[0] != "sources":
        return folder / file
    if len(parts) < 2 or parts[1] not in sources:
        raise SuiteError(f"{file!r}: [sources] does not name it (named: {', '.join(sorted(sources)) or 'none'})")
    return sources[parts[1]].joinpath(*parts[2:])


def expand(project: str, folder: Path, sources: Mapping[str, Path], suites: Sequence[Suite]) -> tuple[LockedCase, ...]:
    """All cases of all suites, with companions, the held-out split and all rewritings on offer, each tried once.

    Whole-suite commands have no cases here: their ids come from results. Raises `SuiteError`.
    """
    found = [case for suite in suites if suite.cases for case in globbed(folder, sources, suite)]
    named = {suite.name: suite for suite in suites}
    plugins = {suite.name: load_plugin(folder / suite.prepare, suite.name) for suite in suites if suite.prepare}
    _refuse_torn(found, named)
    groups = _groups(found)
    cases: dict[str, LockedCase] = {}
    for case in found:
        if case.id in cases:
            raise SuiteError(f"{case.id}: two files make one case id; rename {case.file}", case.suite)
        path, plugin = locate(folder, sources, case.file), plugins.get(case.suite)
        twists = plugin.tried(path.read_bytes(), path.name) if plugin else ()
        hidden = share(project, groups[case.file]) < named[case.suite].heldout
        cases[case.id] = replace(case, heldout=hidden, twists=twists)
    return tuple(cases[id_] for id_ in sorted(cases))


def matches(case: str, pattern: str) -> bool:
    """A pattern is an id, a suite's name, or either with `*`, `?` and `[…]`."""
    return case == pattern or fnmatchcase(case, pattern) or fnmatchcase(case.split("/", 1)[0], pattern)


def share(project: str, lot: str) -> float:
    """Where a file falls between 0 and 1; it is held out where this is below the suite's `heldout`."""
    digest = hashlib.sha256(f"held out\0{project}\0{lot}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def globbed(folder: Path, sources: Mapping[str, Path], suite: Suite) -> Iterator[LockedCase]:
    """A suite's cases by their files; nothing else of them is known. Raises `SuiteError`."""
    parts = PurePosixPath(suite.cases).parts
    prefix = parts[:2] if parts[:1] == ("sources",) else ()
    base = locate(folder, sources, "/".join(prefix)) if prefix else folder
    try:
        paths = sorted(path for path in base.glob("/".join(parts[len(prefix) :])) if path.is_file())
    except (ValueError, LookupError) as error:
        raise SuiteError(f"{suite.cases} is no pattern of files: {error}", suite.name) from error
    if not paths:
        raise SuiteError(f"{suite.cases} matches no file", suite.name)
    for path in paths:
        file = "/".join((*prefix, *path.relative_to(base).parts))
        if not file.isprintable() or set(path.stem) & set(" ,*?["):
            words = "an id must be of printable characters without spaces, commas, * ? and ["
            raise SuiteError(f"{file!r} cannot be a case: {words}; rename it", suite.name)
        yield LockedCase(f"{suite.name}/{path.stem}", suite.name, file, False, with_files=_companions(path, file))


def _companions(path: Path, file: str) -> tuple[str, ...]:
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
    return tuple(sorted(str(PurePosixPath(file).with_name(name)) for name in seen))


def _refuse_torn(found: Sequence[LockedCase], suites: Mapping[str, Suite]) -> None:
    """A file may not be hidden in one suite and shown in another: all that share it declare one `heldout`."""
    declared: dict[str, Suite] = {}
    for case in found:
        for file in (case.file, *case.with_files):
            one, other = suites[case.suite], declared.setdefault(file, suites[case.suite])
            if other.heldout != one.heldout:
                words = f"suite {other.name} holds out {other.heldout:g} and suite {one.name} {one.heldout:g}"
                raise SuiteError(f"{file}: {words} of it; give both the same `heldout`", one.name, "heldout")


def _groups(found: Sequence[LockedCase]) -> dict[str, str]:
    """For each file, the first name among all files tied to it by inclusion: what the split is drawn from."""
    tied: dict[str, frozenset[str]] = {}
    for case in found:
        files = frozenset((case.file, *case.with_files))
        together = files.union(*(tied.get(file, files) for file in files))
        tied |= dict.fromkeys(together, together)
    return {file: min(together) for file, together in tied.items()}
