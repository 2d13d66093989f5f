# Prints what the work tree holds as a tree's id, a digest of that with index, HEAD, refs (but kept/*, which are put there
# by the run) and what git is in the middle of, and the main that was fetched last. Neither the index nor HEAD changes.
# In the middle of a merge or rebase there is no tree's id: lines between conflict markers name commits of the workspace's
# own, which are others each time.
set -eu
umask 077
cd "$(git rev-parse --show-toplevel)"
scratch=$(mktemp)
trap 'rm -f "$scratch" "$scratch.lock"' EXIT
index=$(git rev-parse --git-path index)
# -p keeps the index's time, by which git knows which entries it must compare by content.
cp -p "$index" "$scratch" 2>/dev/null || GIT_INDEX_FILE=$scratch git read-tree HEAD
tree=$(GIT_INDEX_FILE=$scratch git add -A -- . && GIT_INDEX_FILE=$scratch git write-tree)
state=$({ echo "$tree"; git ls-files --stage -z; cat .git/HEAD; git for-each-ref refs/heads refs/remotes refs/tags refs/stash; ls .git; } | sha1sum)
for middle in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD; do
    [ ! -e "$(git rev-parse --git-path "$middle")" ] || tree=
done
[ -z "$(git ls-files --unmerged)" ] || tree=
echo "$tree ${state%% *} $(git rev-parse -q --verify refs/remotes/origin/main)"
