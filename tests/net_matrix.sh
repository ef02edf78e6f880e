#!/bin/sh
# net_matrix.sh - the NAT's TCP against the kernel's own, on a tap in a network namespace: loss x reordering x duplication x direction, parallel
# flows, resets, half-closes, zero windows, leaks. Needs root and ip netns. LONG=1: 64 MiB each and all of the matrix; else 4 MiB and a part of it.
# SPEED=1: rates next to slirp4netns and pasta where they and iperf3 are installed (ROUNDS, SECONDS_EACH, MTUS); SPEED=only leaves the rest out.
# Such rates want the peers' own optimisation: LIBEMU a library made with DEV_CFLAGS=-O2.
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}"
: "${ASAN_OPTIONS:=quarantine_size_mb=1}" # freed memory that a sanitizer keeps is no leak
export ASAN_OPTIONS
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
$CC -std=c99 -O2 -Isrc tests/net_bridge.c "${LIBEMU:=build/dev/libemu.a}" $LDFLAGS -o "$out/bridge" > "$out/build" 2>&1 && $CC -std=gnu99 -O2 tests/net_xfer.c -o "$out/xfer" >> "$out/build" 2>&1 || {
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
# At 20 % loss three lost ARP exchanges in a row would end a connect() with "no route"; what is judged here is TCP.
in_ns ip neigh replace 10.0.2.2 lladdr 52:55:0a:00:02:02 dev tap0 nud permanent
port=$((10000 + $$ % 2500 * 4)) # below the kernel's own choice (32768), apart from those of the guests' lane
"$out/xfer" server $port &
server=$!

start() { # bridge arguments
    "$out/bridge" netns=/var/run/netns/$ns tap=tap0 "$@" > "$out/log" 2>&1 &
    bridge=$!
    n=0
    until grep -q '^ready' "$out/log" || [ $n -gt 600 ]; do sleep 0.05; n=$((n + 1)); done
}
stop() {
    kill -TERM "$bridge"
    wait "$bridge" 2> /dev/null
    bridge=
    tail -n 2 "$out/log" | head -n 1 > "$out/end"
    case $(cat "$out/end") in *"check ok cable ok"*) ;; *) bad "invariants: $(cat "$out/end")" ;; esac
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
if [ "$SPEED" != only ]; then
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
# an idle guest's connections cost nothing: the bridge's CPU time while they are held
start user,id=n0
for count in 100 $flows; do
    ip netns exec "$ns" "$out/xfer" hold 10.0.2.2 $port 120 $count > "$out/hold" &
    holder=$!
    n=0
    until [ -s "$out/hold" ] || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done
    # The best of up to 10 times 2 s: the connections' cost is in each of them, the host's other work is not.
    n=0 best=100
    until [ $n -ge 10 ]; do
        used=$(awk '{ print $1 }' /proc/"$bridge"/schedstat)
        sleep 2
        best=$(awk -v a="$used" -v best=$best '{ u = ($1 - a) / 2e7; printf "%.3f", u < best ? u : best }' /proc/"$bridge"/schedstat)
        case $best in [012].*) break ;; esac
        n=$((n + 1))
    done
    kill -0 $holder 2> /dev/null && [ -s "$out/hold" ] || best="not judged, the connections were not held:"
    kill $holder 2> /dev/null
    wait $holder 2> /dev/null
    case $best in [012].*) ok "idle_${count}_connections: $best % of a core" ;; *) bad "idle_${count}_connections: $best % of a core" ;; esac
done
stop
start loss=5 reorder=5 dup=5 seed=9 user,id=n0
try "impaired_resets_half_closes" mix 100000 40
try "impaired_resets" reset 300000 20
stop
# leaks: descriptors, flows and memory after many short connections
start user,id=n0
open1=$(ls /proc/"$bridge"/fd | wc -l)
try "short_connections_warm" short 1000 50
rss1=$(awk '/VmRSS/ { print $2 }' /proc/"$bridge"/status)
try "short_connections_$shorts" short 1000 $shorts
n=0 last=
while [ $n -lt 60 ]; do # TIME_WAIT
    sleep 1
    kill -USR1 "$bridge"
    last=$(tail -n 1 "$out/log")
    case $last in "flows 0 "*) break ;; esac
    n=$((n + 1))
