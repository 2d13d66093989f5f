#!/bin/sh
# Nobody here can compile C: rustc needs gcc only to link, and that works without the compilers proper. Their headers go
# as well, because the rooms where cases run have none either.
set -eu
find /usr/lib/gcc /usr/libexec -type f \( -name cc1 -o -name cc1plus -o -name lto1 -o -name lto-wrapper \) -delete 2>/dev/null || true
rm -rf /usr/lib/gcc/x86_64-linux-gnu/*/include /usr/lib/gcc/x86_64-linux-gnu/*/plugin
rm -f /usr/bin/cpp /usr/bin/cpp-* /usr/bin/x86_64-linux-gnu-cpp*
if echo 'int main(void) { return 0; }' | gcc -x c - -o /tmp/probe 2>/dev/null; then
    echo "setup.sh: gcc still compiles C" >&2
    exit 1
fi
