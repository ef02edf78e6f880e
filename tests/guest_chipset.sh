#!/bin/sh
# tests/guest_chipset.sh - the chipset seen from inside: tests/guests/chipset.c run by -kernel. With LONG=1 the same program also runs
# under QEMU, where it is installed, so that the expectations have a second witness.
cd "$(dirname "$0")/.." || exit 1
: "${EMU:=./emu}" "${CC:=cc}" "${SLOW:=1}"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
$CC -m32 -march=i686 -std=gnu99 -O1 -ffreestanding -fno-pic -fno-pie -no-pie -fno-stack-protector -fno-asynchronous-unwind-tables \
    -mgeneral-regs-only -nostdlib -static -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-Ttext=0x200000 \
    -Wl,--section-start=.multiboot=0x1FF000 tests/guests/chipset.c -o "$work/chipset.elf" 2>"$work/errors" || {
    echo "skip guest_chipset: $CC does not make freestanding 32-bit x86 programs"
    exit 0
}
witness="the emulator"
# Instruction time: how busy the host is must not count.
machine="-m 64 -kernel $work/chipset.elf -icount shift=4 -display none -monitor none -serial stdio -device isa-debug-exit -no-reboot"
if [ "${LONG:-0}" = 1 ] && command -v qemu-system-x86_64 >/dev/null 2>&1; then
    timeout $((120 * SLOW)) qemu-system-x86_64 -M pc $machine </dev/null >"$work/qemu.log" 2>&1
    [ $? = 1 ] && witness="the emulator and QEMU" || { echo "note: QEMU does not agree here:"; grep -v '^ok' "$work/qemu.log"; }
fi
timeout $((120 * SLOW)) $EMU $machine </dev/null >"$work/log" 2>&1
status=$?
tr -d '\r' <"$work/log" | grep -E '^(ok|FAIL) '
[ $status = 1 ] && echo "ok   exit status 1: all passed in $witness" || echo "FAIL exit status is $status, wanted 1 (isa-debug-exit 0)"
passed=$(tr -d '\r' <"$work/log" | grep -c '^ok ')
failed=$(tr -d '\r' <"$work/log" | sed -n 's/^[0-9]* passed, \([0-9]*\) failed$/\1/p')
if [ -z "$failed" ]; then
    tail -n 5 "$work/log"
    failed=1
fi
[ $status = 1 ] && passed=$((passed + 1)) || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
