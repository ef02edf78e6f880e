#!/bin/sh
# run.sh [PATTERN] - runs the tests of this folder. Needs a shell and a C compiler; what needs more says "skip NAME: why".
#
# tests/*.c    programs: linked with the parts (build/dev/libemu.a), or, where they include "../emu.h" only, with emu.c itself
# tests/*.sh   scripts: $EMU is the emulator
# Each prints "N passed, N failed" last. With JOBS above 1 (default 2) the guest_*.sh run beside the others. LONG=1 runs the long ones too (make check-long).
# DEADLINE (seconds since 1970) ends it all in time: what has not run by then has failed, and the last line comes out.
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}"
: "${EMU:=$PWD/emu}"
: "${JOBS:=2}"
: "${TEST_CFLAGS:=-O1 -g}"
limit=${LONG:+14400} # seconds for one test
: "${limit:=1200}"
export CC EMU LONG JOBS
pattern=$1
out=build/tests
mkdir -p "$out"
passed=0 failed=0 skipped=0

note() { printf '%s\n' "$*"; }
fail() { note "FAIL $*"; failed=$((failed + 1)); }

# emu.c is what src/ gives
sh src/tools/amalgamate.sh > "$out/emu.c.fresh"
if cmp -s "$out/emu.c.fresh" emu.c; then passed=$((passed + 1)); else fail "emu.c is not what src/ gives: run make emu.c"; fi
# every part is in the list
for f in $(cd src && find . -name '*.[ch]' | sed 's|^\./||' | sort); do
    grep -qx "$f" src/parts.txt || fail "src/$f is not in src/parts.txt"
done

make -s -j"$JOBS" build/dev/libemu.a CC="$CC" || { fail "the parts do not build"; }

run_one() { # name command...
    name=$1
    shift
    start=$(date +%s)
    seconds=$limit
    if [ -n "$DEADLINE" ] && [ $((DEADLINE - start)) -lt "$seconds" ]; then
        seconds=$((DEADLINE - start))
        [ "$seconds" -gt 0 ] || { fail "$name: not run, the time is over"; return; }
    fi
    if command -v timeout >/dev/null 2>&1; then
        timeout "$seconds" "$@" > "$out/$name.log" 2>&1
    else
        "$@" > "$out/$name.log" 2>&1
    fi
    status=$?
    sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$out/$name.log" | tail -n 1)
    grep '^skip ' "$out/$name.log"
    s=$(grep -c '^skip ' "$out/$name.log")
    skipped=$((skipped + s))
    if [ -z "$sum" ]; then
        if [ "$status" -eq 0 ] && [ "$s" -gt 0 ]; then return; fi
        tail -n 20 "$out/$name.log"
        fail "$name: ended with status $status and no result"
        return
    fi
    p=${sum%% *}
    f=$(printf '%s' "$sum" | sed 's/^[0-9]* passed, \([0-9]*\) failed.*/\1/')
    passed=$((passed + p))
    failed=$((failed + f))
    note "$name: $sum ($(($(date +%s) - start)) s)"
    if [ "$f" -gt 0 ] || [ "$status" -ne 0 ]; then
        grep -E 'FAIL|failed:|wanted' "$out/$name.log" | head -n 20
        [ "$f" -gt 0 ] || fail "$name: ended with status $status"
    fi
}

run_programs() {
    for t in tests/*.c; do
        name=$(basename "$t" .c)
        case $name in *"$pattern"*) ;; *) continue ;; esac
        grep -q 'TEST_MAIN\|TEST_PROGRAM' "$t" || continue
        if ! grep -q '"../emu.h"' "$t"; then
            $CC -std=c99 -Wall -Wextra $TEST_CFLAGS -Isrc "$t" build/dev/libemu.a -o "$out/$name" > "$out/$name.build" 2>&1
        else
            [ -f "$out/emu_lib.o" ] && [ "$out/emu_lib.o" -nt emu.c ] || $CC -std=c99 -O1 -DEMU_NO_MAIN -c emu.c -o "$out/emu_lib.o" || fail "emu.c does not build with -DEMU_NO_MAIN"
            $CC -std=c99 -Wall -Wextra $TEST_CFLAGS "$t" "$out/emu_lib.o" -o "$out/$name" > "$out/$name.build" 2>&1
        fi || { cat "$out/$name.build"; fail "$name: does not build"; continue; }
        run_one "$name" "$out/$name"
    done
}
run_scripts() { # guest: those that boot whole guests; other: the rest
    for t in tests/*.sh; do
        name=$(basename "$t" .sh)
        [ "$name" = run ] && continue
        case $name in *"$pattern"*) ;; *) continue ;; esac
        case $name in guest_*) kind=guest ;; *) kind=other ;; esac
        [ "$kind" = "$1" ] && run_one "$name" sh "$t"
    done
}
# A lane counts for itself; the sums meet in files.
lane() {
    passed=0 failed=0 skipped=0
    for part in "$@"; do
        case $part in programs) run_programs ;; *) run_scripts "$part" ;; esac
    done
    echo "$passed $failed $skipped" > "$out/$1.sum"
}
rm -f "$out"/*.sum
if [ "$JOBS" -gt 1 ]; then
    (lane guest) &
    (lane programs other)
    wait
else
    (lane programs other guest)
fi
for lane in guest programs; do
    [ "$lane" = programs ] || [ "$JOBS" -gt 1 ] || continue
    read -r p f s < "$out/$lane.sum" || { fail "the $lane lane did not end"; continue; }
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ "$skipped" -eq 0 ] || note "$skipped skipped (named above)"
note "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
