#!/bin/sh
# cli.sh - bad and odd command lines: one clear line, exit status 1 (or what the line asked for); never a crash.
: "${EMU:=./emu}"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAIL %s\n' "$*"; }

# refuse NAME TEXT ARGS...: exit status 1, one line on stderr that holds TEXT
refuse() {
    name=$1 text=$2
    shift 2
    timeout 20 "$EMU" "$@" > "$dir/out" 2> "$dir/err" < /dev/null
    status=$?
    lines=$(wc -l < "$dir/err")
    if [ "$status" -ne 1 ]; then bad "$name: exit status $status, wanted 1: $(head -c 300 "$dir/err")"
    elif [ "$lines" -ne 1 ]; then bad "$name: $lines lines on stderr, wanted 1: $(head -c 300 "$dir/err")"
    elif ! grep -qF -- "$text" "$dir/err"; then bad "$name: says \"$(cat "$dir/err")\", wanted \"$text\""
    else ok; fi
}
# prints NAME TEXT ARGS...: exit status 0 and TEXT on stdout
prints() {
    name=$1 text=$2
    shift 2
    timeout 20 "$EMU" "$@" > "$dir/out" 2> "$dir/err" < /dev/null
    status=$?
    if [ "$status" -ne 0 ]; then bad "$name: exit status $status, wanted 0"
    elif ! grep -qF -- "$text" "$dir/out"; then bad "$name: \"$text\" not on stdout"
    else ok; fi
}

prints help 'usage: emu [options] [disk image]' -help
prints help_long_dash 'usage: emu' --help
prints version 'emu version' -version
prints accel_help tcg -accel help
prints machine_help pc -machine help
prints cpu_help max -cpu help
prints device_help isa-debug-exit -device help
prints device_options iobase -device isa-debug-exit,help
prints display_help curses -display help
prints log_help guest_errors -d help

refuse unknown_option '-frobnicate: unknown option' -frobnicate
refuse missing_argument '-m: needs an argument' -m
refuse memory_zero '-m 0' -m 0
refuse memory_huge '-m 99T' -m 99T
refuse memory_word '-m lots' -m lots
refuse memory_negative '-m -1' -m -1
refuse cpus_zero '-smp' -smp 0
refuse cpus_many '-smp' -smp 1000
refuse cpu_unknown 'nosuchcpu' -cpu nosuchcpu
refuse cpu_feature 'nosuchflag' -cpu max,+nosuchflag
refuse machine_unknown '-machine spaceship' -machine spaceship
refuse machine_later 'not supported yet' -machine q35
refuse accel_unknown 'unknown accelerator' -accel warp
refuse rtc_date '-rtc base=tomorrow' -rtc base=tomorrow
refuse icount_shift '-icount shift=99' -icount shift=99
refuse boot_letters '-boot xyz' -boot xyz
refuse display_later '-display gtk: not supported yet' -display gtk
refuse vga_unknown '-vga nice' -vga nice
refuse log_unknown '-d nosuch' -d nosuch
refuse later_option '-usb: not supported yet' -usb
refuse later_option_argument '-vnc :1: not supported yet' -vnc :1
refuse uuid '-uuid 123' -uuid 123
refuse device_unknown 'nosuchdevice' -device nosuchdevice
refuse device_option 'nosuch' -device isa-debug-exit,nosuch=1
refuse serial_five 'four serial ports' -serial null -serial null -serial null -serial null -serial null
refuse serial_unknown 'nosuch' -serial nosuch:thing
refuse chardev_no_id 'needs id=' -chardev null
refuse mon_unknown 'no -chardev with that id' -mon chardev=nosuch
refuse kernel_missing "$dir/nokernel" -kernel "$dir/nokernel"
refuse bios_missing "$dir/nobios" -bios "$dir/nobios"

# images
head -c 1048576 /dev/zero > "$dir/disk.img"
refuse disk_missing "$dir/none.img" "$dir/none.img"
mkdir "$dir/folder"
refuse disk_folder "$dir/folder" "$dir/folder"
: > "$dir/empty.img"
refuse disk_empty "$dir/empty.img" "$dir/empty.img"
printf 'QFI\373\000\000\000\003' > "$dir/short.qcow2"
refuse qcow2_truncated "$dir/short.qcow2" "$dir/short.qcow2"
refuse drive_format 'nosuch' -drive file="$dir/empty.img",format=nosuch
refuse drive_key 'nosuchkey' -drive file="$dir/disk.img",format=raw,snapshot=on,nosuchkey=1
refuse drive_interface 'if=frob' -drive file="$dir/empty.img",if=frob
refuse drive_later 'not supported yet' -drive file="$dir/empty.img",if=virtio
refuse drive_place 'taken' -drive file="$dir/disk.img",format=raw,index=0,snapshot=on -drive file="$dir/disk.img",format=raw,index=0,snapshot=on
if [ "$(id -u)" -ne 0 ]; then
    cp "$dir/disk.img" "$dir/secret.img"
    chmod 000 "$dir/secret.img"
    refuse disk_unreadable "$dir/secret.img" "$dir/secret.img"
else
    echo 'skip disk_unreadable: root may read everything'
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
