#!/bin/sh
# Runs every tests/*.test.sh from the repository's root. A test passes when it exits 0.
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
set -- tests/*.test.sh
echo "running $# tests"
for file; do
    name=$(basename "$file" .test.sh | tr -- '-' '_')
    if sh "$file" >/dev/null 2>&1; then
        passed=$((passed + 1)) word=ok
    else
        failed=$((failed + 1)) word=FAILED
    fi
    echo "test $name ... $word"
done
[ "$failed" -eq 0 ] && word=ok || word=FAILED
echo "test result: $word. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out"
[ "$failed" -eq 0 ]
