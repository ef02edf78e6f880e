#!/bin/sh
# tests/guests/loaders.sh - boot paths and loaders in real guests: -kernel in 64 and 32 bits, SYSLINUX, GRUB from CD and floppy,
# iPXE, memtest86+, Debian's installer, SeaBIOS. Variables as in lib.sh; images/guests.sh fetches the images.
. "$(dirname "$0")/lib.sh"

I=$EMU_IMAGES
small="-m 512 -nographic -nic none -no-reboot"

shell_and_off='limit 120
never Kernel panic
wait initramfs: Linux
wait guest# 
time shell
run test -d /proc/1
line poweroff -f
status 0'

if need kernel_amd64_reaches_shell bzImage initramfs.cpio.gz; then
    guest kernel_amd64_reaches_shell 150 $small -kernel "$I/bzImage" -initrd "$I/initramfs.cpio.gz" -append "console=ttyS0" <<END
$shell_and_off
END
fi
if need kernel_i386_reaches_shell bzImage32 initramfs32.cpio.gz; then
    guest kernel_i386_reaches_shell 150 $small -kernel "$I/bzImage32" -initrd "$I/initramfs32.cpio.gz" -append "console=ttyS0" <<END
$shell_and_off
END
fi
if need no_reboot_ends_with_0 bzImage initramfs.cpio.gz; then
    guest no_reboot_ends_with_0 150 $small -kernel "$I/bzImage" -initrd "$I/initramfs.cpio.gz" -append "console=ttyS0 run=reboot" <<END
limit 120
wait initramfs: Linux
status 0
END
fi
# The configuration's SAY line does not come out, an empty line does: SYSLINUX 6 reads it before it opens its consoles. QEMU with SeaBIOS sends
# the very same bytes (an empty line, the banner, the prompt), which are awaited here as they stand.
if need syslinux_boots_linux syslinux.img; then
    guest syslinux_boots_linux 180 $small -snapshot -drive "file=$I/syslinux.img,format=raw" <<END
limit 60
wait ^SYSLINUX 6\\.[0-9]+ [0-9]+ Copyright \\(C\\) 1994-[0-9]+ H\\. Peter Anvin et al\$
wait ^boot: 
line linux
wait ^Loading bzImage\\.\\.\\. ok\$
wait ^Loading initrd\\.gz\\.\\.\\.ok\$
$shell_and_off
END
fi
if need grub_cd_menu_on_serial grub-serial.iso; then
    guest grub_cd_menu_on_serial 90 $small -cdrom "$I/grub-serial.iso" <<END
limit 60
wait GRUB rescue on both consoles
wait grub>
line ls
wait \\(cd
line halt
status 0
END
fi
if need grub_floppy_on_serial grub-serial-floppy.img; then
    guest grub_floppy_on_serial 90 $small -drive "file=$I/grub-serial-floppy.img,format=raw,if=floppy,readonly=on" <<END
limit 60
wait GRUB rescue on both consoles
wait grub>
line ls
wait \\(fd0\\)
line halt
status 0
END
fi
for media in cdrom.iso:-cdrom floppy.img:-fda; do
    file=grub-rescue-${media%%:*}
    name=grub_rescue_${media%%.*}_on_screen
    if need "$name" "$file"; then
        guest "$name" 90 $small -snapshot "${media##*:}" "$I/$file" <<END
limit 60
screen GNU GRUB
time screen
kill
END
    fi
done
if need ipxe_kernel_image_starts ipxe.lkrn; then
    guest ipxe_kernel_image_starts 90 $small -kernel "$I/ipxe.lkrn" <<END
limit 60
screen iPXE [0-9]
kill
END
fi
if need ipxe_cd_starts ipxe.iso; then
    guest ipxe_cd_starts 90 $small -cdrom "$I/ipxe.iso" <<END
limit 60
screen iPXE [0-9]
kill
END
fi
if need memtest_runs memtest64.bin; then
    guest memtest_runs 90 -m 64 -nographic -nic none -kernel "$I/memtest64.bin" -append "console=ttyS0,115200" <<END
limit 60
never Errors: +[1-9]
wait Memtest86
wait Testing: 
time testing
sleep 5
kill
END
fi
if need memtest_full_pass_of_64_mib memtest64.bin; then
    if [ "$LONG" = 1 ]; then
        guest memtest_full_pass_of_64_mib 1800 -m 64 -nographic -nic none -kernel "$I/memtest64.bin" -append "console=ttyS0,115200" <<END
limit 1700
never Errors: +[1-9]
wait Memtest86
screen Pass: +1 +Errors: 0
time pass
kill
END
    else
        skip memtest_full_pass_of_64_mib "long: LONG=1"
    fi
fi
if need memtest_cd_on_screen memtest64.iso; then
    guest memtest_cd_on_screen 120 -m 64 -nographic -nic none -cdrom "$I/memtest64.iso" <<END
limit 90
screen (Memtest86|GRUB)
kill
END
fi
if need installer_asks_for_language di-linux di-initrd.gz; then
    guest installer_asks_for_language 300 -m 1G -nographic -nic none -kernel "$I/di-linux" -initrd "$I/di-initrd.gz" \
        -append "console=ttyS0,115200 TERM=linux" <<END
limit 240
wait Select a language
time dialog
kill
END
fi
if need seabios_boots_disk bios-256k.bin vgabios-stdvga.bin syslinux.img; then
    guest seabios_boots_disk 180 $small -L "$I" -bios "$I/bios-256k.bin" -snapshot -drive "file=$I/syslinux.img,format=raw" <<END
limit 60
screen (SeaBIOS|SYSLINUX)
wait boot:
line linux
$shell_and_off
END
fi
# -kernel with -bios: the kernel comes by way of fw_cfg and an option ROM, at the first start and after a reset; SeaBIOS's own log says who started it.
if need seabios_starts_the_kernel bios-256k.bin bzImage initramfs.cpio.gz; then
    guest seabios_starts_the_kernel 300 -m 512 -nographic -nic none -L "$I" -bios "$I/bios-256k.bin" -kernel "$I/bzImage" -initrd "$I/initramfs.cpio.gz" \
        -append "console=ttyS0 hello=42" -chardev "file,id=log,path=$work/seabios.log" -device isa-debugcon,iobase=0x402,chardev=log <<END
limit 120
never Kernel panic
wait initramfs: Linux
wait guest# 
run grep -qw hello=42 /proc/cmdline
host grep -q '^Booting from .*ROM' $work/seabios.log
time shell
line reboot -f
wait initramfs: Linux
wait guest# 
run test -d /proc/1
time again
host test \$(grep -c '^Booting from .*ROM' $work/seabios.log) = 2
line poweroff -f
status 0
END
fi
if wanted nothing_bootable_is_said; then
    dd if=/dev/zero of="$work/empty.img" bs=1048576 count=2 2>/dev/null
    guest nothing_bootable_is_said 60 $small -drive "file=$work/empty.img,format=raw" <<END
limit 40
screen ([Nn]o bootable|[Nn]othing bootable|not bootable)
kill
END
fi
finish
