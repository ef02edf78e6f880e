#!/bin/sh
# debuglog.sh - what -d writes, and -D where: a boot sector whose instructions, loop, registers, interrupts and bad MSR are known.
# Its lines are those of QEMU's documentation: IN: with an address and an instruction, Trace N: with where it begins, v=VECTOR, CPU Reset.
: "${EMU:=./emu}"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }
hex() { for b in "$@"; do printf "\\$(printf %o "0x$b")"; done; }

boot_sector() {
    hex B8 34 12 B9 05 00                # 7C00: mov ax,1234h; mov cx,5
    hex 40 E2 FD                         # 7C06: inc ax; loop 7C06h
    hex 31 DB 8E DB C7 06 34 00 20 7C    # 7C09: xor bx,bx; mov ds,bx; mov word [34h],7C20h
    hex 89 1E 36 00                      # 7C13: mov [36h],bx: interrupt vector 13 leads to 0:7C20h
    hex 66 B9 FF 0F 00 00 0F 32 F4       # 7C17: mov ecx,0FFFh; rdmsr: there is no such MSR, #GP
    hex E4 9F B0 10 E6 F4 EB FE          # 7C20: in al,9Fh: nobody there; mov al,10h; out 0F4h,al: isa-debug-exit, status 33
    head -c 470 /dev/zero
    hex 55 AA
}
boot_sector > "$dir/boot"
[ "$(wc -c < "$dir/boot")" = 512 ] || { echo "FAIL boot sector"; exit 1; }

# logs ITEMS: the run's log is in $dir/log
logs() {
    rm -f "$dir/log"
    timeout 60 "$EMU" -m 16M -net none -display none -monitor none -serial null -device isa-debug-exit,iobase=0xf4 -drive "file=$dir/boot,format=raw,snapshot=on" \
        -d "$1" -D "$dir/log" > "$dir/out" 2>&1 < /dev/null
    [ $? = 33 ] || bad "$1: the guest did not get to its end: $(head -n 3 "$dir/out")"
    [ -s "$dir/out" ] && bad "$1: not everything went to the file of -D: $(head -n 3 "$dir/out")"
}
# holds NAME PATTERN: a line of the log matches
holds() { if grep -Eq -- "$2" "$dir/log"; then ok "$1"; else bad "$1" "/$2/ is not in the log: $(head -n 3 "$dir/log")"; fi; }
# counts NAME N PATTERN: so many lines match
counts() { n=$(grep -Ec -- "$3" "$dir/log"); if [ "$n" = "$2" ]; then ok "$1"; else bad "$1" "$n lines match /$3/, not $2"; fi; }

logs in_asm
holds in_asm_says_where_code_begins '^IN:'
counts in_asm_shows_an_instruction_once 1 '^0x0*7c00:  b8 34 12 +mov +ax, ?0x1234$'
holds in_asm_shows_prefixes '^0x0*7c17:  66 b9 ff 0f 00 00 +mov +ecx, ?0xfff$'
holds in_asm_shows_privileged_instructions '^0x0*7c1d:  0f 32 +rdmsr$'

logs exec
holds exec_shows_the_first_trace '^Trace 0: .*/0*7c00/'
counts exec_shows_each_turn_of_a_loop 4 '^Trace 0: .*/0*7c06/' # the first is part of the trace from 7C00h
counts exec_alone_shows_no_registers 0 '[RE]AX='

logs cpu
for ax in 1235 1236 1237 1238; do holds "cpu_shows_registers_before_a_trace_$ax" "AX=0*$ax "; done
counts cpu_alone_shows_no_traces 0 '^Trace'

logs int
holds int_shows_the_fault 'v=0d e=0000 i=0 cpl=0 IP=0000:0*7c1d pc=0*7c1d'

logs guest_errors
holds guest_errors_name_the_msr 'RDMSR 0xfff '

logs unimp
holds unimp_names_the_port 'port 0x9f: read'

logs cpu_reset
holds cpu_reset_shows_the_reset '^CPU Reset \(CPU 0\)'
holds cpu_reset_shows_registers 'IP=0*fff0 '

logs in_asm,exec,nochain
holds several_items_at_once_in_asm '^IN:'
holds several_items_at_once_exec '^Trace 0:'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
