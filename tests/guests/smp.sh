#!/bin/sh
# tests/guests/smp.sh - several processors: Linux brings them all up, gives each of them work and powers off; SeaBIOS counts them; a stock
# Debian boots on two. Variables as in lib.sh.
. "$(dirname "$0")/lib.sh"

I=$EMU_IMAGES
small="-m 512 -nographic -nic none -no-reboot"

# Two busy loops bound to one processor each must both get on: each processor's time in /proc/stat grows by a second's worth.
for n in 2 4; do
    if need "smp_linux_uses_$n" bzImage initramfs.cpio.gz; then
        guest "smp_linux_uses_$n" 240 $small -smp "$n" -kernel "$I/bzImage" -initrd "$I/initramfs.cpio.gz" -append "console=ttyS0" <<END
limit 150
never Kernel panic
never BUG:
never soft lockup
never (not responding|Not responding)
wait guest# 
time shell
run test \$(grep -c ^processor /proc/cpuinfo) = $n
run test \$(cat /sys/devices/system/cpu/online) = 0-$((n - 1))
run for c in \$(seq 0 $((n - 1))); do taskset \$((1 << c)) sh -c 'while :; do :; done' & done; sleep 6; kill \$(jobs -p); i=0; while read name user rest; do case \$name in cpu[0-9]*) test \$user -gt 25 && i=\$((i + 1)) ;; esac; done </proc/stat; test \$i = $n
run head -c 4000000 /dev/urandom >/tmp/f; for c in \$(seq 1 $n); do (sha256sum </tmp/f >/tmp/s\$c) & done; wait; for c in \$(seq 2 $n); do cmp /tmp/s1 /tmp/s\$c || break; done
line poweroff -f
status 0
END
    fi
done
if need smp_seabios_counts_processors bios-256k.bin vgabios-stdvga.bin syslinux.img; then
    guest smp_seabios_counts_processors 240 $small -smp 2 -L "$I" -bios "$I/bios-256k.bin" -snapshot -drive "file=$I/syslinux.img,format=raw" <<END
limit 150
wait boot:
line linux
wait guest# 
run test \$(grep -c ^processor /proc/cpuinfo) = 2
line poweroff -f
status 0
END
fi
if need smp_debian_boots_on_two debian-t0.img; then
    guest smp_debian_boots_on_two 500 -m 1G -nographic -nic none -smp 2 -snapshot -drive "file=$I/debian-t0.img,format=raw" <<END
limit 400
never Kernel panic
never BUG:
never soft lockup
$debian_login
time login
run test "\$(systemctl is-system-running --wait)" = running
run test "\$(nproc)" = 2
line poweroff
status 0
END
fi
finish
