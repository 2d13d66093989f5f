#!/bin/sh
# Writes requirements.lock anew from pyproject.toml: newest versions, the hash of every file PyPI has of them.
#
# The compiler runs in a throw-away environment with an empty configuration: an index, a folder of wheels or a mirror
# that this machine is set up with would put hashes of its own into the lock.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

clean() {
    env -i PATH="$PATH" HOME="$scratch" PIP_CONFIG_FILE=/dev/null \
        ${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} ${PIP_CERT:+PIP_CERT="$PIP_CERT"} ${https_proxy:+https_proxy="$https_proxy"} "$@"
}

clean "${PYTHON:-python3}" -m venv "$scratch/venv"
clean "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check uv
clean "$scratch/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --group dev \
    --generate-hashes --no-annotate --no-header pyproject.toml --output-file "$scratch/lock"
{
    echo "# Every package of the product and its tests, by version and hash. Written by setup/lock.sh; do not edit."
    sed "s/ ; implementation_name == 'cpython' and sys_platform == 'linux' / /" "$scratch/lock"
} >requirements.lock
