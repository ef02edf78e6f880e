#!/bin/sh
# build.sh [OUT] - the fuzz targets of this folder into OUT (default build/fuzz), with the address and undefined-behaviour sanitizers.
#
# With clang and its libFuzzer (Debian: clang, libclang-rt-14-dev), coverage guides them. Without, driver.c mutates blindly; CC is used then,
# with the sanitizers if it has them. Either way, for example:
#   build/fuzz/net_ether -max_total_time=600 build/fuzz/corpus
# FUZZ_ENGINE=driver takes driver.c although libFuzzer is there. DEVDIR: where the parts that are not looked into are built.
cd "$(dirname "$0")/../.." || exit 1
out=${1:-build/fuzz}
: "${CC:=cc}" "${DEVDIR:=build/dev}" "${FUZZ_ENGINE:=libfuzzer}"
mkdir -p "$out/o" || exit 1
base="-std=c99 -g -O1"
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n); int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }' > "$out/o/probe.c"
if [ "$FUZZ_ENGINE" = libfuzzer ] && clang -fsanitize=fuzzer,address,undefined "$out/o/probe.c" -o "$out/o/probe" 2> /dev/null; then
    CC=clang
    compile="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" link="-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all" driver=
else
    compile= link= driver=$out/o/driver.o
    echo 'int main(void) { return 0; }' > "$out/o/probe.c"
    if $CC -fsanitize=address,undefined -fno-sanitize-recover=all "$out/o/probe.c" -o "$out/o/probe" 2> /dev/null && "$out/o/probe"; then
        compile="-fsanitize=address,undefined -fno-sanitize-recover=all"
        link=$compile
    fi
    $CC -std=gnu99 -g -O1 -c tests/fuzz/driver.c -o "$driver" || exit 1
fi
[ "$(cat "$out/o/flags" 2> /dev/null)" = "$CC $compile" ] || rm -f "$out"/o/*.c.o
echo "$CC $compile" > "$out/o/flags"
make -s DEVDIR="$DEVDIR" "$DEVDIR/libemu.a" || exit 1
objects=
for f in src/net/*.c src/dev/*.c src/disk/*.c src/fw/*.c src/machine/util.c src/machine/clock.c; do # looked into; the rest as it is
    o=$out/o/$(basename "$f").o
    if [ ! -e "$o" ] || [ -n "$(find "$f" src -name '*.h' -newer "$o")" ] || [ "$f" -nt "$o" ]; then $CC $base $compile -c "$f" -o "$o" || exit 1; fi
    objects="$objects $o"
done
for t in tests/fuzz/*.c; do
    name=$(basename "$t" .c)
    [ "$name" = driver ] && continue
    $CC -std=gnu99 -g -O1 $link -Isrc "$t" $driver $objects ${FUZZ_EXTRA:-} "$DEVDIR/libemu.a" -lm -o "$out/$name" || exit 1
done
