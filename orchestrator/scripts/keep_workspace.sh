# Takes a pack from standard input, and makes its commit $2 the ref kept/$1; where $3 is empty only if there is none. The
# work tree, the index and all that a workspace says of itself (see_workspace.sh) stay as they are.
set -eu
git index-pack --stdin --fix-thin >/dev/null
[ -z "$3" ] && git rev-parse -q --verify "refs/kept/$1" >/dev/null || git update-ref "refs/kept/$1" "$2"
