#!/bin/sh
# The main job without a key: the recorded team of projects/c-compiler builds its compiler again, through real rooms,
# builds, judge and gate. Where rooms cannot be isolated nothing recorded can be replayed: then it is the small scripted
# team of projects/hello.
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh

local=$(setup/engine.sh)
if [ -z "$local" ]; then
    exec .venv/bin/python -m orchestrator start projects/c-compiler --agents 16 --model recorded
fi
say "WARNING: the recorded team needs rooms; in its place the scripted team of projects/hello plays"
# shellcheck disable=SC2086 # two words
exec .venv/bin/python -m orchestrator start projects/hello --agents 3 --model scripted:projects/hello/team.toml $local
