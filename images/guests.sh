#!/bin/sh
# images/guests.sh - fetches the guests of tests/guests/ out of Debian's packages, without installing any of them.
#
# Usage      images/guests.sh [-o DIR] [ITEM...]        (DIR: $EMU_IMAGES, else /var/tmp/emu-images; no ITEM: all of them)
# Items      kernel      bzImage, initramfs.cpio.gz     Debian's amd64 kernel and a busybox initramfs with a shell on ttyS0
#            kernel32    bzImage32, initramfs32.cpio.gz the same of i386 (linux-image-686)
#            memtest     memtest64.bin, memtest32.bin, memtest64.iso
#            ipxe        ipxe.iso, ipxe.lkrn, ipxe.usb
#            grub        grub-rescue-cdrom.iso, grub-rescue-floppy.img, grub-rescue-usb.img
#            syslinux    syslinux.img                   a partitioned FAT disk with a menu, the kernel and its initramfs
#            installer   di-linux, di-initrd.gz         Debian's network installer
#            seabios     bios-256k.bin, bios.bin, vgabios-stdvga.bin
#            ovmf        OVMF_CODE.fd, OVMF_VARS.fd
# Theory     apt works on a private state directory (so that no source, key or architecture of the host is touched) and
#            downloads; dpkg-deb -x unpacks. Packages and lists stay in $XDG_CACHE_HOME/emu. Every item is on its own: one that
#            fails is reported and the rest go on. Exit status 1 if any failed.
# Needs      apt and dpkg-deb; mtools, and syslinux or its package, for the SYSLINUX disk; grub-mkrescue and xorriso for the CD.

set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

out=${EMU_IMAGES:-/var/tmp/emu-images}
if [ "${1:-}" = -o ]; then
    out=$2
    shift 2
fi
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP

# put FILE NAME: moves one product into place; a reader never sees half a file.
put() { cp "$1" "$out/$2.new.$$" && mv "$out/$2.new.$$" "$out/$2"; }

# The initramfs: busybox, a few modules if any are named, and an init that ends in a shell on the first serial port.
# make_initramfs BUSYBOX_TREE OUT
make_initramfs() {
    rm -rf "$tmp/root"
    mkdir -p "$tmp/root/bin" "$tmp/root/proc" "$tmp/root/sys" "$tmp/root/dev" "$tmp/root/tmp"
    cp "$1/bin/busybox" "$tmp/root/bin/busybox" || return 1
    cat >"$tmp/root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ PS1='guest# '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo "initramfs: $(uname -srm)"
for word in $(cat /proc/cmdline); do
    case $word in
    run=poweroff) poweroff -f ;;
    run=reboot) reboot -f ;;
    esac
done
exec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'
END
    chmod 755 "$tmp/root/init"
    make_cpio "$tmp/root" "$2"
}

item_kernel() {
    fetch_deb amd64 busybox-static "$tmp/bb" && fetch_kernel amd64 "$tmp/k" || return 1
    make_initramfs "$tmp/bb" "$tmp/initramfs" || return 1
    put "$tmp/k/boot/vmlinuz-$kernel_release" bzImage && put "$tmp/initramfs" initramfs.cpio.gz
}

item_kernel32() {
    fetch_deb i386 busybox-static "$tmp/bb32" && fetch_kernel i386 "$tmp/k32" || return 1
    make_initramfs "$tmp/bb32" "$tmp/initramfs32" || return 1
    put "$tmp/k32/boot/vmlinuz-$kernel_release" bzImage32 && put "$tmp/initramfs32" initramfs32.cpio.gz
}

item_memtest() {
    fetch_deb amd64 memtest86+ "$tmp/mt" || return 1
    n=0
    for f in memtest86+x64.bin:memtest64.bin memtest86+ia32.bin:memtest32.bin; do
        src=$tmp/mt/boot/${f%%:*}
        [ -f "$src" ] && put "$src" "${f##*:}" && n=$((n + 1))
    done
    iso=$(find "$tmp/mt" -name '*x64.iso' | head -n 1)
    [ -z "$iso" ] || put "$iso" memtest64.iso
    [ $n -gt 0 ]
}

item_ipxe() {
    fetch_deb all ipxe "$tmp/ipxe" || return 1
    for f in ipxe.iso ipxe.lkrn ipxe.usb ipxe.pxe undionly.kpxe; do
        src=$(find "$tmp/ipxe" -name "$f" | head -n 1)
        [ -z "$src" ] || put "$src" "$f" || return 1
    done
    [ -f "$out/ipxe.lkrn" ]
}

