#!/usr/bin/env bash
# Long-running load: one viewer in a hundred is replaced every second. Fails when a packet is lost, a viewer is refused, or the server's
# memory grows after the first fifth of the time.
#
#   benches/soak.sh [seconds, default 600] [viewers, default 1500: half of what one core carries]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-600}"
viewers="${2:-1500}"
program="${ONECAST:-target/release/onecast}"
if [ ! -x "$program" ]; then
    echo "error: there is no $program; cargo build --release makes it" >&2
    exit 2
fi

scratch="$(mktemp -d)"
server=""
load=""
finish() {
    for process in $load $server; do kill "$process" 2>/dev/null || true; done
    wait || true
    rm -rf "$scratch"
}
trap finish EXIT

"$program" serve --http 127.0.0.1:0 --udp 127.0.0.1:0 --shards 1 >"$scratch/out" 2>"$scratch/log" &
server=$!
address=""
for _ in $(seq 100); do
    address="$(sed -n 's/.*listening http=\([^ ]*\).*/\1/p' "$scratch/log")"
    [ -n "$address" ] && break
    sleep 0.1
done
if [ -z "$address" ]; then
    echo "error: the server does not start:" >&2
    cat "$scratch/log" >&2
    exit 2
fi

resident_kib() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$server/status"; }

ramp=200
"$program" load --whip "http://$address/whip/soak" --whep "http://$address/whep/soak" --viewers "$viewers" --ramp "$ramp/s" \
    --churn 1%/s --verified 0.5% --for "${seconds}s" --pid "$server" --max-loss 0% &
load=$!

sleep $((viewers / ramp + seconds / 5))
early="$(resident_kib)"
sleep $((seconds - seconds / 5 - 1))
late="$(resident_kib)"

status=0
wait "$load" || status=$?
load=""
echo "resident memory: $early KiB after a fifth of the time, $late KiB at the end"
if [ "$late" -gt $((early + early / 20 + 2048)) ]; then
    echo "failed: memory grew by more than 5 % and 2 MiB" >&2
    status=1
fi
exit "$status"
