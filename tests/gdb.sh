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

# A step of a halted processor waits for the interrupt that ends the halt, and takes the instruction behind it; what waits is taken when all goes on.
# 7C00: sti; hlt; inc ax; jmp 7C01h; the BIOS has the timer running
printf '\373\364\100\353\374' > "$dir/halt.img"
head -c 505 /dev/zero >> "$dir/halt.img"
printf '\125\252' >> "$dir/halt.img"
head -c 65024 /dev/zero >> "$dir/halt.img"
session -drive file="$dir/halt.img",format=raw,if=ide <<'END'
set architecture i8086
break *0x7c00
continue
delete
set $rax = 7
stepi
stepi
printf "halted at pc=%x\n", $rip
stepi
printf "woken ax=%x pc=%x\n", $rax & 0xffff, $rip
stepi
stepi
stepi
printf "again ax=%x pc=%x\n", $rax & 0xffff, $rip
break *0x7c01 if ($rax & 0xffff) == 12
continue
printf "later ax=%x pc=%x\n", $rax & 0xffff, $rip
END
expect step_into_halt 'halted at pc=7c02'
expect step_out_of_halt 'woken ax=8 pc=7c03'
expect step_out_of_halt_again 'again ax=9 pc=7c03'
expect interrupts_come_after_steps 'later ax=c pc=7c01'

# Ctrl-C: byte 03h while the guest runs stops it with SIGINT (gdb manual, E.9 Interrupts)
if command -v python3 >/dev/null 2>&1; then
    cat > "$dir/interrupt.py" <<'END'
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
s.sendall(b"$c#63")
time.sleep(0.3)
s.sendall(b"\3")
got = b""
while b"$T" not in got or b"#" not in got[got.index(b"$T"):]:
    got += s.recv(100)
print("stopped by", got[got.index(b"$T") + 2:][:2].decode())
END
    rm -f "$dir/gdb.sock"
    "$EMU" -S -gdb unix:"$dir/gdb.sock" -display none -net none -serial null -monitor none -drive file="$dir/halt.img",format=raw,if=ide > "$dir/emu.out" 2>&1 < /dev/null &
    pid=$!
    n=0
    while [ ! -S "$dir/gdb.sock" ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
    timeout 100 python3 "$dir/interrupt.py" "$dir/gdb.sock" > "$dir/gdb.out" 2>&1
    kill "$pid"
    wait "$pid" 2>/dev/null
    pid=
    expect interrupt_stops_the_guest 'stopped by 02'
else
    echo 'skip gdb_interrupt: no python3'
fi

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

# Read and access watchpoints, registers and memory written and seen by the guest, a kill that ends the emulator; over each kind of line.
# 7C00: mov ax,[7E00h]; mov [7E02h],bx; jmp to itself
printf '\241\000\176\211\036\002\176\353\376' > "$dir/watch.img"
head -c 501 /dev/zero >> "$dir/watch.img"
printf '\125\252' >> "$dir/watch.img"
head -c 65024 /dev/zero >> "$dir/watch.img"
printf 'set architecture i8086\nbreak *0x7c00\ncontinue\nset {short}0x7e00 = 0x4321\nset $rbx = 0x8765\n' > "$dir/watching"
printf 'rwatch *(short*)0x7e00\nawatch *(short*)0x7e02\ncontinue\n' >> "$dir/watching"
printf 'printf "read ax=%%x pc=%%x\\n", $rax & 0xffff, $rip\ncontinue\nprintf "written %%x pc=%%x\\n", *(unsigned short*)0x7e02, $rip\n' >> "$dir/watching"
echo kill >> "$dir/watching"
watched="-drive file=$dir/watch.img,format=raw,if=ide"
# attached NAME STUB TARGET: the same session over another kind of line
attached() {
    rm -f "$dir/pid"
    "$EMU" -S $2 -display none -net none -serial null -monitor none -pidfile "$dir/pid" $watched > "$dir/emu.out" 2>&1 < /dev/null &
    pid=$!
    n=0
    while [ ! -s "$dir/pid" ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
    timeout 60 gdb -q -nx -batch -ex 'set pagination off' -ex 'set confirm off' -ex "target remote $3" -x "$dir/watching" \
        > "$dir/gdb.out" 2>&1
    expect "$1_read_watchpoint" 'read ax=4321 pc=7c03'
    expect "$1_access_watchpoint" 'written 8765 pc=7c07'
    n=0
    while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
    if kill -0 "$pid" 2>/dev/null; then failed=$((failed + 1)); echo "FAIL $1_kill: the emulator runs on"; kill "$pid"; else passed=$((passed + 1)); fi
    wait "$pid" 2>/dev/null
    pid=
}
attached unix "-gdb unix:$dir/gdb.sock" "$dir/gdb.sock"
if command -v python3 >/dev/null 2>&1; then
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    attached tcp "-gdb tcp:127.0.0.1:$port" "localhost:$port"
else
    echo 'skip gdb_tcp: no python3 to find a free port'
fi
# -s is -gdb tcp::1234
"$EMU" -S -s -display none -net none -serial null -monitor stdio < /dev/null > "$dir/emu.out" 2>&1 &
pid=$!
printf '%s\n' 'output/x $cs' 'echo \ is cs by -s\n' > "$dir/commands"
n=0
until grep -q 'cs by -s' "$dir/gdb.out" || [ $n -gt 30 ]; do
    sleep 0.2
    timeout 60 gdb -q -nx -batch -ex 'target remote localhost:1234' -x "$dir/commands" > "$dir/gdb.out" 2>&1
    n=$((n + 1))
done
if grep -q 'in use' "$dir/emu.out"; then echo 'skip gdb_s: port 1234 is taken'; else expect s_is_port_1234 '0xf000 is cs by -s'; fi
kill "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
pid=
# stdio: gdb starts the emulator at the other end of a pipe
timeout 60 gdb -q -nx -batch -ex 'set pagination off' -ex 'set confirm off' \
    -ex "target remote | exec $EMU -S -gdb stdio -display none -net none -serial null -monitor none $watched" -x "$dir/watching" \
    > "$dir/gdb.out" 2>&1 < /dev/null
expect stdio_read_watchpoint 'read ax=4321 pc=7c03'
expect stdio_access_watchpoint 'written 8765 pc=7c07'
# the stub comes by the monitor, while the guest runs
(sleep 1; echo "gdbserver unix:$dir/late.sock"; sleep 10) | "$EMU" -display none -net none -serial null -monitor stdio > "$dir/emu.out" 2>&1 &
n=0
while [ ! -S "$dir/late.sock" ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
printf 'printf "late cs=%%x\\n", $cs\nmonitor info status\nkill\n' > "$dir/commands"
timeout 60 gdb -q -nx -batch -ex 'set confirm off' -ex "target remote $dir/late.sock" -x "$dir/commands" > "$dir/gdb.out" 2>&1
expect gdbserver_command 'late cs=f000'
expect gdbserver_pauses 'VM status: paused'
if grep -q "Waiting for gdb connection on device 'unix:$dir/late.sock'" "$dir/emu.out"; then passed=$((passed + 1))
else failed=$((failed + 1)); echo "FAIL gdbserver_answer: $(cat "$dir/emu.out")"; fi

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
