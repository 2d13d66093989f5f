#!/bin/sh
# Makes this folder and this machine ready. What is there is left alone, so a second call is quick.
set -eu
cd "$(dirname "$0")/.."
. setup/say.sh
PYTHON=${PYTHON:-python3}

# Debian's packages for the tools that are looked for and not found.
wanted() {
    has mmdebstrap || echo mmdebstrap
    has xz || echo xz-utils
    if is_root; then
        "$PYTHON" -c 'import ensurepip' 2>/dev/null || echo python3-venv
        has mount || echo mount
        has mkfs.ext4 || echo e2fsprogs
        has dockerd || echo docker.io
        [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    else
        { has fakechroot && has fakeroot; } || echo fakechroot fakeroot
    fi
}

install_tools() {
    packages=$(wanted | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    command="apt-get install --no-install-recommends --yes $packages"
    if is_root && has apt-get; then
        say "installing $packages"
        log=$(mktemp)
        if apt-get update >"$log" 2>&1 && DEBIAN_FRONTEND=noninteractive $command >>"$log" 2>&1; then
            rm -f "$log"
        else
            tail -n 20 "$log" >&2
            say "not installed (all of it: $log): $packages; going on without"
        fi
    else
        say "not here, and only root may install it: $packages"
        say "for all of it, run as root:  $command"
    fi
}

# Debian's Python makes no environment with pip unless python3-venv is installed. An ordinary user need not wait for
# that: pip itself is a package that anybody may download.
make_environment() {
    if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        "$PYTHON" -m venv --clear .venv
        return
    fi
    has apt-get || stop "$PYTHON has no pip; install it for this Python, then run make again"
    "$PYTHON" -m venv --clear --without-pip .venv
    scratch=$(mktemp -d)
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
    own="-o Dir::State::lists=$scratch/lists -o Dir::Cache=$scratch/cache -o APT::Sandbox::User=root"
    if (cd "$scratch" && apt-get $own update && apt-get $own download python3-pip-whl && dpkg-deb -x ./*.deb .) \
        >"$scratch/log" 2>&1; then
        PYTHONPATH=$(echo "$scratch"/usr/share/python-wheels/pip-*.whl) .venv/bin/python -m pip install \
            -qq --disable-pip-version-check --no-index "$scratch"/usr/share/python-wheels/pip-*.whl
        rm -rf "$scratch"
    else
        tail -n 5 "$scratch/log" >&2
        stop "$PYTHON has no pip; run as root:  apt-get install --no-install-recommends --yes python3-venv"
    fi
}

install_requirements() {
    stamp=.venv/installed
    wanted=$(sha256sum <requirements.lock)
    [ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
    say "making .venv from requirements.lock"
    make_environment
    .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
    echo "$wanted" >$stamp
}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || stop "$PYTHON is not Python 3.11 or newer"
has git || stop "git is not here; run as root:  apt-get install git"
install_tools
install_requirements
setup/docker.sh start
setup/engine.sh >/dev/null
