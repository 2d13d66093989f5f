#!/bin/sh
# Compiles and runs shown cases: sh tests/run.sh [NAME or PATTERN ...]. Prints totals, then a line for each failure.
# JOBS=4 runs four at a time, SHOW=1000 prints more failures than 40. CASES=FOLDER takes other cases than
# /team/cases/torture. /tmp/ccc-cases/results has a line for each case.
# Wrapped cases, programs and logs are left in /tmp/ccc-cases.
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
xargs -n 1 -P "${JOBS:-2}" sh tests/one.sh <"$LOGS/list" >"$LOGS/results"
passed=$(grep -c '^ok ' "$LOGS/results")
total=$(grep -c . "$LOGS/list")
echo "$passed of $total pass"
grep '^ERROR' "$LOGS/results" | sort | head -n "${SHOW:-40}"
[ "$passed" = "$total" ]
