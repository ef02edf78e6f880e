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
    timeout 60 "$EMU" "$@" > "$dir/out" 2> "$dir/err" < /dev/null
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
    timeout 60 "$EMU" "$@" > "$dir/out" 2> "$dir/err" < /dev/null
    status=$?
    if [ "$status" -ne 0 ]; then bad "$name: exit status $status, wanted 0"
    elif ! grep -qF -- "$text" "$dir/out"; then bad "$name: \"$text\" not on stdout"
    else ok; fi
}

# notes NAME TEXT ARGS...: the line is said on stderr and the machine comes up all the same
notes() {
    name=$1 text=$2
    shift 2
    echo quit | timeout 60 "$EMU" -S -monitor stdio -serial null -net none "$@" > "$dir/out" 2> "$dir/err"
    status=$?
    if [ "$status" -ne 0 ]; then bad "$name: exit status $status, wanted 0: $(head -c 300 "$dir/err")"
    elif [ "$(wc -l < "$dir/err")" -ne 1 ] || ! grep -qF -- "$text" "$dir/err"; then bad "$name: says \"$(cat "$dir/err")\", wanted \"$text\""
    else ok; fi
}
# takes NAME ARGS...: nothing is said and the machine comes up
takes() {
    name=$1
    shift
    echo quit | timeout 60 "$EMU" -S -monitor stdio -serial null -net none "$@" > "$dir/out" 2> "$dir/err"
    status=$?
    if [ "$status" -ne 0 ] || [ -s "$dir/err" ]; then bad "$name: exit status $status: $(head -c 300 "$dir/err")"; else ok; fi
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
prints vga_help std -vga help
prints chardev_help ringbuf -chardev help
# a serial port, CD drive or screen by -device takes the place of the default one
takes device_cd -device ide-cd
takes device_cd_at_its_place -device ide-cd,bus=ide.1,unit=0
takes device_vga -device VGA
timeout 60 "$EMU" -display none -monitor none -net none -chardev file,id=c,path="$dir/com1" -device isa-serial,chardev=c > "$dir/out" 2> "$dir/err" < /dev/null &
pid=$!
n=0
while ! grep -q 'no bootable device' "$dir/com1" 2>/dev/null && [ $n -lt 200 ] && kill -0 $pid 2>/dev/null; do sleep 0.2; n=$((n + 1)); done
if grep -q 'no bootable device' "$dir/com1"; then ok; else bad "device_serial_is_com1: $(head -c 300 "$dir/err")"; fi
kill $pid 2>/dev/null
wait $pid 2>/dev/null
prints nic_help rtl8139 -nic model=help

# ---- options: NAME, what the one line says, ARGS ----
refuse unknown_option '-frobnicate: unknown option; -help lists them' -frobnicate
refuse missing_argument '-m: needs an argument: -m SIZE' -m
refuse empty_name '"": an empty file name' ""

refuse memory_zero '-m 0: not a memory size between 1M and 1T' -m 0
refuse memory_small '-m 512k: at least 1M is needed' -m 512k
refuse memory_huge '-m 99T: not a memory size between 1M and 1T' -m 99T
refuse memory_word '-m lots: not a memory size' -m lots
refuse memory_negative '-m -1: not a memory size' -m -1
refuse memory_suffix '-m 512Q: not a memory size' -m 512Q
refuse memory_key 'unknown option "foo"' -m 512,foo=1
refuse cpus_zero '-smp 0: cpus=0 is not a number between 1 and 64' -smp 0
refuse cpus_many '-smp 1000: cpus=1000 is not a number between 1 and 64' -smp 1000
refuse cpus_word '-smp two: cpus=two is not a number' -smp two
refuse cpus_product '-smp 4,cores=3: sockets=1 times cores=3 times threads=1 is not 4 CPUs' -smp 4,cores=3
refuse cpus_above_maximum 'maxcpus not below them' -smp 4,maxcpus=2
takes cpus_topology -smp 4,sockets=1,cores=4,threads=1
takes cpus_cores_only -smp cores=2
notes cpus_sockets 'the guest is shown 4 cores in one socket' -smp 4,sockets=2,cores=2,threads=1
refuse cpu_unknown 'nosuchcpu' -cpu nosuchcpu
refuse cpu_empty 'names no model' -cpu ''
refuse cpu_feature 'no feature is called nosuchflag' -cpu max,+nosuchflag
takes cpu_host -cpu host
refuse machine_unknown '-machine spaceship: unknown machine' -machine spaceship
refuse machine_later '-machine q35: not supported yet; use pc' -M q35
refuse machine_key 'unknown option "foo"' -machine pc,foo=1
refuse machine_acpi 'acpi=2 is not on or off' -machine pc,acpi=2
refuse machine_usb '-machine usb=on: not supported yet' -machine pc,usb=on
refuse machine_keyboard '-machine i8042=off: not supported yet' -machine pc,i8042=off
takes machine_versioned -M pc-i440fx-7.2,accel=tcg,usb=off,vmport=off
refuse accel_unknown 'unknown accelerator "warp"' -accel warp
notes accel_kvm 'this emulator has no kvm; running on its own core' -accel kvm
notes enable_kvm '-enable-kvm: this emulator has no KVM; running on its own core' -enable-kvm
takes accel_fallback -M pc,accel=kvm:tcg
notes machine_vmport '-machine vmport=on: changes nothing here' -machine pc,vmport=on
notes machine_smm '-M smm=on: changes nothing here' -M pc,smm=on
takes machine_auto -M pc,vmport=auto,smm=auto,kernel_irqchip=on
notes memory_slots '-m maxmem=4G: changes nothing here' -m 512M,maxmem=4G
takes memory_no_slots -m 512M,slots=0,maxmem=512M
notes name_threads '-name debug-threads=on: changes nothing here' -name guest=x,debug-threads=on
notes rtc_drift '-rtc driftfix=slew: changes nothing here' -rtc driftfix=slew
refuse rtc_word '-rtc base=tomorrow: not utc, localtime or a date' -rtc base=tomorrow
refuse rtc_date '-rtc base=2026-02-29: not utc' -rtc base=2026-02-29
takes rtc_leap_day -rtc base=2024-02-29T23:59:59,clock=vm
refuse rtc_clock '-rtc clock=sun: not host, rt or vm' -rtc clock=sun
refuse icount_shift '-icount shift=99: not auto or a number from 0 to 10' -icount shift=99
refuse icount_sleep 'sleep=x is not on or off' -icount shift=1,sleep=x
refuse icount_align '-icount align=on: not supported yet' -icount shift=1,align=on
refuse icount_replay 'not supported yet' -icount shift=1,rr=record,rrfile=x
refuse seed '-seed x: not a number' -seed x
refuse uuid '-uuid 123: not a UUID' -uuid 123
refuse name_key 'unknown option "foo"' -name x,foo=1
refuse action_key 'unknown option "foo"' -action foo=1
refuse action_reboot '-action reboot=x: not reset or shutdown' -action reboot=x
refuse action_shutdown '-action shutdown=x: not poweroff or pause' -action shutdown=x
refuse smbios_type 'only type=0, type=1 and type=3' -smbios type=300
refuse smbios_key 'unknown option "foo"' -smbios type=1,foo=bar
refuse smbios_uuid '-uuid 1: not of the form' -smbios type=1,uuid=1 -nographic
refuse fw_cfg_empty 'needs either file= or string=' -fw_cfg name=opt/a
refuse fw_cfg_missing "$dir/nofile" -fw_cfg name=opt/a,file="$dir/nofile"
refuse boot_letters '-boot xyz: the order is made of a, b (floppy), c (disk), d (CD), n to p (network), each once' -boot xyz
refuse daemonize_curses '-daemonize: gives up the terminal that -display curses needs' -daemonize -display curses
refuse daemonize_stdio '-daemonize: gives up the terminal that -serial needs' -daemonize -serial mon:stdio
notes boot_network '-boot n: no card boots from the network; a CD image of iPXE does it' -boot n
refuse boot_twice 'each once' -boot order=cc
refuse boot_once 'each once' -boot once=q
refuse boot_menu 'menu=perhaps is not on or off' -boot menu=perhaps
refuse boot_key 'unknown option "foo"' -boot foo=1
refuse boot_timeout '-boot reboot-timeout=5: not supported yet' -boot reboot-timeout=5
notes boot_splash '-boot splash=a.bmp: no picture is shown' -boot splash=a.bmp
refuse device_unknown '-device nosuchdevice: unknown device; `-device help` lists them' -device nosuchdevice
refuse device_option 'unknown option "nosuch"' -device isa-debug-exit,nosuch=1
refuse device_number 'iobase=x is not a number between 0 and 65535' -device isa-debug-exit,iobase=x
refuse display_unknown '-display nice: unknown display; use none or curses' -display nice
refuse display_later '-display gtk: not supported yet; use none or curses' -display gtk
refuse display_vnc '-display vnc=:1: not supported yet; use none or curses' -display vnc=:1
refuse display_option '-display none: unknown option "foo=1"' -display none,foo=1
refuse display_no_terminal '-display curses: needs a terminal' -display curses
refuse display_two_owners 'both want the terminal' -nographic -display curses
refuse vga_unknown '-vga nice: unknown graphics card; use std or none' -vga nice
refuse vga_later '-vga cirrus: not supported yet' -vga cirrus
refuse log_unknown '-d nosuch: unknown log item; `-d help` lists them' -d int,nosuch
refuse log_file "-D $dir/none/log: cannot write there" -D "$dir/none/log"
refuse pidfile "-pidfile $dir/none/pid: No such file or directory" -pidfile "$dir/none/pid"
refuse gdb_unknown '-gdb nosuch: unknown character back end "nosuch"' -gdb nosuch
refuse gdb_port 'port 99999 is not a number between 0 and 65535' -gdb tcp::99999
refuse echr '-echr 400: not the number of a control character' -echr 400
notes layout '-k de: changes nothing here' -k de
takes layout_us -k en-us
for o in usb sdl full-screen preconfig singlestep; do refuse "later_$o" "-$o: not supported yet" "-$o"; done
for o in vnc qmp loadvm incoming audiodev soundhw spice virtfs fsdev numa blockdev global usbdevice tpmdev plugin redir tftp smb watchdog pflash sd option-rom trace acpitable; do
    refuse "later_$o" "-$o x: not supported yet" "-$o" x
done

# ---- serial lines ----
refuse serial_five '-serial null: a PC has four serial ports' -serial null -serial null -serial null -serial null -serial null
refuse serial_unknown '-serial nosuch:thing: unknown character back end' -serial nosuch:thing
refuse serial_twice 'the terminal is taken by serial0' -serial stdio -serial stdio
refuse serial_and_monitor 'the terminal is taken by serial0; -serial mon:stdio shares it' -serial stdio -monitor stdio
refuse serial_tcp '-serial tcp:: is not tcp:[HOST]:PORT[,server=on][,wait=off]' -serial tcp:
refuse serial_refused '-serial tcp:127.0.0.1:1: can'\''t connect: connection refused; is somebody listening there?' -serial tcp:127.0.0.1:1
refuse serial_unix "-serial unix:$dir/nosock: can't connect: no such file" -serial unix:"$dir/nosock"
refuse serial_file "-serial file:$dir/none/x: $dir/none/x: No such file or directory" -serial file:"$dir/none/x"
refuse serial_pipe 'make them with mkfifo' -serial pipe:"$dir/nopipe"
refuse serial_chardev 'there is no -chardev with id=x' -serial chardev:x
refuse serial_device '-serial /dev/nosuch: no such device' -serial /dev/nosuch
refuse parallel_four '-parallel null: a PC has three parallel ports' -parallel null -parallel null -parallel null -parallel null
refuse debugcon '-debugcon nosuch: unknown character back end' -debugcon nosuch
refuse debugcon_twice 'there is one debug console' -debugcon null -debugcon null
refuse chardev_no_id '-chardev null: needs id=' -chardev null
refuse chardev_unknown 'unknown character back end "nosuch"' -chardev nosuch,id=a
refuse chardev_key 'unknown option "foo"' -chardev null,id=a,foo=1
refuse chardev_same_id '-chardev null,id=a: there is a -chardev with id=a already' -chardev null,id=a -chardev null,id=a
refuse chardev_no_port 'needs path=, or host= and port=' -chardev socket,id=a
refuse chardev_port 'port x is not a number between 0 and 65535' -chardev socket,id=a,port=x
refuse chardev_wait 'wait=on needs server=on' -chardev socket,id=a,port=1,host=127.0.0.1,wait=on
refuse chardev_size 'size= must be a power of two up to 64M' -chardev ringbuf,id=a,size=3
refuse monitor_unknown '-monitor nosuch: unknown character back end' -monitor nosuch
refuse monitor_five '-monitor null: too many monitors' -monitor null -monitor null -monitor null -monitor null -monitor null
refuse mon_unknown '-mon chardev=nosuch: there is no -chardev with that id' -mon chardev=nosuch
refuse mon_control 'mode=control is not supported yet' -chardev null,id=a -mon a,mode=control

# ---- kernels, firmware ----
refuse kernel_missing "-kernel: $dir/nokernel: No such file or directory" -kernel "$dir/nokernel"
refuse kernel_folder "$dir: is a folder, not a file" -kernel "$dir"
head -c 100000 /dev/zero > "$dir/zeros"
refuse kernel_no_kernel "-kernel $dir/zeros: neither a Linux image nor a Multiboot kernel" -kernel "$dir/zeros"
# a bzImage header (Documentation/arch/x86/boot.rst): one setup sector, syssize F000h paragraphs, of which the file has 98,976 bytes
{ head -c 497 /dev/zero; printf '\001\000\000\000\360\000\000\000\000\000\000\000\000\125\252\353\146HdrS'; head -c 98000 /dev/zero; } > "$dir/cut"
refuse kernel_truncated "-kernel $dir/cut: Linux image is cut short" -kernel "$dir/cut"
printf '\002\260\255\033\000\000\000\000\376\117\122\344' > "$dir/mbflat" # Multiboot, no address fields, and no ELF file around it
refuse kernel_multiboot_no_elf "-kernel $dir/mbflat: is no ELF file, and its Multiboot header has no addresses" -kernel "$dir/mbflat"
printf '\002\260\255\033\000\000\001\000\376\117\121\344\000\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\000\000\020' > "$dir/mbhigh" # to be loaded at 256 MiB
refuse kernel_does_not_fit "-kernel $dir/mbhigh: the kernel (0 KiB at 0x10000000) does not fit into memory" -m 16 -nographic -kernel "$dir/mbhigh"
printf '\002\260\255\033\000\000\001\000\376\117\121\344\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\040\000\020\000' > "$dir/multiboot"
head -c 4096 /dev/zero >> "$dir/multiboot"
head -c 65536 /dev/zero > "$dir/firmware"
refuse kernel_multiboot_with_bios "-kernel $dir/multiboot: together with -bios only a Linux bzImage can be started" -bios "$dir/firmware" -kernel "$dir/multiboot"
refuse initrd_alone '-initrd: needs -kernel' -initrd "$dir/zeros"
refuse append_alone '-append: needs -kernel' -append quiet
images=${EMU_IMAGES:-/var/tmp/emu-images}
if [ -f "$images/bzImage" ]; then
    refuse initrd_missing "-initrd: $dir/noinitrd: No such file or directory" -kernel "$images/bzImage" -initrd "$dir/noinitrd"
else
    echo 'skip initrd_missing: no bzImage (images/guests.sh makes it)'
fi
refuse bios_missing "-bios: $dir/nobios: no such firmware file" -bios "$dir/nobios"
refuse bios_size '100000 bytes is no firmware size; a multiple of 4 KiB is needed' -bios "$dir/zeros"

# ---- drives ----
head -c 1048576 /dev/zero > "$dir/disk.img"
raw=file=$dir/disk.img,format=raw
refuse drive_no_file '-drive format=raw: needs file=' -drive format=raw
refuse drive_format 'unknown format' -drive file="$dir/disk.img",format=nosuch
refuse drive_format_later 'format vmdk is not supported yet; convert it: qemu-img convert' -drive file="$dir/disk.img",format=vmdk
refuse drive_key 'unknown option "nosuchkey"' -drive "$raw,nosuchkey=1"
refuse drive_interface 'if=frob is not ide, floppy or none' -drive "$raw,if=frob"
for i in virtio scsi pflash sd; do refuse "drive_later_$i" "if=$i is not supported yet; use if=ide" -drive "$raw,if=$i"; done
refuse drive_index 'index=9 is not a number between 0 and 3' -drive "$raw,index=9"
refuse drive_index_word 'index=x is not a number' -drive "$raw,index=x"
refuse drive_bus 'bus=7 is not a number between 0 and 1' -drive "$raw,bus=7"
refuse drive_unit 'unit=5 is not a number between 0 and 1' -drive "$raw,unit=5"
refuse drive_media 'media=tape is not disk or cdrom' -drive "$raw,media=tape"
refuse drive_media_floppy 'media=cdrom is no floppy' -drive "$raw,media=cdrom,if=floppy"
for k in readonly snapshot copy-on-read cache.direct; do refuse "drive_$k" "$k=maybe is not on or off" -drive "$raw,$k=maybe"; done
refuse drive_cache 'cache=x is none of writeback, none, writethrough, directsync, unsafe' -drive "$raw,cache=x"
refuse drive_aio 'aio=x is none of threads, native, io_uring' -drive "$raw,aio=x"
refuse drive_discard 'discard=x is none of ignore, off, unmap, on' -drive "$raw,discard=x"
refuse drive_zeroes 'detect-zeroes=x is none of off, on, unmap' -drive "$raw,detect-zeroes=x"
refuse drive_werror 'werror=x is none of report, ignore, stop, enospc' -drive "$raw,werror=x"
refuse drive_rerror 'rerror=enospc makes no sense; report, ignore or stop' -drive "$raw,rerror=enospc"
refuse drive_speed 'not supported yet' -drive "$raw,throttling.bps-total=1"
refuse drive_place 'this one is taken' -drive "$raw,index=0,snapshot=on" -drive "$raw,index=0,snapshot=on"
refuse drive_same_id 'there is a drive with id a already' -drive "$raw,id=a" -drive "$raw,id=a,index=1"
notes drive_guessed 'format not given and taken for raw' -hda "$dir/disk.img"

refuse disk_missing "$dir/none.img: No such file or directory" "$dir/none.img"
mkdir "$dir/folder"
refuse disk_folder "$dir/folder" "$dir/folder"
: > "$dir/empty.img"
refuse disk_empty "$dir/empty.img" "$dir/empty.img"

# qcow2 FILE VERSION CLUSTER_BITS SIZE L1_ENTRIES L1_OFFSET TABLE_OFFSET ENCRYPTION: a version 2 header (docs/interop/qcow2: 72 bytes), padded to 64 KiB
be32() { printf "\\$(printf %o $(($1 >> 24 & 255)))\\$(printf %o $(($1 >> 16 & 255)))\\$(printf %o $(($1 >> 8 & 255)))\\$(printf %o $(($1 & 255)))"; }
qcow2() {
    { printf 'QFI\373'; for n in "$2" 0 0 0 "$3" 0 "$4" "$8" "$5" 0 "$6" 0 "$7" 1 0 0 0; do be32 "$n"; done; head -c 65464 /dev/zero; } > "$1"
}
printf 'QFI\373\000\000\000\003' > "$dir/bad.qcow2"
refuse qcow2_truncated "$dir/bad.qcow2" -drive file="$dir/bad.qcow2",format=qcow2
head -c 4096 /dev/zero > "$dir/bad.qcow2"
refuse qcow2_magic "$dir/bad.qcow2" -drive file="$dir/bad.qcow2",format=qcow2
# NAME TEXT VERSION CLUSTER_BITS SIZE L1_ENTRIES L1_OFFSET TABLE_OFFSET ENCRYPTION
while read -r name text fields; do
    set -- $fields
    qcow2 "$dir/bad.qcow2" "$@"
    refuse "qcow2_$name" "$dir/bad.qcow2: " -drive file="$dir/bad.qcow2",format=qcow2
    grep -qi -- "$(echo "$text" | tr _ ' ')" "$dir/err" || bad "qcow2_$name: says \"$(cat "$dir/err")\", wanted \"$text\""
done <<'END'
version version 9 16 1048576 1 65536 131072 0
cluster_bits cluster 2 40 1048576 1 65536 131072 0
encrypted encrypt 2 16 1048576 1 65536 131072 1
l1_too_small l1 2 16 1073741824 1 65536 131072 0
l1_beyond_the_file l1 2 16 1048576 1 1048576 131072 0
l1_misaligned l1 2 16 1048576 1 777 131072 0
refcounts_misaligned refcount 2 16 1048576 1 65536 777 0
END
if command -v qemu-img >/dev/null 2>&1; then
    (cd "$dir" && qemu-img create -q -f qcow2 a.qcow2 1M && qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2 && qemu-img rebase -u -f qcow2 -b b.qcow2 -F qcow2 a.qcow2)
    refuse backing_loop "$dir" "$dir/b.qcow2"
    qemu-img create -q -f qcow2 -u -b gone.img -F raw "$dir/c.qcow2" 1M
    refuse backing_missing 'gone.img' "$dir/c.qcow2"
else
    echo 'skip backing_loop backing_missing: qemu-img is not installed'
fi

# an image in use by another emulator
"$EMU" -S -nographic -net none -serial null -monitor none -pidfile "$dir/pid" -drive "$raw" > /dev/null 2>&1 < /dev/null &
n=0
while [ ! -s "$dir/pid" ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
refuse disk_locked "$dir/disk.img" -drive "$raw"
takes disk_locked_snapshot -drive "$raw,snapshot=on,locking=off"
kill "$(cat "$dir/pid")"
wait
takes disk_unlocked -drive "$raw"
[ ! -e "$dir/pid" ] && ok || bad 'pidfile: is there after the end'

# ---- what the options do ----

# asks NAME TEXT COMMAND ARGS...: the monitor's answer to the command holds TEXT, or, where that begins with !, does not
asks() {
    name=$1 text=$2 command=$3
    shift 3
    printf '%s\nquit\n' "$command" | timeout 60 "$EMU" -S -display none -monitor stdio -serial null "$@" > "$dir/out" 2> "$dir/err"
    status=$?
    case $text in
    !*) if [ $status -eq 0 ] && ! grep -qF -- "${text#!}" "$dir/out"; then ok; else bad "$name: status $status, \"${text#!}\" in: $(head -c 600 "$dir/out")"; fi ;;
    *) if [ $status -eq 0 ] && grep -qF -- "$text" "$dir/out"; then ok; else bad "$name: status $status, no \"$text\" in: $(head -c 600 "$dir/out")"; fi ;;
    esac
}
asks default_memory '0000000000100000-000000003fffffff ram' 'info mtree'
asks default_vga '1234:1111' 'info pci'
asks default_net '8086:100e' 'info pci'
asks default_cd 'ide1-cd0: [not inserted]' 'info block'
asks vga_none '!1234:1111' 'info pci' -vga none
asks nodefaults_cd '!ide1-cd0' 'info block' -nodefaults
asks nodefaults_net '!8086:100e' 'info pci' -nodefaults
asks nodefaults_vga '!1234:1111' 'info pci' -nodefaults
asks uuid_is_told '00112233-4455-6677-8899-aabbccddeeff' 'info uuid' -uuid 00112233-4455-6677-8899-aabbccddeeff
asks cpus_are_told 'CPU #2' 'info cpus' -smp 3
for o in hda:ide0-hd0 hdb:ide0-hd1 hdc:ide1-hd0 hdd:ide1-hd1 fda:floppy0 fdb:floppy1 cdrom:ide1-cd0; do
    head -c 1474560 /dev/zero > "$dir/place.img"
    asks "place_${o%%:*}" "${o##*:}: $dir/place.img" 'info block' -net none "-${o%%:*}" "$dir/place.img"
