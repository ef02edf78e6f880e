#!/bin/sh
# tests/bench/run.sh - speed of the integer kernels on emu and, where it is installed, on QEMU's TCG, in one sitting.
#
# Usage      tests/bench/run.sh [-n RUNS] [-o "OPTIONS"]      (3 runs of each, alternating; options as in bare.c: quick pages=4k only=vm)
# Variables  EMU   the emulator (./emu in the repository's root), may hold arguments
#            PEER  what it is compared with (qemu-system-x86_64 -accel tcg; empty: nothing)
# Output     A table: kernel, milliseconds natively, on emu and on the peer (medians), ratio
#            peer/emu (above 1: emu is faster) and the spread of emu's runs; then the geometric mean over the nine kernels, "big" apart.
# Exit       0; 1 if a checksum differs from the native program's or a run did not end.

set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
runs=3
options=
while getopts n:o: o; do
    case $o in
    n) runs=$OPTARG ;;
    o) options=$OPTARG ;;
    *) echo "usage: tests/bench/run.sh [-n RUNS] [-o OPTIONS]" >&2; exit 1 ;;
    esac
done
: "${EMU:=$root/emu}" "${PEER=qemu-system-x86_64 -accel tcg}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
"$here/build.sh" "$work/bench" || exit 1

set -- $PEER
if [ $# -gt 0 ] && ! command -v "$1" >/dev/null 2>&1; then
    echo "bench: $1 is not installed: no ratios" >&2
    PEER=
fi

(cd "$work/bench" && ./bench-native $options) >"$work/native" || exit 1

# one NAME COMMAND...: a run of the benchmark, its lines to $work/NAME
one() {
    name=$1
    shift
    timeout 900 "$@" -m 256 -display none -serial "file:$work/$name" -monitor none -nic none -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$work/bench/bench.elf" -append "$options" </dev/null >"$work/out" 2>&1
    status=$?
    if [ $status -ne 1 ] || ! grep -q '^end' "$work/$name" 2>/dev/null; then
        echo "bench: $1 ended with status $status before its last line:" >&2
        cat "$work/out" "$work/$name" 2>/dev/null | tail -n 5 >&2
        return 1
    fi
}

i=0
while [ $i -lt "$runs" ]; do
    one "emu.$i" $EMU || exit 1
    [ -z "$PEER" ] || one "peer.$i" $PEER || exit 1
    i=$((i + 1))
done

cat "$work"/emu.* | tr -d '\r' | sed -n 's/^kernel /emu /p' >"$work/all"
[ -z "$PEER" ] || cat "$work"/peer.* | tr -d '\r' | sed -n 's/^kernel /peer /p' >>"$work/all"
sed -n 's/^kernel /native /p' "$work/native" >>"$work/all"
echo "bench: median of $runs, ms; ratio = peer / emu${options:+; options $options}"
awk '
function median(who, k,   n, i, j, t, v) {
    n = count[who, k]
    for (i = 1; i <= n; i++) v[i] = us[who, k, i]
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    low = v[1]; high = v[n]
    return n ? v[int((n + 1) / 2)] : 0
}
{
    us[$1, $2, ++count[$1, $2]] = $4
    if ($1 == "native") { order[++kernels] = $2; sum[$2] = $3 }
    got[$1, $2] = got[$1, $2] " " $3
}
END {
    printf "%-10s %9s %9s %9s %7s %8s\n", "kernel", "native", "emu", "peer", "ratio", "spread"
    for (i = 1; i <= kernels; i++) {
        k = order[i]
        p = median("peer", k)
        e = median("emu", k)
        spread = e ? (high - low) * 100 / e : 0
        if (p > 0 && e > 0) {
            r = p / e
            ratio = sprintf("%.2f", r)
            if (k != "big") { logs += log(r); n++; if (!least || r < least) { least = r; worst = k } }
        } else ratio = "-"
        printf "%-10s %9.1f %9.1f %9s %7s %6.0f %%\n", k, median("native", k) / 1000, e / 1000, p ? sprintf("%.1f", p / 1000) : "-", ratio, spread
        m = split(got["emu", k] " " got["peer", k], c, " ")
        for (j = 1; j <= m; j++) if (c[j] != sum[k]) { printf "%s: checksum %s, natively %s\n", k, c[j], sum[k]; bad = 1 }
    }
    if (n) printf "geometric mean of %d: %.2f; least: %s %.2f\n", n, exp(logs / n), worst, least
    exit bad
}' "$work/all"
