# Prints `$1 <commit>`, then a thin pack over main, $2 bytes at most, of the state of the work tree as a commit on HEAD.
# It is made over a private index: neither HEAD nor the agent's index change. A checkpoint keeps the index as well.
# Where $3 is given, a workspace in the middle of a rebase or merge is not packed, and the exit code is 3.
set -eu
umask 077
cd "$(git rev-parse --show-toplevel)"
unfinished() {
    echo "$1 unfinished: \`git status\` says what is missing; finish it or \`$2\`, then submit again" >&2
    exit 3
}
in_git() { [ -e "$(git rev-parse --git-path "$1")" ]; }
if [ -n "${3-}" ]; then
    if in_git rebase-merge || in_git rebase-apply; then unfinished 'a rebase is' 'git rebase --abort'; fi
    if in_git MERGE_HEAD; then unfinished 'a merge is' 'git merge --abort'; fi
    if [ -n "$(git ls-files --unmerged)" ]; then unfinished 'conflicts are' 'git add FILE'; fi
fi
set -- "$1" "$2"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Fixed, so that an unchanged workspace gives the same commit, and a checkpoint of it adds nothing.
export GIT_AUTHOR_NAME=workspace GIT_AUTHOR_EMAIL=workspace GIT_AUTHOR_DATE='1000000000 +0000'
export GIT_COMMITTER_NAME=workspace GIT_COMMITTER_EMAIL=workspace GIT_COMMITTER_DATE='1000000000 +0000'
head=$(git rev-parse --verify -q 'HEAD^{commit}') || { echo 'HEAD is not a commit' >&2; exit 1; }
index=$(git rev-parse --git-path index)
# -p keeps the index's time, by which git knows which entries it must compare by content.
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
    printf '%s %s\n' "$kind" "$commit"
    { echo "$commit"; git for-each-ref --format='^%(objectname)' refs/remotes/origin; } |
        git pack-objects -q --revs --thin --stdout --delta-base-offset --threads=1
} | head -c "$cap"
