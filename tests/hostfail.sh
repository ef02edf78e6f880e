#!/bin/sh
# hostfail.sh - what the host takes away while a machine runs: room on the disk, a monitor's or terminal's other side. The guest sees errors or stops as
# werror= says, emu lives, images stay sound.
: "${EMU:=./emu}"
dir=$(mktemp -d) || exit 1
pid=
cleanup() {
    exec 3>&-
    [ -z "$pid" ] || kill "$pid" 2>/dev/null
    wait
    umount "$dir/small" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAIL %s\n' "$*"; tail -n 5 "$dir/err" 2>/dev/null; }
# until_ok SECONDS COMMAND...
until_ok() {
    n=$(($1 * 10))
    shift
    until "$@" 2>/dev/null; do
        n=$((n - 1))
        [ $n -gt 0 ] || return 1
        sleep 0.1
    done
}
has() { grep -q -- "$1" "$2"; }
sees() { until_ok 60 has "$2" "$3" && ok || bad "$1: /$2/ is not in: $(tail -c 300 "$3")"; }
hex() { for b in "$@"; do printf "\\$(printf %o "0x$b")"; done; }

# A boot sector that writes 63 sectors at the start of each of the cylinders 1 to 29 by INT 13h AH=03h, and w or e for each to the serial port.
boot_sector() {
    hex 31 C0 8E D8 8E C0 BD 01 00                                      # xor ax,ax; mov ds,ax; mov es,ax; mov bp,1
    hex B8 3F 03 BB 00 80 89 E9 88 CD B1 01 B6 00 B2 80 CD 13           # next: mov ax,033Fh; mov bx,8000h; CH = BP, CL = 1, DH = 0, DL = 80h; int 13h
    hex B0 77 73 02 B0 65 BA F8 03 EE 45 83 FD 1E 72 DE                 # al = CF ? 'e' : 'w'; mov dx,3F8h; out dx,al; inc bp; cmp bp,30; jb next
    hex B0 0A EE F4 EB FD                                               # newline; sleep: hlt; jmp sleep
    head -c 461 /dev/zero
    hex 55 AA
}
boot_sector > "$dir/boot"
[ "$(wc -c < "$dir/boot")" = 512 ] || { echo 'FAIL boot sector'; exit 1; }

# One that does so through the drive's registers (ATA-6 §8.62 WRITE SECTORS, §9.6), 256 sectors at a time: block 1 to 29 of 128 KiB, without interrupts.
pio_sector() {
    hex 31 C0 8E D8 8E C0 BD 01 00 FA                                   # ...; mov bp,1; cli
    hex BA F2 01 30 C0 EE 42 EE 42 89 E8 EE 42 30 C0 EE 42 B0 E0 EE 42 B0 30 EE # next: 1F2h = 0 (256), 1F3h = 0, 1F4h = BP, 1F5h = 0, 1F6h = E0h, 1F7h = 30h
    hex EC A8 80 75 FB A8 01 75 18 A8 08 74 10                          # sector: in al,dx; BSY: again; ERR: to err; no DRQ: to ok
    hex BA F0 01 B9 00 01 BE 00 80 F3 6F BA F7 01 EB E3                 # mov dx,1F0h; mov cx,256; mov si,8000h; rep outsw; mov dx,1F7h; jmp sector
    hex B0 77 EB 02 B0 65 BA F8 03 EE 45 83 FD 1E 72 BB                 # ok: 'w'; err: 'e'; out 3F8h; inc bp; cmp bp,30; jb next
    hex B0 0A EE F4 EB FD                                               # newline; sleep: hlt; jmp sleep
    head -c 425 /dev/zero
    hex 55 AA
}
pio_sector > "$dir/pio"
[ "$(wc -c < "$dir/pio")" = 512 ] || { echo "FAIL pio sector: $(wc -c < "$dir/pio") bytes"; exit 1; }

# start ARGS...: machine with serial output in $dir/serial, monitor commands by `tell`, its answers in $dir/mon
start() {
    rm -f "$dir/fifo" "$dir/serial" "$dir/mon" "$dir/err"
    mkfifo "$dir/fifo"
    : > "$dir/serial"
    "$EMU" -m 16M -net none -display none -monitor stdio -serial file:"$dir/serial" "$@" < "$dir/fifo" > "$dir/mon" 2> "$dir/err" &
    pid=$!
    exec 3> "$dir/fifo"
}
tell() { echo "$*" >&3; }
finish() { # NAME: quit, status 0
    tell quit
    wait "$pid"
    status=$?
    pid=
    exec 3>&-
    [ "$status" = 0 ] && ok || bad "$1: ended with status $status"
}

mkdir "$dir/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=512k tmpfs "$dir/small" 2>/dev/null; then
    sparse() { rm -f "$dir/small/"*; cp "$dir/$1" "$dir/small/disk"; dd if=/dev/zero of="$dir/small/disk" bs=1 count=1 seek=16777215 2>/dev/null; }
    drive=file=$dir/small/disk,format=raw,if=ide

    sparse boot
    start -drive "$drive,werror=report"
    sees report_guest_sees_errors '^ww*ee*$' "$dir/serial"
    sees report_is_said_once "the host's disk is full" "$dir/err"
    [ "$(grep -c 'is full' "$dir/err")" = 1 ] && ok || bad 'report: the notice is not one line'
    tell info status
    sees report_runs_on 'VM status: running' "$dir/mon"
    finish report
    cmp -s -n 512 "$dir/boot" "$dir/small/disk" && ok || bad 'report: the boot sector changed'

    for policy in stop enospc default; do
        sparse pio
        head -c 200000 /dev/zero > "$dir/small/filler"
        option=,werror=$policy
        [ $policy != default ] || option=
        start -drive "$drive$option"
        until_ok 60 has 'no space left on the host' "$dir/err"
        sleep 0.3
        tell info status
        sees "${policy}_pauses" 'VM status: paused' "$dir/mon"
        has e "$dir/serial" && bad "$policy: the guest saw an error"
        rm "$dir/small/filler"
        mount -o remount,size=8m "$dir/small"
        tell cont
        sees "${policy}_goes_on" '^w\{29\}$' "$dir/serial"
        finish "$policy"
        rm -f "$dir/small/"*
        mount -o remount,size=512k "$dir/small"
    done

    # Nobody could type cont: no monitor, or one whose input is at its end. The guest sees the error, whatever else it does is not held up.
    for headless in '-display none -monitor none -serial stdio' -nographic; do
        sparse pio
        head -c 200000 /dev/zero > "$dir/small/filler"
        rm -f "$dir/serial" "$dir/err" # not the last machine's, before this one has opened them
        "$EMU" -m 16M -net none $headless -drive "$drive" < /dev/null > "$dir/serial" 2> "$dir/err" &
        pid=$!
        sees "headless_guest_sees_errors: $headless" '^ww*ee*.\{0,1\}$' "$dir/serial"
        [ "$(grep -c 'is full; the guest sees write errors' "$dir/err")" = 1 ] && ok || bad "headless: $headless: not one notice"
        kill "$pid"
        wait "$pid"
        pid=
    done

    if command -v qemu-img >/dev/null 2>&1; then
        for policy in report stop; do
            rm -f "$dir/small/"*
            cp "$dir/pio" "$dir/raw"
            dd if=/dev/zero of="$dir/raw" bs=1 count=1 seek=16777215 2>/dev/null
            qemu-img convert -f raw -O qcow2 "$dir/raw" "$dir/small/disk.qcow2"
            start -drive "file=$dir/small/disk.qcow2,format=qcow2,if=ide,werror=$policy"
            if [ $policy = report ]; then sees qcow2_report '^ww*ee*$' "$dir/serial"; else sees qcow2_stop 'no space left on the host' "$dir/err"; fi
            finish "qcow2_$policy"
            cp "$dir/small/disk.qcow2" "$dir/after.qcow2"
            qemu-img check -q "$dir/after.qcow2" > "$dir/check" 2>&1
            case $? in 0|3) ok ;; *) bad "qcow2_$policy: $(head -n 3 "$dir/check")" ;; esac # 3: leaked clusters, no damage
        done
    else
        echo 'skip full_disk_qcow2: qemu-img is not installed'
    fi

    # log and serial files that can't grow
    rm -f "$dir/small/"*
    head -c 600000 /dev/zero > "$dir/small/filler" 2>/dev/null
    start -serial file:"$dir/small/serial" -d int -D "$dir/small/log"
    sleep 1 # for the logs to be written to
    tell info status
    sees full_disk_under_logs 'VM status: running' "$dir/mon"
    finish full_disk_under_logs
    umount "$dir/small"
