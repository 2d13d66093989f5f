# Shared by the scripts beside it: one way to speak, one place for what a machine keeps.

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

if [ -n "${ORCHESTRATOR_HOME:-}" ]; then
    STATE=$ORCHESTRATOR_HOME
elif is_root; then
    STATE=/var/lib/orchestrator
else
    STATE=$HOME/.local/share/orchestrator
fi
TOOLS=$STATE/tools # Debian's packages that an ordinary user's set-up unpacked
PATH=$PATH:/usr/sbin:/sbin:$TOOLS/usr/bin # a user's own has none of these

# borrow FOLDER PACKAGE...: unpacks Debian's packages into FOLDER, without installing and without their dependencies.
# Anybody may do that: apt works on lists and a cache of its own.
borrow() {
    into=$1
    shift
    has apt-get && has dpkg-deb || return 1
    mkdir -p "$into/apt/lists/partial" "$into/apt/cache/archives/partial"
    if (
        cd "$into"
        own="-o Dir::State::lists=$into/apt/lists -o Dir::Cache=$into/apt/cache -o APT::Sandbox::User=root"
        # shellcheck disable=SC2086 # the options are words
        apt-get $own update && apt-get $own download "$@" || exit
        for package in ./*.deb; do dpkg-deb -x "$package" . && rm "$package" || exit; done
    ) >"$into/log" 2>&1; then
        rm -rf "$into/apt" "$into/log"
    else
        tail -n 5 "$into/log" >&2
        return 1
    fi
}
