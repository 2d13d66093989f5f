#!/bin/sh
# start: where root has a Docker engine installed and none answers, starts one by hand and notes its process.
# stop:  ends that one, and no other.
set -eu
cd "$(dirname "$0")/.."
. setup/common.sh
note=$STATE/dockerd.pid # "PID START-TIME": a number alone may be another program's by now
log=$STATE/dockerd.log

answers() { has docker && timeout 20 docker version >/dev/null 2>&1; }
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# Tries one set of options; leaves the engine running and noted if it answers.
try() {
    setsid dockerd "$@" </dev/null >"$log" 2>&1 &
    pid=$!
    echo "$pid $(started_at $pid)" >"$note"
    for _ in $(seq 60); do
        if answers; then return 0; fi
        kill -0 $pid 2>/dev/null || break
        sleep 0.5
    done
    end
    return 1
}

end() {
    [ -e "$note" ] || return 0
    read -r pid since <"$note"
    if [ "$(started_at "$pid")" = "$since" ]; then
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 60); do
            [ "$(started_at "$pid")" = "$since" ] || break
            sleep 0.5
        done
    fi
    rm -f "$note"
}

case $1 in
start)
    if answers || ! is_root || ! has dockerd; then exit 0; fi
    mkdir -p "$STATE"
    say "starting a Docker engine; its log: $log"
    # A container often may not touch the machine's firewall or stack its own file system on another.
    try || try --iptables=false --ip6tables=false --bridge=none ||
        try --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs ||
        say "no Docker engine can run here: $(grep -i -E 'fail|error' "$log" | tail -n 1)"
    ;;
stop) end ;;
*) stop "usage: setup/docker.sh start|stop" ;;
esac
