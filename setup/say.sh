# Shared by the scripts beside it: one way to speak, one place for what a machine keeps.

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

PATH=$PATH:/usr/sbin:/sbin # a user's own has neither
if [ -n "${ORCHESTRATOR_HOME:-}" ]; then
    STATE=$ORCHESTRATOR_HOME
elif is_root; then
    STATE=/var/lib/orchestrator
else
    STATE=$HOME/.local/share/orchestrator
fi
