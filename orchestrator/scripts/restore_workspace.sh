# Makes the workspace what it was at checkpoint $1, whose pack over main is read from standard input: commits, index and
# files. Ignored files stay, and so does all that git knows besides.
set -eu
umask 022
cd "$(git rev-parse --show-toplevel)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git fetch -q "$(git config remote.origin.url)" main
git index-pack --stdin --fix-thin >/dev/null
# What it had fetched by then is at least the main that its commits stand on.
base=$(git merge-base "$1^1" FETCH_HEAD)
git merge-base --is-ancestor "$base" refs/remotes/origin/main || git update-ref refs/remotes/origin/main "$base"
git ls-files -z --cached --others --exclude-standard | xargs -0 rm -rf --
GIT_INDEX_FILE=$scratch/index git read-tree "$1"
GIT_INDEX_FILE=$scratch/index git checkout-index -q -a -f
git read-tree --reset "$1^2"
git update-ref HEAD "$(git rev-parse "$1^1")"
git update-index -q --refresh >/dev/null || true
