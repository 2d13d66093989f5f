# Makes the work tree what a patch on standard input makes of the main commit $1. Index, HEAD and ignored files stay.
set -eu
umask 022
cd "$(git rev-parse --show-toplevel)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git config remote.origin.url)/objects
export GIT_ALTERNATE_OBJECT_DIRECTORIES
GIT_INDEX_FILE=$scratch/index git read-tree "$1"
GIT_INDEX_FILE=$scratch/index git apply --cached --binary --allow-empty --whitespace=nowarn -
git ls-files -z --cached --others --exclude-standard | xargs -0 rm -rf --
GIT_INDEX_FILE=$scratch/index git checkout-index -q -a -f
