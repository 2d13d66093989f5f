#!/bin/sh
# Makes this folder and this machine ready. What is there is left alone, so a second call is quick.
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh
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
    elif borrow_builder; then
        say "not installed here, so unpacked for $(id -un) below $TOOLS: $packages"
    else
        say "not here, and only root may install it: $packages"
        say "for all of it, run as root:  $command"
    fi
}

# The builder of images without an installation: scripts and two libraries that know where they lie by name alone.
borrow_builder() {
    half=$TOOLS.half
    rm -rf "$half" "$TOOLS"
    mkdir -p "$half"
    borrow "$half" mmdebstrap fakechroot libfakechroot fakeroot libfakeroot xz-utils || return 1
    (
        cd "$half/usr/bin"
        sed -i "s|/usr/s\{0,1\}bin/[a-z]*\.fakechroot|$TOOLS&|; s|/usr/libexec/mmdebstrap|$TOOLS&|" mmdebstrap
        libraries=$(echo ../lib/*/fakechroot)
        sed -i "s|^fakechroot_paths=no|fakechroot_paths=$TOOLS/usr/${libraries#../}|
            s|^fakechroot_sysconfdir=.*|fakechroot_sysconfdir=$TOOLS/etc/fakechroot|" fakechroot
        sed "s|/usr/|$TOOLS/usr/|g; s|^FAKEROOT_PREFIX=/usr|FAKEROOT_PREFIX=$TOOLS/usr|" fakeroot-sysv >fakeroot
        chmod +x fakeroot
    )
    mv "$half" "$TOOLS"
}

# Debian's Python makes no environment with pip unless python3-venv is installed. An ordinary user need not wait for
# that: pip itself is a package that anybody may download.
make_environment() {
    if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        "$PYTHON" -m venv --clear .venv
        return
    fi
    "$PYTHON" -m venv --clear --without-pip .venv
    scratch=$(mktemp -d)
    borrow "$scratch" python3-pip-whl ||
        stop "$PYTHON has no pip; run as root:  apt-get install --no-install-recommends --yes python3-venv"
    wheel=$(echo "$scratch"/usr/share/python-wheels/pip-*.whl)
    PYTHONPATH=$wheel .venv/bin/python -m pip install -qq --disable-pip-version-check --no-index "$wheel"
    rm -rf "$scratch"
}

install_requirements() {
    stamp=.venv/installed
    wanted="$("$PYTHON" --version) $(sha256sum <requirements.lock)"
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
