#!/bin/sh
# net_soak.sh - an hour (LONG=1; else 20 s) of mixed traffic through the NAT, the kernel's TCP on a namespace tap as the guest: transfers both ways,
# short connections, half-closes, resets, refusals, UDP with fragments, DNS over both, pings, and forwarded connections from the host. Memory,
# descriptors and flows must not grow. Needs root and ip netns.
# SECONDS_TOTAL the time; PER_SECOND steps a second of each of the two clients (50; with LONG 20).
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}" "${SECONDS_TOTAL:=${LONG:+3600}}" "${PER_SECOND:=${LONG:+20}}" "${LIBEMU:=build/dev/libemu.a}"
: "${SECONDS_TOTAL:=20}" "${PER_SECOND:=50}"
: "${ASAN_OPTIONS:=quarantine_size_mb=1}" # freed memory that a sanitizer keeps is no growth
export ASAN_OPTIONS
passed=0 failed=0
out=$(mktemp -d)
ns=emu-soak-$$
pids=
if [ "$(id -u)" != 0 ] || ! command -v ip > /dev/null || [ ! -c /dev/net/tun ] || ! ip netns add "$ns" 2> /dev/null; then
    rm -rf "$out"
    echo "skip net_soak: needs root, ip netns and /dev/net/tun"
    exit 0
fi
end() {
    for p in $pids; do kill "$p" 2> /dev/null; done
    ip netns del "$ns" 2> /dev/null
    rm -rf "$out"
}
trap end EXIT
trap 'exit 1' INT TERM
ok() { passed=$((passed + 1)); echo "ok   $*"; }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
$CC -std=c99 -O2 -Isrc tests/net_bridge.c "$LIBEMU" $LDFLAGS -o "$out/bridge" > "$out/build" 2>&1 && $CC -std=gnu99 -O2 tests/net_xfer.c -o "$out/xfer" >> "$out/build" 2>&1 || {
    cat "$out/build"
    echo "FAIL net_soak: does not build"
    echo "0 passed, 1 failed"
    exit 1
}
in_ns() { ip netns exec "$ns" "$@"; }
in_ns ip link set lo up
in_ns ip tuntap add dev tap0 mode tap vnet_hdr
in_ns ip addr add 10.0.2.15/24 dev tap0
in_ns ip link set tap0 up
in_ns ip route add default via 10.0.2.2
port=$((10000 + $$ % 2500 * 4)) # and the next three; below the kernel's own choice (32768), apart from those of the guests' lane
ulimit -n 8192 2> /dev/null
"$out/xfer" server $port & pids="$pids $!"
ip netns exec "$ns" "$out/xfer" server 7000 10.0.2.15 & pids="$pids $!"
"$out/bridge" netns=/var/run/netns/"$ns" tap=tap0 dns=$((port + 1)) "user,id=n0,hostfwd=tcp:127.0.0.1:$((port + 3))-10.0.2.15:7000" > "$out/log" 2>&1 &
bridge=$!
pids="$pids $bridge"
n=0
until grep -q '^ready' "$out/log" || [ $n -gt 600 ]; do sleep 0.05; n=$((n + 1)); done

# "KiB descriptors-not-of-UDP TCP-flows"
look() {
    look_lines=$(wc -l < "$out/log") look_n=0
    kill -USR1 "$bridge"
    until [ "$(wc -l < "$out/log")" -gt "$look_lines" ] || [ $look_n -gt 200 ]; do sleep 0.05; look_n=$((look_n + 1)); done
    echo "$(awk '/VmRSS/ { print $2 }' /proc/"$bridge"/status) $(ls /proc/"$bridge"/fd | wc -l) $(tail -n 1 "$out/log")" | awk '{ print $1, $2 - $6, $4 }'
}
first=$(look)
ip netns exec "$ns" "$out/xfer" soak 10.0.2.2 $port "$SECONDS_TOTAL" "$PER_SECOND" > "$out/guest" 2>&1 &
guest=$!
"$out/xfer" soak 127.0.0.1 $((port + 3)) "$SECONDS_TOTAL" "$PER_SECOND" tcp > "$out/host" 2>&1 &
host=$!
pids="$pids $guest $host"
: > "$out/samples"
step=$((SECONDS_TOTAL / 20))
[ $step -gt 0 ] || step=1
while kill -0 $guest 2> /dev/null && kill -0 $host 2> /dev/null; do
    sleep $step
    look >> "$out/samples"
    [ -z "$LONG" ] || tail -n 1 "$out/samples"
done
wait $guest && ok "from_the_guest: $(cat "$out/guest")" || bad "from_the_guest: $(cat "$out/guest")"
wait $host && ok "from_the_host: $(cat "$out/host")" || bad "from_the_host: $(cat "$out/host")"
n=0
until last=$(look) && [ "${last##* }" = 0 ] || [ $n -ge 60 ]; do # TIME_WAIT
    sleep 1
    n=$((n + 1))
done
# medians of the second and of the last quarter: the first is where buffers and tables find their size
awk -v limit=$((2048)) '
function median(from, to,   i, j, t, v, n) {
    for (i = from; i <= to; i++) v[++n] = rss[i]
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return v[int((n + 1) / 2)]
}
{ rss[NR] = $1 }
END {
    a = median(int(NR / 4) + 1, int(NR / 2)); b = median(int(3 * NR / 4) + 1, NR)
    printf "%d KiB, later %d KiB\n", a, b
    exit b > a + limit
}' "$out/samples" > "$out/rss" && ok "memory_does_not_grow: $(cat "$out/rss")" || bad "memory_does_not_grow: $(cat "$out/rss")"
set -- $first $last
[ "$5" -le "$2" ] && ok "no_descriptor_left: $2 -> $5 without those of UDP" || bad "no_descriptor_left: $2 -> $5 without those of UDP"
[ "$6" = 0 ] && ok "no_flow_left" || bad "no_flow_left: $6"
if [ -n "$LONG" ]; then
    sleep 310 # UDP's idle time
    set -- $(awk '{ l = $0 } END { print l }' "$out/log") && kill -USR1 "$bridge" && sleep 0.3
    case $(tail -n 1 "$out/log") in "flows 0 udp 0 "*) ok no_udp_mapping_left ;; *) bad "no_udp_mapping_left: $(tail -n 1 "$out/log")" ;; esac
fi
kill -TERM $bridge
wait $bridge
case $(tail -n 2 "$out/log" | head -n 1) in *"check ok cable ok"*) ok invariants_hold ;; *) bad "invariants_hold: $(tail -n 2 "$out/log")" ;; esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