else
    echo 'skip full_disk: needs root to mount a small file system'
fi

# a file size limit, its signal ignored, is a write error like others
cp "$dir/boot" "$dir/disk"
dd if=/dev/zero of="$dir/disk" bs=1 count=1 seek=262143 2>/dev/null
rm -f "$dir/serial" "$dir/err"
(trap '' XFSZ; ulimit -f 600; exec "$EMU" -m 16M -net none -display none -monitor none -serial stdio -drive "file=$dir/disk,format=raw,if=ide,snapshot=on" < /dev/null > "$dir/serial" 2> "$dir/err") &
pid=$!
sees size_limit '^[we][we]*$' "$dir/serial"
kill "$pid"
wait "$pid"
pid=
cmp -s -n 512 "$dir/boot" "$dir/disk" && ok || bad 'size_limit: the image changed under snapshot=on'

# ---- the other side goes away ----
start
tell info status
until_ok 60 has running "$dir/mon"
exec 3>&- # the monitor's standard input is at its end
sleep 0.5
kill -0 "$pid" 2>/dev/null && ok || bad 'monitor_stdin_ends: emu ended'
kill -TERM "$pid"
wait "$pid"
[ $? = 0 ] && ok || bad 'monitor_stdin_ends: SIGTERM did not end it with status 0'
pid=