item_grub() {
    fetch_deb amd64 grub-rescue-pc "$tmp/rescue" || return 1
    for f in cdrom.iso floppy.img usb.img; do
        src=$(find "$tmp/rescue" -name "grub-rescue-$f" | head -n 1)
        [ -z "$src" ] || put "$src" "grub-rescue-$f" || return 1
    done
    [ -f "$out/grub-rescue-cdrom.iso" ] || return 1
    # The package's images speak to the screen only; these two say the same on the serial port.
    have grub-mkrescue && have xorriso || { echo "  (grub-serial.iso and grub-serial-floppy.img need grub-mkrescue and xorriso)"; return 0; }
    mkdir -p "$tmp/gr/boot/grub"
    cat >"$tmp/gr/boot/grub/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
echo "GRUB rescue on both consoles"
END
    fetch_deb amd64 grub-pc-bin "$tmp/gpb" || return 1
    grub-mkrescue -d "$tmp/gpb/usr/lib/grub/i386-pc" -o "$tmp/gs.iso" "$tmp/gr" >/dev/null 2>&1 && put "$tmp/gs.iso" grub-serial.iso
    # A floppy: boot sector and core with everything in its memory disk, started from consecutive sectors.
    mkdir -p "$tmp/fl/boot/grub"
    cp "$tmp/gr/boot/grub/grub.cfg" "$tmp/fl/boot/grub/grub.cfg"
    (cd "$tmp/fl" && tar -cf "$tmp/fl.tar" boot) &&
        grub-mkimage -d "$tmp/gpb/usr/lib/grub/i386-pc" -O i386-pc -p '(memdisk)/boot/grub' -m "$tmp/fl.tar" -o "$tmp/core.img" \
            biosdisk memdisk tar serial terminal normal configfile echo ls cat help reboot halt minicmd test &&
        cat "$tmp/gpb/usr/lib/grub/i386-pc/boot.img" "$tmp/core.img" >"$tmp/floppy" &&
        truncate -s 1474560 "$tmp/floppy" && put "$tmp/floppy" grub-serial-floppy.img
}

item_syslinux() {
    have mcopy && have mformat || { echo "  needs mtools"; return 1; }
    fetch_deb amd64 syslinux "$tmp/sl" && fetch_deb all syslinux-common "$tmp/slc" || return 1
    [ -f "$out/bzImage" ] && [ -f "$out/initramfs.cpio.gz" ] || item_kernel || return 1
    cat >"$tmp/syslinux.cfg" <<'END'
SERIAL 0 115200
PROMPT 1
TIMEOUT 50
DEFAULT linux
SAY SYSLINUX menu: linux, off
LABEL linux
  KERNEL bzImage
  APPEND initrd=initrd.gz console=tty0 console=ttyS0,115200
LABEL off
  KERNEL bzImage
  APPEND initrd=initrd.gz console=tty0 console=ttyS0,115200 run=poweroff
END
    img=$tmp/syslinux.img
    # 64 MiB: 1 MiB for the table, the rest FAT16.
    truncate -s 64M "$img"
    mbr_partition "$img" 2048 129024 14 || return 1
    dd if="$(find "$tmp/sl" "$tmp/slc" -name mbr.bin | grep -v gpt | head -n 1)" of="$img" bs=440 count=1 conv=notrunc 2>/dev/null || return 1
    mformat -i "$img@@1M" -T 129024 -h 16 -s 63 -H 2048 -v SYSLINUX :: || return 1
    mcopy -i "$img@@1M" "$out/bzImage" ::bzImage && mcopy -i "$img@@1M" "$out/initramfs.cpio.gz" ::initrd.gz &&
        mcopy -i "$img@@1M" "$tmp/syslinux.cfg" ::syslinux.cfg || return 1
    "$tmp/sl/usr/bin/syslinux" -t 1048576 -i "$img" || return 1
    put "$img" syslinux.img
}

item_installer() {
    fetch_deb all debian-installer-12-netboot-amd64 "$tmp/di" || return 1
    k=$(find "$tmp/di" -path '*text*' -name linux -type f | head -n 1)
    r=$(find "$tmp/di" -path '*text*' -name initrd.gz -type f | head -n 1)
    [ -n "$k" ] && [ -n "$r" ] || return 1
    put "$k" di-linux && put "$r" di-initrd.gz
}

item_seabios() {
    fetch_deb all seabios "$tmp/sb" || return 1
    for f in bios-256k.bin bios.bin vgabios-stdvga.bin; do
        put "$tmp/sb/usr/share/seabios/$f" "$f" || return 1
    done
}

item_ovmf() {
    fetch_deb all ovmf "$tmp/ovmf" || return 1
    put "$tmp/ovmf/usr/share/OVMF/OVMF_CODE.fd" OVMF_CODE.fd && put "$tmp/ovmf/usr/share/OVMF/OVMF_VARS.fd" OVMF_VARS.fd
}

[ $# -gt 0 ] || set -- kernel kernel32 memtest ipxe grub syslinux installer seabios ovmf
failed=0
for item; do
    case $item in
    kernel | kernel32 | memtest | ipxe | grub | syslinux | installer | seabios | ovmf) ;;
    *) echo "images/guests.sh: no item $item" >&2; exit 1 ;;
    esac
    if "item_$item"; then
        echo "$item: made in $out"
    else
        echo "$item: could not be made" >&2
        failed=1
    fi
done
exit $failed
