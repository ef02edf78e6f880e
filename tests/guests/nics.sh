#!/bin/sh
# tests/guests/nics.sh - rtl8139 and ne2k_pci under Debian's own drivers: DHCP, ping, 16 MiB both ways with SHA-256, errors counted, the cable pulled.
#
# Kernel and modules (8139cp, ne2k-pci) come out of images/debian.sh's disk by debugfs, and are booted with the busybox of images/guests.sh. 8139too leaves
# the C+ to 8139cp, and says so here; the 8139's own mode is what iPXE's driver uses in tests/net_backends.sh. Variables as in lib.sh.
. "$(dirname "$0")/lib.sh"

disk=$EMU_IMAGES/debian-t0.img
[ -r "$disk" ] || disk=$EMU_IMAGES/debian.img
if ! command -v debugfs >/dev/null || ! command -v cpio >/dev/null; then
    skip nics "needs debugfs (e2fsprogs) and cpio"
    finish
fi
need nics "$disk" initramfs.cpio.gz || finish

# take FILE-ON-THE-DISK FILE
take() { debugfs -R "dump $1 $2" "$disk?offset=1048576" >/dev/null 2>&1 && [ -s "$2" ]; }
kernel=$(debugfs -R 'ls -p /boot' "$disk?offset=1048576" 2>/dev/null | sed -n 's|.*/vmlinuz-\([^/]*\)/.*|\1|p' | head -n 1)
mkdir -p "$work/root" && (cd "$work/root" && gzip -dc "$EMU_IMAGES/initramfs.cpio.gz" | cpio -id 2>/dev/null)
taken=0
take "/boot/vmlinuz-$kernel" "$work/vmlinuz" && taken=1
for module in mii ethernet/realtek/8139cp ethernet/realtek/8139too ethernet/8390/8390 ethernet/8390/ne2k-pci; do
    take "/usr/lib/modules/$kernel/kernel/drivers/net/$module.ko" "$work/root/${module##*/}.ko" || taken=0
done
if [ $taken = 0 ]; then
    skip nics "the kernel and its modules can't be taken from $disk"
    finish
fi
printf '#!/bin/sh\n[ "$1" = bound ] && ifconfig $interface $ip netmask $subnet && ip route add default via $router\nexit 0\n' >"$work/root/lease.sh"
chmod 755 "$work/root/lease.sh"
(cd "$work/root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs"
head -c 16777216 /dev/urandom >"$work/file"
sum=$(sha256sum "$work/file" | cut -c 1-64)
printf 'cat >"$1"\n' >"$work/save.sh"

for row in rtl8139:8139cp ne2k_pci:ne2k-pci; do
    model=${row%:*} driver=${row#*:}
    rm -f "$work/back"
    before= cable=
    if [ "$model" = rtl8139 ]; then
        before='run insmod /8139too.ko; dmesg | grep -q "use 8139cp"; rmmod 8139too'
        cable='monitor set_link n0 off
run i=0; until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ] || [ $i = 30 ]; do sleep 1; i=$((i+1)); done; test "$(cat /sys/class/net/eth0/carrier)" = 0
monitor set_link n0 on
run i=0; until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] || [ $i = 30 ]; do sleep 1; i=$((i+1)); done; ping -c 2 -W 10 10.0.2.2'
    fi
    guest "nic_${model}_under_debians_driver" 300 -m 256M -nographic -kernel "$work/vmlinuz" -initrd "$work/initramfs" -append "console=ttyS0 quiet" -device "$model,netdev=n0" \
        -netdev "user,id=n0,guestfwd=tcp:10.0.2.100:7000-cmd:cat $work/file,guestfwd=tcp:10.0.2.100:7001-cmd:sh $work/save.sh $work/back" <<END
limit 150
never Kernel panic
never Oops
never NETDEV WATCHDOG
wait guest# 
time shell
run insmod /mii.ko; insmod /8390.ko
$before
run insmod /$driver.ko
run test "\$(basename \$(readlink /sys/class/net/eth0/device/driver))" = $driver
run test "\$(cat /sys/class/net/eth0/address)" = 52:54:00:12:34:56
run ifconfig eth0 up; udhcpc -i eth0 -n -q -t 10 -s /lease.sh && ifconfig eth0 | grep -q 'addr:10\.0\.2\.15 .*Mask:255\.255\.255\.0'
time dhcp
run ping -c 3 -W 10 10.0.2.2
run ping -c 2 -s 4000 -W 10 10.0.2.2
run nc 10.0.2.100 7000 </dev/null >/tmp/file; test "\$(sha256sum /tmp/file | cut -c 1-64)" = $sum
time down
run nc 10.0.2.100 7001 </tmp/file
host i=0; until cmp -s $work/file $work/back || [ \$i = 60 ]; do sleep 1; i=\$((i+1)); done; cmp $work/file $work/back
time up
run for f in rx_errors tx_errors rx_crc_errors rx_fifo_errors tx_carrier_errors collisions; do test "\$(cat /sys/class/net/eth0/statistics/\$f)" = 0 || exit; done
$cable
line poweroff -f
status 0
END
done
finish
