#!/bin/sh
# tests/bench/iperf.sh - iperf3 in a Debian guest against the host's loopback, through e1000 and the user network, on emu and on QEMU's TCG
# in one sitting: both guests run, and take turns.
#
# Usage      tests/bench/iperf.sh [-n ROUNDS] [-t SECONDS] [-m MTU] DISK     (3 rounds of 10 s each way; MTU 1500)
# Variables  EMU, PEER as in run.sh; LIMIT seconds a boot may take (300); PASSWORD of root (root); KEEP a directory for the logs
# Output     Each rate in Mbit/s as the receiver saw it, the medians, ratio emu/peer. -m is set in the guest and given to emu (mtu=); a peer
#            that knows 1500 only is left out then.
# Exit       0; 1 if a guest did not get to its end. The ratio is reported, not judged.
# Needs      iperf3 on the host and in the guest (images/debian.sh puts it there).

set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
rounds=3 seconds=10 mtu=1500
while getopts n:t:m: o; do
    case $o in
    n) rounds=$OPTARG ;;
    t) seconds=$OPTARG ;;
    m) mtu=$OPTARG ;;
    *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 1 ] && [ -r "$1" ] || { echo "usage: tests/bench/iperf.sh [-n ROUNDS] [-t SECONDS] [-m MTU] DISK (images/debian.sh makes one)" >&2; exit 1; }
disk=$1
: "${EMU:=$root/emu}" "${PEER=qemu-system-x86_64 -accel tcg}" "${LIMIT:=300}" "${CC:=cc}" "${PASSWORD:=root}"
command -v iperf3 >/dev/null 2>&1 || { echo "iperf: iperf3 is not installed" >&2; exit 1; }
format=raw
case $disk in *.qcow2) format=qcow2 ;; esac
[ "$mtu" = 1500 ] || PEER=
set -- $PEER
if [ $# -gt 0 ] && ! command -v "$1" >/dev/null 2>&1; then
    echo "iperf: $1 is not installed: no ratio" >&2
    PEER=
fi

work=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null; done; wait; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
logs=${KEEP:-$work}
$CC -O1 -o "$work/expect" "$root/tests/guests/expect.c" || exit 1
base=$((20000 + $$ % 20000))

# A guest that waits for its turns: one NAME PORT COMMAND...
guest() {
    name=$1 port=$2
    shift 2
    iperf3 -s -p "$port" -B 127.0.0.1 >"$logs/$name.server" 2>&1 &
    pids="$pids $!"
    {
        printf 'limit %s\nwait login: \nline root\nwait assword: \nline %s\nwait :~# \n' "$LIMIT" "$PASSWORD"
        printf 'run i=$(ip -o route get 10.0.2.2 | sed "s/.* dev \\\\([^ ]*\\\\).*/\\\\1/"); ip link set $i mtu %s; ip link show $i; test -n "$i"\n' "$mtu"
        printf 'host touch %s/%s.ready\n' "$work" "$name"
        echo 'limit 3600' # the other guest may still be booting
        i=1
        while [ "$i" -le "$rounds" ]; do
            for way in up down; do
                printf 'host n=0; until [ -e %s/%s.%s.%s.go ]; do sleep 0.1; n=$((n+1)); [ $n -lt 6000 ]; done\n' "$work" "$name" "$i" "$way"
                reverse=
                [ $way = up ] || reverse=-R
                # -O 1: slow start and the host's own first second are left out
                printf 'run iperf3 -c 10.0.2.2 -p %s -t %s -O 1 -f m %s | grep receiver | sed "s/^/%s %s /"\n' "$port" "$seconds" "$reverse" "RATE" "$way"
                printf 'host touch %s/%s.%s.%s.done\n' "$work" "$name" "$i" "$way"
            done
            i=$((i + 1))
        done
        echo kill
    } >"$work/$name.script"
    # a guest's clock that is slow must not end the run: LIMIT is per step
    "$work/expect" -t 100000 -l "$logs/$name.log" "$work/$name.script" "$@" -m 1G -smp 1 -nographic -snapshot \
        -drive "file=$disk,format=$format,index=0,media=disk" >"$work/$name.out" 2>&1 &
    eval "expect_$name=$!"
    pids="$pids $!"
}

wait_for() { # file, pid
    until [ -e "$1" ]; do
        kill -0 "$2" 2>/dev/null || { echo "iperf: a guest ended early:" >&2; tail -n 20 "$work"/*.out >&2; exit 1; }
        sleep 0.1
    done
}

who=emu
option=
[ "$mtu" = 1500 ] || option=,mtu=$mtu
guest emu $base $EMU -net user,hostfwd=tcp:127.0.0.1:$((base + 2))-:22$option
wait_for "$work/emu.ready" "$expect_emu"
if [ -n "$PEER" ]; then
    who="emu peer"
    guest peer $((base + 1)) $PEER -net nic,model=e1000 -net user,hostfwd=tcp:127.0.0.1:$((base + 3))-:22
    wait_for "$work/peer.ready" "$expect_peer"
fi
sleep 5 # what a guest still starts after its login prompt

i=1
while [ "$i" -le "$rounds" ]; do
    for way in up down; do
        for name in $who; do
            touch "$work/$name.$i.$way.go"
            eval "wait_for \"\$work/\$name.\$i.\$way.done\" \$expect_$name"
            rate=$(tr -d '\r' <"$logs/$name.log" | awk -v w="$way" '$0 ~ "RATE " w " .*receiver" { for (i = 3; i <= NF; i++) if ($i ~ /^Mbits/) v = $(i - 1) } END { print v }')
            echo "$name $way ${rate:-0}" | tee -a "$work/rates"
        done
    done
    i=$((i + 1))
done
awk -v mtu="$mtu" '
function median(w,   i, j, t, n, v) {
    n = count[w]
    for (i = 1; i <= n; i++) v[i] = rate[w, i]
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return n ? v[int((n + 1) / 2)] : 0
}
{ w = $1 " " $2; rate[w, ++count[w]] = $3 }
END {
    for (k = 1; k <= 2; k++) {
        way = k == 1 ? "up" : "down"
        e = median("emu " way); p = median("peer " way)
        printf "mtu %d %s: emu %.0f Mbit/s", mtu, k == 1 ? "guest to host" : "host to guest", e
        if (p) printf ", peer %.0f Mbit/s, ratio emu/peer %.2f", p, e / p
        printf "\n"
    }
}' "$work/rates"
