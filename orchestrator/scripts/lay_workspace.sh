# Makes the current folder a work tree of the repository at $3, with $1@$2 as its author: at main, or, where $4 is a
# checkpoint's commit and not empty, as that checkpoint was, its pack read from standard input. Prints the commit.
# Main is set last: HEAD names a commit only when the whole workspace is there.
set -eu
# What an earlier call left that was killed on the way: a lock would stop git, and a file of another main stay here.
chmod -R u+rwX . 2>/dev/null || true
find . -mindepth 1 -maxdepth 1 -exec rm -rf {} +
git init -q -b main .
git config user.name "$1"
git config user.email "$1@$2"
git config remote.origin.url "$3"
git config remote.origin.fetch '+refs/heads/main:refs/remotes/origin/main'
# It gets no configuration from the fetch that starts it.
git config remote.origin.uploadpack "git -c safe.directory='*' upload-pack"
git config branch.main.remote origin
git config branch.main.merge refs/heads/main
git config pull.rebase true
git config rebase.autoStash true
git fetch -q origin
if [ -z "$4" ]; then
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
