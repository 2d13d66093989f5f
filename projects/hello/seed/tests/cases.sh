#!/bin/sh
# Runs the examples in /team/cases (or the folder given) and prints what differs. The judge uses other names.
cd "$(dirname "$0")/.." || exit 1
bad=0
for case in "${1:-/team/cases/greet}"/*.txt; do
    program=$(head -n 1 "$case")
    got=$(sed -n '/^--- input$/,/^--- output$/p' "$case" | sed -e 1d -e '$d' | sh "$program" 2>&1)
    want=$(sed -e '1,/^--- output$/d' "$case")
    [ "$got" = "$want" ] || { bad=$((bad + 1)); echo "differs: $(basename "$case" .txt) ($program)"; }
done
echo "$bad differ"
[ "$bad" -eq 0 ]