# standard output's reader is gone: no SIGPIPE, the machine runs on
{ timeout -s TERM 4 "$EMU" -m 16M -net none -nographic < /dev/null 2> "$dir/err"; echo $? > "$dir/status"; } | head -c 5 > /dev/null
[ "$(cat "$dir/status")" = 124 ] && ok || bad "closed_pipe: status $(cat "$dir/status")"

if command -v socat >/dev/null 2>&1; then
    "$EMU" -S -m 16M -net none -display none -serial null -monitor unix:"$dir/sock",server=on,wait=off < /dev/null > /dev/null 2> "$dir/err" &
    pid=$!
    until_ok 60 test -S "$dir/sock"
    for i in 1 2 3; do
        echo 'info status' | socat -t 30 - UNIX-CONNECT:"$dir/sock" > "$dir/mon" 2>&1
        has 'VM status: paused' "$dir/mon" && ok || bad "monitor_socket_visit_$i: $(cat "$dir/mon")"
    done
    i=0
    while [ $i -lt 20 ]; do echo 'info registers' | socat -u - UNIX-CONNECT:"$dir/sock" 2>/dev/null; i=$((i + 1)); done # leaves at once, answers unread
    printf 'info status\nquit\n' | socat -t 30 - UNIX-CONNECT:"$dir/sock" > "$dir/mon" 2>&1
    wait "$pid"
    [ $? = 0 ] && has 'VM status: paused' "$dir/mon" && ok || bad 'monitor_socket: rude visitors'
    pid=
else
    echo 'skip monitor_socket: socat is not installed'
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
