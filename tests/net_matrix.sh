#!/bin/sh
# net_matrix.sh - the NAT's TCP against the kernel's own, on a tap in a network namespace: loss x reordering x duplication x direction, parallel
# flows, resets, half-closes, zero windows, leaks. Needs root and ip netns. LONG=1: 64 MiB each and all of the matrix; else 4 MiB and a part of it.
# SPEED=1: Gbit/s next to slirp4netns where it and iperf3 are installed.
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}"
passed=0 failed=0
out=$(mktemp -d)
ns=emu-net-$$
server= bridge=
if [ "$(id -u)" != 0 ] || ! command -v ip > /dev/null || [ ! -c /dev/net/tun ] || ! ip netns add "$ns" 2> /dev/null; then
    rm -rf "$out"
    echo "skip net_matrix: needs root, ip netns and /dev/net/tun"
    exit 0
fi
end() {
    [ -z "$bridge" ] || kill "$bridge" 2> /dev/null
    [ -z "$server" ] || kill "$server" 2> /dev/null
    ip netns del "$ns" 2> /dev/null
    rm -rf "$out"
}
trap end EXIT
trap 'exit 1' INT TERM
$CC -std=c99 -O2 -Isrc tests/net_bridge.c build/dev/libemu.a -o "$out/bridge" > "$out/build" 2>&1 && $CC -std=gnu99 -O2 tests/net_xfer.c -o "$out/xfer" >> "$out/build" 2>&1 || {
    cat "$out/build"
    echo "FAIL net_matrix: does not build"
    echo "0 passed, 1 failed"
    exit 1
}
in_ns() { ip netns exec "$ns" "$@"; }
in_ns ip link set lo up
in_ns ip tuntap add dev tap0 mode tap vnet_hdr
in_ns ip addr add 10.0.2.15/24 dev tap0
in_ns ip link set tap0 up
in_ns ip route add default via 10.0.2.2
port=$((20000 + $$ % 20000))
"$out/xfer" server $port &
server=$!

start() { # bridge arguments
    "$out/bridge" netns=/var/run/netns/$ns tap=tap0 "$@" > "$out/log" 2>&1 &
    bridge=$!
    n=0
    until grep -q '^ready' "$out/log" || [ $n -gt 50 ]; do sleep 0.05; n=$((n + 1)); done
}
stop() {
    kill -TERM "$bridge"
    wait "$bridge" 2> /dev/null
    bridge=
    tail -n 2 "$out/log" | head -n 1 > "$out/end"
    case $(cat "$out/end") in *"check ok"*) ;; *) bad "invariants: $(cat "$out/end")" ;; esac
}
ok() { passed=$((passed + 1)); echo "ok   $*"; }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
try() { # name, then xfer arguments
    name=$1
    mode=$2
    shift 2
    if r=$(timeout 600 ip netns exec "$ns" "$out/xfer" "$mode" 10.0.2.2 $port "$@" 2>&1); then ok "$name: $r"; else bad "$name: $r"; fi
}

if [ -n "$LONG" ]; then
    size=67108864 losses="0 1 5 20" orders="0 5" dups="0 5" flows=500 shorts=10000
else
    size=4194304 losses="0 5 20" orders="0 5" dups="5" flows=100 shorts=300
fi
for loss in $losses; do for order in $orders; do for dup in $dups; do
    start loss=$loss reorder=$order dup=$dup seed=$((loss * 100 + order * 10 + dup + 1)) user,id=n0
    try "loss_${loss}_reorder_${order}_dup_${dup}_up" up $size
    try "loss_${loss}_reorder_${order}_dup_${dup}_down" down $size
    stop
done; done; done
start gso=off user,id=n0
try "single_segments_up" up $size
try "single_segments_down" down $size
stop
start user,id=n0
try "parallel_${flows}_flows" mix 200000 $flows
try "resets_at_random" reset 3000000 20
try "zero_windows_at_random" zero 8000000 8
try "half_close" half $size
stop
start loss=5 reorder=5 dup=5 seed=9 user,id=n0
try "impaired_resets_half_closes" mix 100000 40
try "impaired_resets" reset 300000 20
stop
# leaks: descriptors, flows and memory after many short connections
start user,id=n0
open1=$(ls /proc/"$bridge"/fd | wc -l)
try "short_connections_warm" short 1000 50
kill -USR1 "$bridge"; sleep 0.2
rss1=$(awk '/VmRSS/ { print $2 }' /proc/"$bridge"/status)
try "short_connections_$shorts" short 1000 $shorts
sleep 7 # TIME_WAIT
kill -USR1 "$bridge"; sleep 0.2
rss2=$(awk '/VmRSS/ { print $2 }' /proc/"$bridge"/status)
last=$(tail -n 1 "$out/log")
open2=$(ls /proc/"$bridge"/fd | wc -l)
case "$last" in "flows 0 "*) [ "$open2" -le "$open1" ] && ok "no_descriptor_left: $open1 -> $open2" || bad "no_descriptor_left: $open1 -> $open2: $last" ;; *) bad "no_flow_left: $last" ;; esac
if [ "$rss2" -lt $((rss1 + 8192)) ]; then ok "no_memory_left: $rss1 -> $rss2 KiB"; else bad "no_memory_left: $rss1 -> $rss2 KiB"; fi
stop

if [ -n "$SPEED" ] && command -v iperf3 > /dev/null; then
    rate() { # name, iperf3 arguments
        what=$1; shift
        iperf3 -s -D -1 -p 5399 > /dev/null
        sleep 0.3
        echo "speed $what: $(timeout 60 ip netns exec "$ns" iperf3 "$@" -c 10.0.2.2 -p 5399 -t "${SECONDS_EACH:-5}" -f g 2>&1 | awk '/receiver/ { print $7 }') Gbit/s"
    }
    for mtu in 1500 65520; do
        for round in 1 2; do
            in_ns ip link set tap0 mtu $mtu
            start user,id=n0,mtu=$mtu
            rate "mtu $mtu guest to host, ours"
            rate "mtu $mtu host to guest, ours" -R
            stop
            if command -v slirp4netns > /dev/null; then
                in_ns ip link set tap0 down
                slirp4netns --netns-type=path --configure --mtu=$mtu /var/run/netns/"$ns" tap1 > /dev/null 2>&1 &
                slirp=$!
                sleep 1
                rate "mtu $mtu guest to host, slirp4netns"
                rate "mtu $mtu host to guest, slirp4netns" -R
                kill $slirp
                wait $slirp 2> /dev/null
                in_ns ip link set tap0 up
                in_ns ip route replace default via 10.0.2.2 dev tap0
            else
                echo "skip net_matrix speed of slirp4netns: not installed"
            fi
        done
    done
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
