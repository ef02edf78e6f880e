#!/bin/sh
# tests/guests/debian.sh - a stock Debian 12 disk: boots through its MBR and GRUB, logs in, reboots, powers off, stays clean.
# Variables as in lib.sh. The disk is images/debian.sh's; it is never written: -snapshot, or copies.
. "$(dirname "$0")/lib.sh"

disk=$EMU_IMAGES/debian.img
quick=$EMU_IMAGES/debian-t0.img
[ -r "$quick" ] || quick=$disk
common="-m 1G -nographic -nic none"

if need debian_boots_to_login_and_powers_off debian.img; then
    guest debian_boots_to_login_and_powers_off 400 $common -snapshot -drive "file=$disk,format=raw" <<END
limit 300
never Kernel panic
never Oops
wait GNU GRUB
time menu
wait Linux version
$debian_login
time login
run test "\$(systemctl is-system-running --wait)" = running
run test "\$(systemctl --failed --no-legend | wc -l)" = 0
run test "\$(stat -f -c %T /)" = ext2/ext3
run dmesg | grep -q 'ACPI: Interpreter enabled'
line poweroff
status 0
time off
END
fi

if wanted debian_raw_reboots && need debian_raw_reboots_and_stays_clean "$quick"; then
    if cp --sparse=always "$quick" "$work/disk.img" 2>/dev/null || cp "$quick" "$work/disk.img"; then
        guest debian_raw_reboots_and_stays_clean 600 $common -drive "file=$work/disk.img,format=raw" <<END && {
limit 300
never Kernel panic
$debian_login
run head -c 33554432 /dev/urandom >/root/noise && sha256sum /root/noise >/root/sum && sync
line reboot
wait Linux version
$debian_login
time again
run sha256sum -c /root/sum
run rm /root/noise
run ! journalctl -b -k --no-pager | grep -Ei 'ata.*(failed|error)|I/O error'
line poweroff
status 0
END
            if command -v e2fsck >/dev/null 2>&1; then
                check debian_raw_passes_e2fsck e2fsck -fn "$work/disk.img?offset=1048576"
            else
                skip debian_raw_passes_e2fsck "e2fsck is not installed"
            fi
        }
        rm -f "$work/disk.img"
    fi
fi

if wanted debian_qcow2 && need debian_qcow2_boots_and_stays_clean "$quick"; then
    if command -v qemu-img >/dev/null 2>&1; then
        qemu-img convert -O qcow2 "$quick" "$work/disk.qcow2" &&
            guest debian_qcow2_boots_and_stays_clean 500 $common -drive "file=$work/disk.qcow2,format=qcow2" <<END && {
limit 300
$debian_login
run head -c 33554432 /dev/urandom >/root/noise && sha256sum /root/noise >/root/sum && sync
run echo 3 >/proc/sys/vm/drop_caches; sha256sum -c /root/sum
line poweroff
status 0
END
            check debian_qcow2_passes_qemu_img_check qemu-img check -q "$work/disk.qcow2"
            if command -v e2fsck >/dev/null 2>&1; then
                qemu-img convert -O raw "$work/disk.qcow2" "$work/disk.raw" &&
                    check debian_qcow2_passes_e2fsck e2fsck -fn "$work/disk.raw?offset=1048576"
                rm -f "$work/disk.raw"
            fi
        }
        rm -f "$work/disk.qcow2"
    else
        skip debian_qcow2_boots_and_stays_clean "qemu-img is not installed"
    fi
fi

if wanted debian_ten_boots && need debian_ten_boots_in_a_row "$quick"; then
    if [ "$LONG" = 1 ]; then
        for i in 1 2 3 4 5 6 7 8 9 10; do
            guest "debian_ten_boots_in_a_row_$i" 400 $common -snapshot -drive "file=$quick,format=raw" <<END
limit 300
never Kernel panic
never BUG:
never soft lockup
$debian_login
time login
run test "\$(systemctl is-system-running --wait)" = running
line poweroff
status 0
END
        done
    else
        skip debian_ten_boots_in_a_row "long: LONG=1"
    fi
fi
finish
