#!/bin/sh
# Prints what `start` has to be told about sandboxes on this machine: nothing where rooms can be isolated, else
# `--sandbox local`, and says what that means.
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh

engine=$(.venv/bin/python -c '
from sandbox.engines import choose
from sandbox.keep import state_home
from sandbox.room import EngineUnavailable

try:
    print(choose(None, state_home()).name)
except EngineUnavailable:
    print("local")
')
[ "$engine" = local ] || exit 0
say "WARNING: neither namespaces (bubblewrap) nor a Docker engine can be used here; going on with --sandbox local"
say "WARNING: local isolates nothing: what agents run can read and change everything that $(id -un) can: other seats'"
say "WARNING: workspaces, the run's state and repositories, verifiers, keys, the network. Use it with scripted teams alone."
echo --sandbox local
