#!/bin/sh
# port.sh [VARIANT...] - the test programs under other compilers, widths, byte orders and build settings.
#
#   asan     gcc, ASan + UBSan, no recovery          torture  -DEMU_TORTURE: every limit tiny
#   clang    clang                                   m32      gcc -m32
#   s390x    big-endian, under qemu-user             plain    -DEMU_PLAIN: the fallbacks of base.h
#   mixed    -m32, EMU_PLAIN and EMU_TORTURE at once (what `make check` runs, with asan, over the quick programs)
#   ubsan32  -m32 with UBSan                         musl     static, musl-gcc
#   none     -DEMU_HOST_NONE, builds and starts      mingw    Windows, compiled and linked only
#   tcc      a small compiler, EMU_PLAIN                valgrind memcheck over the quick programs
#
# Each builds the parts and all of tests/*.c with its settings in $PORT_DIR/VARIANT (default build/port), runs them, and boots a Linux kernel
# where images/guests.sh made one (LONG=1 only). PORT_TESTS="name ..." chooses programs; PORT_BOOT=0 leaves the boots out.
# A test is named VARIANT_PROGRAM.
cd "$(dirname "$0")/.." || exit 1
: "${PORT_DIR:=build/port}" "${JOBS:=2}" "${EMU_IMAGES:=/var/tmp/emu-images}" "${PORT_BOOT:=${LONG:-0}}"
case $PORT_DIR in /*) ;; *) PORT_DIR=$PWD/$PORT_DIR ;; esac
mkdir -p build/tests # some programs put their files there
passed=0 failed=0
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }
limited() { # SECONDS COMMAND...
    if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi
}

# Programs that answer within seconds even when built for debugging.
quick="machine host_posix chardev disk_block dev_e1000 net_filters net_backends cpu_x87 cpu_system cpu_engine"

# can CC FLAGS...: this compiler makes programs with these flags
can() {
    printf '#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n#include <errno.h>\nint main(void) { return puts("x") < 0; }\n' >"$dir/try.c"
    "$@" "$dir/try.c" -o "$dir/try" >"$dir/try.log" 2>&1
}

# build: libemu.a and emu of $variant with $cc $flags; with $whole also emu.c as users compile it
build() {
    rm -f "$dir/build.log"
    # other settings, other objects
    [ "$(cat "$dir/flags" 2>/dev/null)" = "$cc $flags" ] || { rm -rf "$dir/obj"; echo "$cc $flags" >"$dir/flags"; }
    make -s -j"$JOBS" CC="$cc" DEVDIR="$dir/obj" DEV_CFLAGS="$flags" LDFLAGS="$libs" "$dir/obj/libemu.a" "$dir/obj/emu" >>"$dir/build.log" 2>&1 || {
        bad "${variant}_builds" "$(grep -m 3 -E 'error|undefined' "$dir/build.log")"
        return 1
    }
    # the C library's word on getaddrinfo() in static programs is no finding
    grep 'warning:' "$dir/build.log" | grep -v 'statically linked' >"$dir/warnings" && bad "${variant}_builds_without_warning" "$(head -n 3 "$dir/warnings")"
    ok "${variant}_builds"
    if [ -n "$whole" ] && [ "${LONG:-0}" = 1 ]; then
        if $cc -std=c99 $flags emu.c $libs -o "$dir/emu_whole$suffix" >"$dir/whole.log" 2>&1; then ok "${variant}_builds_emu.c"
        else bad "${variant}_builds_emu.c" "$(grep -m 3 -E 'error|undefined' "$dir/whole.log")"; fi
    fi
}

# programs NAME...: builds and runs them; $run is what starts a program of this kind
programs() {
    for name; do
        t=tests/$name.c
        [ -f "$t" ] || continue
        case " ${PORT_TESTS:-$name} " in *" $name "*) ;; *) continue ;; esac
        case " $unable " in *" $name "*) echo "skip ${variant}_$name: $why"; continue ;; esac
        $cc -std=c99 -Wall -Wextra $flags -Isrc "$t" "$dir/obj/libemu.a" $libs -o "$dir/$name$suffix" >"$dir/$name.build" 2>&1 ||
            { bad "${variant}_$name" "does not build: $(grep -m 3 -E 'error|undefined' "$dir/$name.build")"; continue; }
        [ "$run" = none ] && { ok "${variant}_$name builds"; continue; }
        leaks=1 # the bare machines of this one are never taken down
        [ "$name" = cpu_engine ] && leaks=0
        check=$run
        [ "$leaks" = 1 ] || check=$(echo "$run" | sed 's/ --leak-check=full --errors-for-leak-kinds=definite//')
        start=$(date +%s)
        # the programs' short forms: the long ones are for the plain build
        (unset LONG; EMU=$emu ASAN_OPTIONS=detect_leaks=$leaks limited "${PORT_LIMIT:-3600}" $check "$dir/$name$suffix") >"$dir/$name.log" 2>&1 </dev/null
        status=$?
        took=$(($(date +%s) - start))
        grep '^skip ' "$dir/$name.log" | sed "s/^skip /skip ${variant}_/"
        sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$dir/$name.log" | tail -n 1)
        if [ "$status" = 0 ] && [ -n "$sum" ]; then ok "${variant}_$name ($sum, $took s)"
        elif [ "$status" = 0 ] && grep -q '^skip ' "$dir/$name.log"; then :
        else
            bad "${variant}_$name" "status $status, ${sum:-no result}, $took s"
            grep -E 'FAIL|failed:|wanted|runtime error|ERROR: Addr|SUMMARY|Assert|assert|^    #[0-6] ' "$dir/$name.log" | head -n 12
        fi
    done
}

# boot SLOWNESS: Linux from images/guests.sh to its shell and to its end (tests/guests/loaders.sh)
boot() {
    [ "$PORT_BOOT" = 1 ] || return
    EMU=$emu OUT=$dir/boot SLOW=$1 ONLY="${PORT_BOOTS:-kernel_amd64_reaches_shell}" LONG=0 CC=cc sh tests/guests/loaders.sh >"$dir/boot.log" 2>&1 </dev/null
    sed -n "s/^ok   /ok   ${variant}_/p; s/^skip /skip ${variant}_/p; s/^FAIL /FAIL ${variant}_/p" "$dir/boot.log"
    passed=$((passed + $(grep -c '^ok ' "$dir/boot.log"))) failed=$((failed + $(grep -c '^FAIL ' "$dir/boot.log")))
    grep -rhE 'runtime error|ERROR: Addr|Assertion' "$dir/boot" | head -n 5
}

all=
for t in tests/*.c; do
    grep -q 'TEST_MAIN\|TEST_PROGRAM' "$t" && all="$all $(basename "$t" .c)"
done
if [ "${LONG:-0}" = 1 ]; then
    : "${chosen:=${*:-asan ubsan32 torture clang m32 plain s390x musl none tcc mingw valgrind}}"
    which=$all
else
    chosen=${*:-asan mixed}
    which=$quick
    [ $# -eq 0 ] || which=$all
fi

san="-fno-sanitize-recover=all -fno-omit-frame-pointer"
for variant in $chosen; do
    cc=gcc flags="-O1 -g" libs='' run='' unable='' why='' suffix='' slow=4 whole='' tests=$which
    dir=$PORT_DIR/$variant
    mkdir -p "$dir"
    emu=$dir/obj/emu
    case $variant in
    gcc) ;;
    asan) flags="$flags -fsanitize=address,undefined $san" slow=20 ;;
    torture) flags="$flags -DEMU_TORTURE" slow=20 ;;
    clang) cc=clang ;;
    m32) flags="$flags -m32" ;;
    ubsan32) flags="$flags -m32 -fsanitize=undefined $san" slow=20 ;;
    valgrind) run="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite" tests="$quick disk_qcow2 disk_crash net_script" ;;
    plain) flags="$flags -DEMU_PLAIN" ;;
    mixed) flags="$flags -m32 -DEMU_PLAIN -DEMU_TORTURE" slow=20 ;;
    musl) cc=musl-gcc flags="$flags -static" whole=1 ;;
    tcc) cc=tcc flags="-g -DEMU_PLAIN" slow=20 whole=1 ;;
    none) flags="$flags -DEMU_HOST_NONE" whole=1 tests="machine cpu_system cpu_engine cpu_x87 cpu_diff dev_chipset dev_io dev_e1000 api_example fw_bios net_filters" ;;
    mingw) cc=x86_64-w64-mingw32-gcc flags="-O1" libs="-lws2_32" run=none suffix=.exe whole=1 tests= ;;
    s390x)
        cc=s390x-linux-gnu-gcc flags="$flags -static" slow=60
        for run in qemu-s390x-static qemu-s390x none; do command -v $run >/dev/null 2>&1 && break; done
        unable="net_tap chardev_stdio" why="qemu-user has neither /dev/net/tun nor terminals of its own"
        ;;
    *) bad "$variant" "no such variant"; continue ;;
    esac
    # shellcheck disable=SC2086
    can $cc $flags $libs || { echo "skip $variant: $cc $flags makes no programs here: $(head -n 1 "$dir/try.log")"; continue; }
    if [ "$run" = none ] && [ "$variant" = s390x ]; then echo "skip s390x: no qemu-s390x"; continue; fi
    if [ -n "$run" ] && [ "$run" != none ]; then # a program of our own that starts the emulator under qemu-user
        printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$run" "$dir/obj/emu" >"$dir/emu.sh"
        chmod +x "$dir/emu.sh"
        emu=$dir/emu.sh
    fi
    build || continue
    # shellcheck disable=SC2086
    programs $tests
    case $variant in mingw | none | valgrind) ;; *) boot $slow ;; esac
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