done
asks place_bare "ide0-hd0: $dir/place.img" 'info block' -net none "$dir/place.img"
refuse curses_needs_a_terminal 'needs a terminal' -curses
takes localtime -localtime
takes asks_for_what_is_so -no-user-config -no-fd-bootchk -sandbox off
notes changes_nothing '-sandbox on: changes nothing here' -sandbox on
notes changes_no_overcommit '-overcommit mem-lock=on: changes nothing here' -overcommit mem-lock=on
notes changes_no_prealloc '-mem-prealloc: changes nothing here' -mem-prealloc
notes changes_no_messages '-msg timestamp=on: changes nothing here' -msg timestamp=on
printf 'info version\nquit\n' | timeout 60 "$EMU" -S -display none -serial null -net none -chardev stdio,id=m -mon m > "$dir/out" 2>&1
[ $? = 0 ] && grep -q 'emu [0-9]' "$dir/out" && ok || bad "mon: $(head -c 300 "$dir/out")"

hex() { for b; do printf "\\$(printf %o "0x$b")"; done; }
# A boot sector (SDM vol. 2 encodings): 'D' to port E9h, 'P' to the parallel port with a strobe, INT 12h, and with an IDT of no entries INT3: a triple fault.
{
    hex 31 C0 8E D8 B0 44 E6 E9                             # xor ax,ax; mov ds,ax; mov al,'D'; out 0E9h,al
    hex BA 78 03 B0 50 EE 42 42 B0 0D EE B0 0C EE           # mov dx,378h; mov al,'P'; out dx,al; dx = 37Ah: 0Dh, 0Ch
    hex CD 12 0F 01 1E 40 7C CC                             # int 12h; lidt [7C40h]; int3
    head -c 480 /dev/zero
    hex 55 AA
} > "$dir/triple.img"
# Another: SLP_EN with the sleep type of S5 to the PM1 control register at 604h: off.
{
    hex B0 44 E6 E9 BA 04 06 B8 00 20 EF F4 EB FD           # mov al,'D'; out 0E9h,al; mov dx,604h; mov ax,2000h; out dx,ax; sleep: hlt; jmp sleep
    head -c 496 /dev/zero
    hex 55 AA
} > "$dir/off.img"
for f in triple off; do head -c 32256 /dev/zero >> "$dir/$f.img"; done
machine="-m 16M -net none -display none -serial null -debugcon file:$dir/debug"
# guest NAME STATUS IMAGE ARGS...: ends by itself with that status, after one start
guest() {
    name=$1 wanted=$2 image=$dir/$3.img
    shift 3
    rm -f "$dir/debug"
    timeout 60 "$EMU" $machine -monitor none "$@" -drive "file=$image,format=raw,snapshot=on" > "$dir/out" 2> "$dir/err" < /dev/null
    status=$?
    [ $status = "$wanted" ] && [ "$(cat "$dir/debug")" = D ] && ok || bad "$name: status $status, starts \"$(cat "$dir/debug")\": $(head -c 300 "$dir/err")"
}
# stays NAME STATE IMAGE ARGS...: does not end; the monitor names its state
stays() {
    name=$1 state=$2 image=$dir/$3.img
    shift 3
    rm -f "$dir/debug"
    {
        n=0
        until [ -s "$dir/debug" ] || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done
        sleep 0.5
        printf 'info status\nquit\n'
    } | timeout 60 "$EMU" $machine -monitor stdio "$@" -drive "file=$image,format=raw,snapshot=on" > "$dir/out" 2> "$dir/err"
    status=$?
    [ $status = 0 ] && grep -qF "VM status: $state" "$dir/out" && ok || bad "$name: status $status, $(grep 'VM status' "$dir/out") $(head -c 300 "$dir/err")"
}
guest power_off_ends 0 off
guest no_reboot_ends 0 triple -no-reboot
guest action_reboot_ends 0 triple -action reboot=shutdown
stays no_shutdown_stays 'paused (shutdown)' off -no-shutdown
stays action_shutdown_stays 'paused (shutdown)' off -action shutdown=pause
stays no_reboot_no_shutdown_stays 'paused (shutdown)' triple -no-reboot -no-shutdown
stays triple_fault_starts_again running triple
grep -q '^DD' "$dir/debug" && ok || bad 'triple_fault_starts_again: one start only'

