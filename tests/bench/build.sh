#!/bin/sh
# tests/bench/build.sh - builds bench.elf (multiboot, for -kernel) and bench-native into a directory.
#
# Usage      tests/bench/build.sh DIR       (BENCH_CC: a compiler for x86-64 with ELF output, default gcc)
# Theory     The kernels are compiled once, with the same flags, for both. Multiboot loaders want a 32-bit ELF, so the linked
#            64-bit file is rewrapped; its addresses lie below 4 GiB.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# = 1 ] || { echo "usage: tests/bench/build.sh DIR" >&2; exit 1; }
mkdir -p "$1"
cd "$1"
: "${BENCH_CC:=gcc}" "${OBJCOPY:=objcopy}"
for tool in $BENCH_CC $OBJCOPY awk; do
    command -v "$tool" >/dev/null 2>&1 || { echo "tests/bench/build.sh: $tool is missing" >&2; exit 1; }
done
awk -f "$here/mkbig.awk" >big.c
flags="-std=gnu99 -O2 -ffreestanding -fno-pic -fno-pie -mno-sse -mno-mmx -mno-red-zone -mgeneral-regs-only -fno-stack-protector
       -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -fcf-protection=none -Wall -Wextra -I$here"
$BENCH_CC -m64 $flags -c "$here/kernels.c" -o kernels.o
$BENCH_CC -m64 $flags -O1 -c big.c -o big.o
$BENCH_CC -m64 $flags -c "$here/bare.c" -o bare.o
$BENCH_CC -m64 -c "$here/start.S" -o start.o
$BENCH_CC -m64 -no-pie -nostdlib -static -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,-T,"$here/bench.ld" start.o bare.o kernels.o big.o -o bench64.elf
$OBJCOPY -O elf32-i386 bench64.elf bench.elf
$BENCH_CC -m64 -std=c99 -O2 -no-pie -I"$here" "$here/native.c" kernels.o big.o -o bench-native
