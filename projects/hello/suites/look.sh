#!/bin/sh
# First step: the case's first line names the program, the rest is its input.
program=$(head -n 1 "$CASE")
[ -f "$ARTIFACTS/$program" ] || { echo "ERROR there is no $(basename "$program" .sh) program yet"; exit 1; }
printf '%s' "$program" >"$OUT/program"
tail -n +2 "$CASE" >"$OUT/input"
