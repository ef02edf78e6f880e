#!/bin/sh
# tests/guests/mainjob.sh - the main job: `emu -net user,hostfwd=tcp::PORT-:22 disk.img` and ssh from the host.
# Uses images/linux.img of this tree or of $EMU_IMAGES (images/linux.sh makes it). Variables as in lib.sh.
. "$(dirname "$0")/lib.sh"

disk=$top/images/linux.img
[ -r "$disk" ] || disk=$EMU_IMAGES/linux.img
port=$((20000 + $$ % 5000))
options="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=30"
# QEMU wants the card named and its window taken away; emu's line is the documentation's.
extra=
[ $is_qemu = 0 ] || extra="-nographic -net nic -m 1G"

name=main_job_ssh_reaches_guest
if need $name "$disk"; then
    if command -v ssh >/dev/null 2>&1; then
        cp "$disk" "$work/linux.img"
        guest $name 300 $extra -net "user,hostfwd=tcp:127.0.0.1:$port-:22" "$work/linux.img" <<END
limit 120
wait emu login: \$
time login
line root
wait emu:~# 
run i=0; until ifconfig eth0 | grep -q 10.0.2.15 || [ \$i = 60 ]; do sleep 1; i=\$((i+1)); done; ifconfig eth0 | grep -q 10.0.2.15
host ssh $options -p $port root@127.0.0.1 uname -a | grep -q 'Linux emu'
time ssh
host head -c 4194304 /dev/urandom >$work/file && ssh $options -p $port root@127.0.0.1 'cat >/tmp/file' <$work/file
host ssh $options -p $port root@127.0.0.1 'cat /tmp/file' | cmp - $work/file
run ping -c 1 -W 10 10.0.2.2
line poweroff
status 0
END
        if command -v e2fsck >/dev/null 2>&1; then
            check main_job_disk_passes_e2fsck e2fsck -fn "$work/linux.img?offset=1048576"
        fi
    else
        skip $name "ssh is not installed"
    fi
fi
finish
