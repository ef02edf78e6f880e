#!/bin/sh
# tests/bench/check.sh - the benchmark's kernels compute on emu what they compute natively: with 2 MiB and with 4 KiB pages.
# Variables  EMU as in run.sh; SLOW stretches the time limit. Needs gcc for x86-64 with objcopy; skipped without.

set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${EMU:=$top/emu}" "${SLOW:=1}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
passed=0 failed=0

if ! "$here/build.sh" "$work/bench" >"$work/build" 2>&1 || ! "$work/bench/bench-native" quick >"$work/native" 2>/dev/null; then
    echo "skip bench_kernels_compute_as_natively: no compiler for x86-64 programs of this host ($(tail -n 1 "$work/build"))"
    echo "0 passed, 0 failed"
    exit 0
fi
sed -n 's/^\(kernel [^ ]* [^ ]*\) .*/\1/p' "$work/native" >"$work/want"
for pages in 2m 4k; do
    name=bench_kernels_compute_as_natively_pages_$pages
    timeout $((120 * SLOW)) $EMU -m 256 -display none -serial "file:$work/serial" -monitor none -nic none -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$work/bench/bench.elf" -append "quick pages=$pages" </dev/null >"$work/out" 2>&1
    status=$?
    tr -d '\r' <"$work/serial" 2>/dev/null | sed -n 's/^\(kernel [^ ]* [^ ]*\) .*/\1/p' >"$work/got"
    if [ $status = 1 ] && cmp -s "$work/want" "$work/got"; then
        echo "ok   $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name: status $status (1 is right); the first difference:"
        diff "$work/want" "$work/got" | head -n 4
        tail -n 3 "$work/out"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
