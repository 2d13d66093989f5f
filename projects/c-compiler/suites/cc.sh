#!/bin/sh
# First step of a C case: the compiler under test makes a program out of one file, running `as` and `ld` itself.
# The program runs in the second step, in a room of its own, with nothing of ours beside it.
log="${TMPDIR:-/tmp}/log"
"$ARTIFACTS/ccc" "$CASE" -o "$OUT/a" >"$log" 2>&1
status=$?
if [ "$status" != 0 ]; then
    why=$(grep -m1 -E 'error|panicked' "$log" || head -n 1 "$log")
    echo "ERROR compile: ${why:-exit status $status and no message}"
    exit 1
fi
# Not -x: nothing under $OUT may be executed in this room, and the shell would say so of any file.
[ -s "$OUT/a" ] || { echo "ERROR compile: exit status 0 but no program written"; exit 1; }