# -d, -D: interrupts by vector (12h, by software; 3), the reset with the registers before it; no word of what was not asked for
guest log_items 0 triple -no-reboot -d int,cpu_reset -D "$dir/log" -parallel file:"$dir/printed"
grep -q 'v=12 e=0000 i=1 ' "$dir/log" && grep -q 'v=03 ' "$dir/log" && ok || bad "log_int: $(grep -m 3 v= "$dir/log")"
[ "$(grep -c 'Triple fault' "$dir/log")" = 1 ] && ok || bad "log_triple_fault: $(grep -c 'Triple fault' "$dir/log") lines"
grep -q 'CPU Reset (CPU 0)' "$dir/log" && grep -q '^CR0=60000010' "$dir/log" && ok || bad "log_cpu_reset: $(head -n 3 "$dir/log")"
[ ! -s "$dir/err" ] && ok || bad "log_file: on stderr too: $(head -n 1 "$dir/err")"
[ "$(cat "$dir/printed")" = P ] && ok || bad "parallel: \"$(cat "$dir/printed")\""
guest log_to_stderr 0 triple -no-reboot -d cpu_reset
grep -q 'CPU Reset' "$dir/err" && ! grep -q 'v=' "$dir/err" && ok || bad "log_to_stderr: $(head -n 3 "$dir/err")"

