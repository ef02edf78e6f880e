#!/bin/sh
# gdb.sh - a real gdb at the stub: 16-, 32- and 64-bit code, breakpoints, watchpoints, single steps, registers, memory.
: "${EMU:=./emu}"
command -v gdb >/dev/null 2>&1 || { echo 'skip gdb: gdb is not installed'; exit 0; }
top=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d) || exit 1
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
passed=0 failed=0

# expect NAME PATTERN: a line of gdb's output matches
expect() {
    if grep -Eq -- "$2" "$dir/gdb.out"; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $1: no line like /$2/ in:"; tail -n 12 "$dir/gdb.out"; fi
}
# session ARGS...: emulator with the stub on a unix socket, gdb commands from standard input
session() {
    rm -f "$dir/gdb.sock"
    cat > "$dir/commands"
    "$EMU" -S -gdb unix:"$dir/gdb.sock" -nographic -net none -serial null -monitor none "$@" > "$dir/emu.out" 2>&1 < /dev/null &
    pid=$!
    n=0
    while [ ! -S "$dir/gdb.sock" ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
    timeout 180 gdb -q -nx -batch -ex 'set pagination off' -ex 'set confirm off' -ex "target remote $dir/gdb.sock" -x "$dir/commands" > "$dir/gdb.out" 2>&1
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    pid=
}

# 16-bit: a boot sector. 7C00: mov ax,1234h; mov bx,ax; inc word [7E00h]; jmp to itself
printf '\270\064\022\211\303\377\006\000\176\353\376' > "$dir/boot.img"
head -c 499 /dev/zero >> "$dir/boot.img"
printf '\125\252' >> "$dir/boot.img"
head -c 65024 /dev/zero >> "$dir/boot.img"
session -drive file="$dir/boot.img",format=raw,if=ide <<'END'
set architecture i8086
printf "reset cs=%x ip=%x\n", $cs, $rip
break *0x7c00
continue
printf "at boot sector pc=%x\n", $rip
stepi
printf "after step ax=%x pc=%x\n", $rax & 0xffff, $rip
set $rbx = 0x55
printf "written rbx=%x\n", $rbx
x/2bx 0x7dfe
set {short}0x7e00 = 41
watch *(short*)0x7e00
continue
printf "word is %d\n", *(short*)0x7e00
END
expect reset_vector 'reset cs=f000 ip=fff0'
expect breakpoint_16 'at boot sector pc=7c00'
expect single_step_16 'after step ax=1234 pc=7c03'
expect register_write 'written rbx=55'
expect memory_read '0x55[[:space:]]+0xaa'
expect watchpoint 'Hardware watchpoint|Old value = 41'
expect watched_write 'word is 42'

# what a stub can't write is said; and the stub's end, asked for over the stub itself, ends nothing else
session <<'END'
set $cr3 = 0x1000
END
expect refused_register_write_is_said 'Could not write register'
session <<'END'
monitor gdbserver none
disconnect
END
expect stub_ends_itself 'Disabled gdbserver'

if command -v gcc >/dev/null 2>&1 && sh "$top/tests/bench/build.sh" "$dir/bench" > "$dir/build.out" 2>&1; then
    session -kernel "$dir/bench/bench.elf" -append quick -device isa-debug-exit,iobase=0xf4,iosize=4 <<END
file $dir/bench/bench64.elf
hbreak _start
continue
printf "32-bit start pc=%lx eax=%x\n", \$rip, \$eax
stepi
stepi
printf "stepped\n"
delete
break bench_main
continue
printf "64-bit pc=%lx efer=%lx\n", \$rip, \$efer
backtrace 1
info registers cr0
monitor info status
detach
END
    expect breakpoint_32 '32-bit start pc=100010 eax=2badb002'
    expect single_step_32 'stepped'
    expect breakpoint_64 '64-bit pc=[0-9a-f]+ efer=[0-9a-f]*5[0-9a-f][0-9a-f]'
    expect system_register 'cr0 +0x[89a-f][0-9a-f]{7} '
    expect monitor_command 'VM status: paused'
else
    echo 'skip gdb_32_and_64_bit: the benchmark kernel could not be built (gcc for x86-64 is needed)'
fi
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
