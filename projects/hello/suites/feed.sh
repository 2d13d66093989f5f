#!/bin/sh
# Last step: the program itself. What it prints is compared outside this room.
exec sh "$ARTIFACTS/$(cat "$OUT/program")" <"$OUT/input"
