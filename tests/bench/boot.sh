#!/bin/sh
# tests/bench/boot.sh - time from the emulator's start to the guest's login prompt, on emu and on QEMU's TCG in one sitting.
#
# Usage      tests/bench/boot.sh [-n PAIRS] DISK      (5 alternating pairs; a disk whose boot menu does not wait)
# Variables  EMU, PEER as in run.sh; LIMIT seconds a boot may take (300); KEEP a directory for the serial logs
# Output     Each time in ms, the medians, ratio peer/emu (1 or more: emu is not slower).
# Exit       0; 1 if a boot did not reach the prompt. The ratio is reported, not judged.

set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
pairs=5
while getopts n: o; do
    case $o in
    n) pairs=$OPTARG ;;
    *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 1 ] && [ -r "$1" ] || { echo "usage: tests/bench/boot.sh [-n PAIRS] DISK (images/debian.sh makes one)" >&2; exit 1; }
disk=$1
: "${EMU:=$root/emu}" "${PEER=qemu-system-x86_64 -accel tcg}" "${LIMIT:=300}" "${CC:=cc}"
format=raw
case $disk in *.qcow2) format=qcow2 ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
logs=${KEEP:-$work}
$CC -O1 -o "$work/expect" "$root/tests/guests/expect.c" || exit 1
printf 'limit %s\nwait login: \ntime login\nkill\n' "$LIMIT" >"$work/script"
set -- $PEER
if [ $# -gt 0 ] && ! command -v "$1" >/dev/null 2>&1; then
    echo "boot: $1 is not installed: no ratio" >&2
    PEER=
fi

# one NAME COMMAND...
one() {
    name=$1
    shift
    "$work/expect" -t "$LIMIT" -l "$logs/$name.log" "$work/script" "$@" -m 1G -smp 1 -nic none -nographic -snapshot \
        -drive "file=$disk,format=$format,index=0,media=disk" >"$work/$name" || return 1
    sed -n 's/^login \([0-9]*\) ms/\1/p' "$work/$name"
}

i=1
while [ "$i" -le "$pairs" ]; do
    t=$(one "emu.$i" $EMU) || exit 1
    echo "emu $t" | tee -a "$work/times"
    if [ -n "$PEER" ]; then
        t=$(one "peer.$i" $PEER) || exit 1
        echo "peer $t" | tee -a "$work/times"
    fi
    i=$((i + 1))
done
awk '
function median(w,   i, j, t, n) {
    n = count[w]
    for (i = 1; i <= n; i++) v[i] = ms[w, i]
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return n ? v[int((n + 1) / 2)] : 0
}
{ ms[$1, ++count[$1]] = $2 }
END {
    e = median("emu"); p = median("peer")
    if (p) printf "boot to login: emu %.1f s, peer %.1f s, ratio peer/emu %.2f\n", e / 1000, p / 1000, p / e
    else printf "boot to login: emu %.1f s\n", e / 1000
}' "$work/times"