done
rss2=$(awk '/VmRSS/ { print $2 }' /proc/"$bridge"/status)
open2=$(ls /proc/"$bridge"/fd | wc -l)
case "$last" in "flows 0 "*) [ "$open2" -le "$open1" ] && ok "no_descriptor_left: $open1 -> $open2" || bad "no_descriptor_left: $open1 -> $open2: $last" ;; *) bad "no_flow_left: $last" ;; esac
if [ "$rss2" -lt $((rss1 + 8192)) ]; then ok "no_memory_left: $rss1 -> $rss2 KiB"; else bad "no_memory_left: $rss1 -> $rss2 KiB"; fi
stop
fi

# Rates next to slirp4netns (libslirp inside) and, where it is installed, passt: alternating rounds, then medians and ratios. Both ways of ours:
# with the tap's offloads (as a guest's NIC has them), and without, as slirp4netns's own tap is.
if [ -n "$SPEED" ] && command -v iperf3 > /dev/null; then
    rate() { # MTU, who, way, iperf3 arguments
        key="$1 $2 $3"
        shift 3
        iperf3 -s -B 127.0.0.1 -p 5399 > /dev/null 2>&1 &
        iperf=$!
        sleep 0.3
        r=$(timeout 60 ip netns exec "$ns" iperf3 "$@" -c 10.0.2.2 -p 5399 -t "${SECONDS_EACH:-5}" -O 1 -f m 2>&1 | awk '/receiver/ { print $7 }')
        kill $iperf 2> /dev/null
        wait $iperf 2> /dev/null
        echo "speed mtu $key: ${r:-failed} Mbit/s"
        [ -z "$r" ] || echo "$key $r" >> "$out/rates"
    }
    peer() { # MTU, who, command
        mtu=$1 who=$2
        shift 2
        in_ns ip link set tap0 down
        "$@" > "$out/peer" 2>&1 &
        slirp=$!
        sleep 1.5
        rate "$mtu" "$who" up
        rate "$mtu" "$who" down -R
        kill $slirp
        wait $slirp 2> /dev/null
        in_ns ip link set tap0 up
        in_ns ip route replace default via 10.0.2.2 dev tap0
    }
    : > "$out/rates"
    command -v slirp4netns > /dev/null || echo "skip net_matrix speed of slirp4netns: not installed"
    for mtu in ${MTUS:-1500 65520}; do
        round=0
        while [ $round -lt "${ROUNDS:-3}" ]; do
            round=$((round + 1))
            for gso in on off; do
                in_ns ip link set tap0 mtu $mtu
                start gso=$gso user,id=n0,mtu=$mtu
                rate $mtu ours-offload-$gso up
                rate $mtu ours-offload-$gso down -R
                stop
            done
            command -v slirp4netns > /dev/null && peer $mtu slirp4netns slirp4netns --netns-type=path --configure --mtu=$mtu /var/run/netns/"$ns" tap1
            command -v pasta > /dev/null && peer $mtu pasta pasta -f --runas 0 --netns-only --config-net -4 -I tap2 -a 10.0.2.15 -n 24 -g 10.0.2.2 -m $mtu --netns /var/run/netns/"$ns"
        done
    done
    awk '
    function median(k,   i, j, t, v, n) {
        n = count[k]
        for (i = 1; i <= n; i++) v[i] = rate[k, i]
        for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        low = v[1]; high = v[n]
        return n ? v[int((n + 1) / 2)] : 0
    }
    { k = $1 " " $2 " " $3; if (!(k in count)) order[++keys] = k; rate[k, ++count[k]] = $4 }
    END {
        for (i = 1; i <= keys; i++) {
            k = order[i]
            split(k, w, " ")
            m = median(k)
            printf "speed mtu %s %s %s: median %.0f Mbit/s (%.0f to %.0f)", w[1], w[3] == "up" ? "guest to host" : "host to guest", w[2], m, low, high
            p = median(w[1] " slirp4netns " w[3])
            if (p && w[2] ~ /^ours/) printf ", %.2f times slirp4netns", m / p
            p = median(w[1] " pasta " w[3])
            if (p && w[2] ~ /^ours/) printf ", %.2f times pasta", m / p
            printf "\n"
        }
    }' "$out/rates"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
