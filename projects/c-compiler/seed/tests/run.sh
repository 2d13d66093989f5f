#!/bin/sh
# Compiles and runs shown cases: sh tests/run.sh [NAME or PATTERN ...]. Prints totals, then a line for each failure.
# A case passes when its program exits with 0. The judge draws other statuses; a right compiler passes both.
# JOBS=4 runs four at a time. CASES=FOLDER takes other cases than /team/cases/torture.
cd "$(dirname "$0")/.." || exit 1
CASES=${CASES:-/team/cases/torture} LOGS=/tmp/ccc-cases
export CASES LOGS
cargo build --release --offline --quiet || exit 1
rm -rf "$LOGS"
mkdir -p "$LOGS"
[ $# -gt 0 ] || set -- '*'
for pattern; do
    find "$CASES" -maxdepth 1 -name "$pattern.c"
done | sort -u >"$LOGS/list"
[ -s "$LOGS/list" ] || { echo "no case matches: $*"; exit 1; }
xargs -n 1 -P "${JOBS:-2}" sh -c '
    name=$(basename "$1" .c)
    log=$LOGS/$name
    if ! timeout 10 target/release/ccc "$1" -o "$log.out" >"$log.log" 2>&1 || [ ! -x "$log.out" ]; then
        echo "ERROR $name: compile: $(grep -m1 -E "error|panicked" "$log.log" || echo "no program and no message")"
    else
        timeout 10 "$log.out" >"$log.log" 2>&1
        status=$?
        [ "$status" = 0 ] && echo "ok $name" || echo "ERROR $name: run: exit status $status"
        rm -f "$log.out"
    fi
' sh <"$LOGS/list" >"$LOGS/results"
passed=$(grep -c '^ok ' "$LOGS/results")
echo "$passed of $(grep -c . "$LOGS/list") pass"
grep '^ERROR' "$LOGS/results" | sort | head -n "${LINES_SHOWN:-40}"
[ "$passed" = "$(grep -c . "$LOGS/list")" ]
