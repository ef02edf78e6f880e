#!/bin/sh
# tests/guests/idle.sh - an idle guest leaves the host alone: the emulator's processor time over 10 seconds (LONG=1: 20) in which nothing happens
# must stay under 3 % of a core, in one of up to twelve such windows: what a guest still does after its prompt, and what else runs on the host, is not
# what is judged (expect.c's be_idle()). Variables as in lib.sh. IDLE_SECONDS and IDLE_PERCENT may be given.
. "$(dirname "$0")/lib.sh"

: "${IDLE_PERCENT:=3}"
[ "$LONG" = 0 ] || : "${IDLE_SECONDS:=20}"
: "${IDLE_SECONDS:=10}"
I=$EMU_IMAGES
small="-m 512 -nographic -nic none"
port=$((25000 + $$ % 5000))

disk=$top/images/linux.img
[ -r "$disk" ] || disk=$I/linux.img
# The main job's own line, network card and forwarded port included; -snapshot keeps the disk as it is.
if need idle_main_job_prompt "$disk"; then
    extra=
    [ $is_qemu = 0 ] || extra="-nographic -net nic -m 1G"
    guest idle_main_job_prompt 480 $extra -snapshot -net "user,hostfwd=tcp:127.0.0.1:$port-:22" "$disk" <<END
limit 120
wait emu login: \$
line root
wait emu:~# 
sleep 1
idle prompt $IDLE_PERCENT $IDLE_SECONDS
run true
kill
END
fi
if need idle_kernel_prompt bzImage initramfs.cpio.gz; then
    guest idle_kernel_prompt 390 $small -kernel "$I/bzImage" -initrd "$I/initramfs.cpio.gz" -append "console=ttyS0" <<END
limit 90
wait guest# 
sleep 1
idle prompt $IDLE_PERCENT $IDLE_SECONDS
run true
kill
END
fi
if need idle_two_processors bzImage initramfs.cpio.gz; then
    guest idle_two_processors 390 $small -smp 2 -kernel "$I/bzImage" -initrd "$I/initramfs.cpio.gz" -append "console=ttyS0" <<END
limit 90
wait guest# 
sleep 1
idle prompt $IDLE_PERCENT $IDLE_SECONDS
run true
kill
END
fi
# systemd's first minute has timers of its own (tmpfiles, apt), which the later windows don't see.
if need idle_debian_login debian-t0.img; then
    guest idle_debian_login 640 -m 1G -nographic -nic none -snapshot -drive "file=$I/debian-t0.img,format=raw" <<END
limit 300
$debian_login
run systemctl is-system-running --wait
line exit
wait login: \$
sleep 5
idle login $IDLE_PERCENT $IDLE_SECONDS
kill
END
fi
if need idle_grub_menu grub-serial.iso; then
    guest idle_grub_menu 360 $small -cdrom "$I/grub-serial.iso" <<END
limit 60
wait grub>
sleep 1
idle grub $IDLE_PERCENT $IDLE_SECONDS
kill
END
fi
# The first key ends the countdown; the line after it repaints the menu's entry.
if need idle_debian_grub_menu debian.img; then
    guest idle_debian_grub_menu 360 -m 512 -nographic -nic none -snapshot -drive "file=$I/debian.img,format=raw" <<END
limit 60
wait GNU GRUB
send \\e[B
sleep 2
never Linux version
idle menu $IDLE_PERCENT $IDLE_SECONDS
kill
END
fi
if need idle_syslinux_prompt syslinux.img; then
    guest idle_syslinux_prompt 360 $small -snapshot -drive "file=$I/syslinux.img,format=raw" <<END
limit 60
wait boot:
send x
sleep 1
idle syslinux $IDLE_PERCENT $IDLE_SECONDS
kill
END
fi
if wanted idle_nothing_bootable; then
    dd if=/dev/zero of="$work/empty.img" bs=1048576 count=2 2>/dev/null
    guest idle_nothing_bootable 330 $small -drive "file=$work/empty.img,format=raw" <<END
limit 40
wait ([Nn]o bootable|[Nn]othing bootable|not bootable)
sleep 1
idle bios $IDLE_PERCENT $IDLE_SECONDS
kill
END
fi
if wanted idle_stopped_machine; then
    guest idle_stopped_machine 300 $small -S <<END
sleep 1
idle stopped $IDLE_PERCENT $IDLE_SECONDS
kill
END
fi
finish