# the four serial ports, at the addresses of the IBM PC: a byte written to each comes out of its own line
printf 'o 0x3f8 0x31\no 0x2f8 0x32\no 0x3e8 0x33\no 0x2e8 0x34\n' > "$dir/commands"
(sleep 1; cat "$dir/commands"; sleep 1; echo quit) | timeout 60 "$EMU" -m 16M -net none -display none -monitor stdio -serial file:"$dir/com1" \
    -serial file:"$dir/com2" -serial file:"$dir/com3" -serial file:"$dir/com4" > "$dir/out" 2>&1
grep -q 1 "$dir/com1" && [ "$(cat "$dir/com2" "$dir/com3" "$dir/com4")" = 234 ] && ok || bad "serial_four: $(cat "$dir/com2" "$dir/com3" "$dir/com4")"

# memory is the host's only once it is touched
if [ -r /proc/self/status ]; then
    "$EMU" $machine -m 16G -monitor none -pidfile "$dir/pid" -drive "file=$dir/off.img,format=raw,snapshot=on" -no-shutdown > /dev/null 2>&1 < /dev/null &
    n=0
    until [ -s "$dir/debug" ] && [ -s "$dir/pid" ] || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done
    kib=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(cat "$dir/pid")/status")
    [ "${kib:-9999999}" -lt 262144 ] && ok || bad "memory_as_touched: $kib KiB of 16 GiB"
    kill "$(cat "$dir/pid")"
    wait
