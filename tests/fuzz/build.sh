#!/bin/sh
# build.sh [OUT] - the fuzz targets of this folder with clang's libFuzzer, ASan and UBSan, into OUT (default build/fuzz). Then, for example:
#   build/fuzz/net_ether -max_total_time=600 build/fuzz/corpus
cd "$(dirname "$0")/../.." || exit 1
out=${1:-build/fuzz}
command -v clang > /dev/null || { echo "skip fuzz: needs clang"; exit 0; }
mkdir -p "$out/o"
flags="-std=c99 -g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
make -s build/dev/libemu.a || exit 1
objects=
for f in src/net/*.c src/machine/util.c src/machine/clock.c; do # instrumented; the rest as it is
    o=$out/o/$(basename "$f" .c).o
    [ "$o" -nt "$f" ] || clang $flags -c "$f" -o "$o" || exit 1
    objects="$objects $o"
done
for t in tests/fuzz/*.c; do
    name=$(basename "$t" .c)
    clang -std=c99 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Isrc "$t" $objects ${FUZZ_EXTRA:-} build/dev/libemu.a -lm -o "$out/$name" || exit 1
done
