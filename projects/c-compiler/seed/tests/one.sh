#!/bin/sh
# One case, wrapped nearly as the judge does it: ending well is status 11 here and calling abort 22; the judge draws both,
# and in every third case it turns one comparison round, so that aborting is right.
name=$(basename "$1" .c)
work=$LOGS/$name
mkdir -p "$work"
for beside in $(sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$1"); do
    cp "$CASES/$beside" "$work/" 2>/dev/null
done
takes='void' gives=''
if grep -Eq '(^|[^A-Za-z0-9_])main[[:space:]]*\([[:space:]]*(int|argc|const|char)' "$1"; then
    takes='int count, char **words' gives='count, words'
fi
call="drawn_main ($gives);"
if sed -n '/main[[:space:]]*(/,$p' "$1" | grep -q return; then
    call="int status = drawn_main ($gives); if (status) return status;"
fi
{
    echo 'void drawn_exit (int);'
    echo 'void drawn_abort (void);'
    echo '#define exit drawn_exit'
    echo '#define abort drawn_abort'
    echo '#define __builtin_abort drawn_abort'
    echo '#define main drawn_main'
    echo '#line 1'
    cat "$1"
    echo
    echo '#undef exit'
    echo '#undef abort'
    echo '#undef __builtin_abort'
    echo '#undef main'
    echo 'extern void exit (int);'
    echo 'void drawn_exit (int status) { if (status) exit (status); exit (11); }'
    echo 'void drawn_abort (void) { exit (22); }'
    echo "int main ($takes)"
    echo '{'
    echo "  $call"
    echo '  return 11;'
    echo '}'
} >"$work/case.c"
if ! timeout 10 target/release/ccc "$work/case.c" -o "$work/a" >"$work/log" 2>&1 || [ ! -x "$work/a" ]; then
    echo "ERROR $name: compile: $(grep -m1 -E 'error|panicked' "$work/log" || echo 'no program and no message')"
    exit 0
fi
timeout 10 "$work/a" >"$work/log" 2>&1
status=$?
case $status in
11) echo "ok $name" ;;
22) echo "ERROR $name: run: called abort, expected: ended well" ;;
*) echo "ERROR $name: run: exit status $status, expected: ended well" ;;
esac
