"""What runs inside a room to make, pack and restore a workspace. POSIX sh, git, coreutils; no word of an agent's.

In the room an agent may have replaced anything: configuration, hooks, filters, git itself. So these scripts promise the
host nothing; what they print is bytes for `quarantine.py` to judge.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from enum import StrEnum
from typing import Final

from sandbox.room import KIB, Command, Ended, Result

ORIGIN: Final = "/team/main.git"
MAIL_DOMAIN: Final = "orchestrator.invalid"

_ENV: Final = {
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    # The room's user need not own the folders an engine mounted. The agent could allow itself this as well.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}

# Upload-pack gets no configuration from the fetch that starts it, hence its own in `uploadpack`. Main is set last: HEAD
# names a commit only when the whole workspace is there.
_FRESH: Final = """set -eu
git init -q -b main .
git config user.name "$1"
git config user.email "$1@$2"
git config remote.origin.url "$3"
git config remote.origin.fetch '+refs/heads/main:refs/remotes/origin/main'
git config remote.origin.uploadpack "git -c safe.directory='*' upload-pack"
git config branch.main.remote origin
git config branch.main.merge refs/heads/main
git config pull.rebase true
git config rebase.autoStash true
git fetch -q origin
if [ $# = 3 ]; then
    head=origin/main tree=origin/main index=origin/main
else
    git index-pack --stdin --fix-thin >/dev/null
    head=$4^1 tree=$4 index=$4^2
fi
git read-tree --reset -u "$tree"
git read-tree --reset "$index"
git update-index -q --refresh >/dev/null || true
git update-ref refs/heads/main "$(git rev-parse "$head")"
git rev-parse HEAD
"""

# The state of the work tree as a commit on HEAD, made over a private index: neither HEAD nor the agent's index change.
# `cp -p` keeps the index's time, by which git knows which entries it must compare by content. Dates are fixed, so that
# an unchanged workspace gives the same commit, and a checkpoint of it adds nothing.
_PACK: Final = """set -eu
umask 077
cd "$(git rev-parse --show-toplevel)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GIT_AUTHOR_NAME=workspace GIT_AUTHOR_EMAIL=workspace GIT_AUTHOR_DATE='1000000000 +0000'
export GIT_COMMITTER_NAME=workspace GIT_COMMITTER_EMAIL=workspace GIT_COMMITTER_DATE='1000000000 +0000'
head=$(git rev-parse --verify -q 'HEAD^{commit}') || { echo 'HEAD is not a commit' >&2; exit 1; }
index=$(git rev-parse --git-path index)
cp -p "$index" "$scratch/index" 2>/dev/null || GIT_INDEX_FILE=$scratch/index git read-tree "$head"
if [ "$1" = checkpoint ]; then
    cp -p "$scratch/index" "$scratch/staged"
    staged=$(GIT_INDEX_FILE=$scratch/staged git write-tree 2>/dev/null) || staged="$head^{tree}"
    set -- "$1" "$2" -p "$(git commit-tree "$staged" -p "$head" -m index </dev/null)"
fi
export GIT_INDEX_FILE=$scratch/index
git add -A -- .
kind=$1 cap=$2
shift 2
commit=$(git commit-tree "$(git write-tree)" -p "$head" "$@" -m "$kind" </dev/null)
{
    printf '%s %s\\n' "$kind" "$commit"
    { echo "$commit"; git for-each-ref --format='^%(objectname)' refs/remotes/origin; } |
        git pack-objects -q --revs --thin --stdout --delta-base-offset --threads=1
} | head -c "$cap"
"""


class Kind(StrEnum):
    SUBMISSION = "submission"
    CHECKPOINT = "checkpoint"


class Unpacked(Exception):
    """The room could not pack its workspace; the message says why, in words for the agent."""


def is_there() -> Command:
    """Succeeds when the folder is a whole workspace, as `fresh` or `restore` made it."""
    return _command("git rev-parse -q --verify HEAD", time_s=60.0)


def fresh(seat: str, origin: str = ORIGIN, time_s: float = 300.0) -> Command:
    """Makes the current folder a work tree at `origin`'s main, with the seat as its author; prints the commit.

    `git pull --rebase` then works, also over uncommitted edits.
    """
    return _command(_FRESH, seat, MAIL_DOMAIN, origin, time_s=time_s)


def restore(
    seat: str, commit: str, pack: bytes | AsyncIterable[bytes], origin: str = ORIGIN, time_s: float = 300.0
) -> Command:
    """As `fresh`, but at a checkpoint: commits, work tree, index. `pack` is `Repository.checkpoint_pack`."""
    return _command(_FRESH, seat, MAIL_DOMAIN, origin, commit, stdin=pack, time_s=time_s)


def pack(kind: Kind, limit: int, time_s: float = 120.0) -> Command:
    """Prints a header line (`<kind> <commit>`), then a thin pack of the workspace's state and its commits, over main.

    `limit` caps the bytes in the room. Everything that is not ignored is in it, committed or not. A checkpoint keeps
    the index as well (the commit's second parent); an unfinished merge or rebase is kept as files only.
    """
    return _command(_PACK, kind.value, str(limit + KIB), time_s=time_s, output_limit=limit + 2 * KIB)


def packed(result: Result) -> bytes:
    """What `pack` printed. Raises `Unpacked` when it failed."""
    if result.ended is Ended.TIMEOUT:
        raise Unpacked("git did not finish packing your workspace in time; is something in .git not an ordinary file?")
    if not result.ok:
        said = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {result.exit_code}"]
        raise Unpacked(f"git could not pack your workspace: {said[0][:300]}")
    return result.stdout


def _command(
    script: str, *args: str, stdin: bytes | AsyncIterable[bytes] = b"", time_s: float, output_limit: int = 64 * KIB
) -> Command:
    argv = ("/bin/sh", "-c", script, "workspace", *args)
    return Command(argv, stdin=stdin, env=_ENV, time_s=time_s, output_limit=output_limit)