else
    echo 'skip memory_as_touched: no /proc'
fi

# -daemonize: the command returns once the machine is there; the machine lives on
rm -f "$dir/pid"
timeout 60 "$EMU" -daemonize -pidfile "$dir/pid" -S -display none -net none -serial null -monitor none > "$dir/out" 2>&1 < /dev/null
status=$?
pid=$(cat "$dir/pid" 2>/dev/null)
[ $status = 0 ] && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && ok || bad "daemonize: status $status, pid \"$pid\": $(head -c 300 "$dir/out")"
[ -z "$pid" ] || kill "$pid"
n=0
while [ -e "$dir/pid" ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
[ ! -e "$dir/pid" ] && ok || bad 'daemonize: its pid file is there after the end'

timeout 60 "$EMU" -daemonize -pidfile "$dir/none/pid" -S -display none -net none -serial null -monitor none > "$dir/out" 2> "$dir/err" < /dev/null
[ $? = 1 ] && grep -qF -- "-pidfile $dir/none/pid: No such file" "$dir/err" && ok || bad "daemonize_says_what_fails: $(head -c 300 "$dir/err")"

# unreadable: as somebody who is not root
cp "$dir/disk.img" "$dir/secret.img"
chmod 000 "$dir/secret.img"
if [ "$(id -u)" -ne 0 ]; then
    refuse disk_unreadable "$dir/secret.img: Permission denied" -drive file="$dir/secret.img",format=raw
elif command -v setpriv >/dev/null 2>&1; then
    cp "$EMU" "$dir/emu"
    chmod 755 "$dir" "$dir/emu"
    root_emu=$EMU
    printf '#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups "%s/emu" "$@"\n' "$dir" > "$dir/as_nobody"
    chmod 755 "$dir/as_nobody"
    EMU=$dir/as_nobody
    refuse disk_unreadable "$dir/secret.img: Permission denied" -drive file="$dir/secret.img",format=raw
    chmod 444 "$dir/secret.img"
    refuse disk_unwritable "$dir/secret.img" -drive file="$dir/secret.img",format=raw
    takes disk_unwritable_read_only -drive file="$dir/secret.img",format=raw,media=cdrom
    takes disk_unwritable_snapshot -drive file="$dir/secret.img",format=raw,snapshot=on
    EMU=$root_emu
else
    echo 'skip disk_unreadable: root may read everything, and there is no setpriv'
fi

# ---- the manual page and the table of options say the same ----
top=$(cd "$(dirname "$0")/.." && pwd)
# rows of cmd_options[]: { "name", ... ends in a function; CMD_LATER rows have none
sed -n 's/^    { "\([A-Za-z0-9_-]*\)", .*cmd_[a-z_]* },.*/\1/p' "$top/src/front/options.c" | sort -u > "$dir/known"
sed -n '/^\.TP/{n;p;}' "$top/src/emu.1" | sed 's/\\f[A-Z]/ /g; s/\\-/-/g; s/[",]/ /g' | tr ' ' '\n' | sed -n 's/^-\([A-Za-z][A-Za-z0-9_-]*\)$/\1/p' | sort -u > "$dir/manual"
if [ -s "$dir/known" ] && cmp -s "$dir/known" "$dir/manual"; then ok; else bad "manual: differs from the options known: $(diff "$dir/known" "$dir/manual" | grep '^[<>]' | tr '\n' ' ')"; fi
for o in $(cat "$dir/manual"); do
    timeout 60 "$EMU" "-$o" x -version < /dev/null 2>&1 | grep -q 'unknown option; -help' && bad "manual: -$o is not known"
done
if command -v man >/dev/null 2>&1 && man --help 2>&1 | grep -q -- --warnings; then
    warned=$(MANWIDTH=100 man --warnings -l "$top/src/emu.1" 2>&1 >/dev/null)
    [ -z "$warned" ] && ok || bad "manual: $warned"
else
    echo 'skip manual_warnings: no man with --warnings'
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
