#!/bin/sh
# images/debian.sh - make a full Debian 12 (bookworm) amd64 disk for tests and benchmarks.
#
# Usage      images/debian.sh OUT.img [SIZE]        (as root; SIZE as truncate(1) takes it, default 4G, sparse)
# Result     A raw disk as an installer would leave it: MBR partition table, one ext4 root partition, GRUB in the gap before
#            it, Debian's own kernel and initramfs, systemd, OpenSSH. GRUB and the kernel speak to the screen and to the
#            first serial port. root's password is "root", on the consoles and over ssh.
# Variables  GRUB_TIMEOUT  seconds the boot menu waits (2; 0 boots at once and shows no menu)
#            WITH_GCC=1    adds gcc, libc6-dev and make
#            EXTRA         more package names
#            VARIANT       a second image with GRUB_TIMEOUT=0 is written to this file from the same tree
#            MIRROR        http://deb.debian.org/debian
#            HOSTNAME_     host name in the guest (debian)
# Needs      debootstrap, sfdisk, losetup with partition nodes, mkfs.ext4; works with qemu-system-x86_64 -accel tcg too.

set -eu

die() { echo "images/debian.sh: $*" >&2; exit 1; }

[ $# -ge 1 ] || die "usage: images/debian.sh OUT.img [SIZE]"
out=$1
size=${2:-4G}
: "${GRUB_TIMEOUT:=2}" "${WITH_GCC:=0}" "${EXTRA:=}" "${VARIANT:=}" "${MIRROR:=http://deb.debian.org/debian}" "${HOSTNAME_:=debian}"

[ "$(id -u)" = 0 ] || die "making a file system as Debian's installer does needs root; images/linux.sh makes a small disk without"
for tool in debootstrap sfdisk losetup mkfs.ext4 e2fsck chroot; do
    command -v $tool >/dev/null 2>&1 || die "$tool is missing; on Debian: apt-get install debootstrap fdisk mount e2fsprogs"
done

tmp=$out.tmp.$$
mnt=$(mktemp -d)
loop=
cleanup() {
    for d in dev/pts dev proc sys ""; do
        mountpoint -q "$mnt/$d" 2>/dev/null && umount "$mnt/$d"
    done
    [ -z "$loop" ] || losetup -d "$loop" || :
    rmdir "$mnt" 2>/dev/null || :
    rm -f "$tmp"
}
# The kernel may read the table late, or only when told.
partition_node() {
    for try in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -b "${loop}p1" ] || return 0
        partx -u "$loop" 2>/dev/null || :
        sleep 0.3
    done
    return 1
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# The disk. GRUB 2.06 can't read a root file system with the seeds and the orphan file of newer mkfs defaults.
truncate -s "$size" "$tmp"
echo 'label: dos
label-id: 0x656d7531
start=2048, type=83, bootable' | sfdisk -q "$tmp"
loop=$(losetup -fP --show "$tmp") || die "no loop device to be had"
partition_node || die "${loop}p1 did not appear: this kernel gives loop devices no partitions"
mkfs.ext4 -q -L root -O ^metadata_csum_seed,^orphan_file "${loop}p1" 2>/dev/null || mkfs.ext4 -q -L root "${loop}p1"
mount "${loop}p1" "$mnt"

pkgs=linux-image-amd64,grub-pc,systemd-sysv,dbus,libpam-systemd,udev,openssh-server,e2fsprogs,iproute2,iputils-ping,iperf3,curl
pkgs=$pkgs,ca-certificates,dnsutils,tftp-hpa,isc-dhcp-client,ethtool,python3-minimal,procps,pciutils,kmod,less,zstd,systemd-timesyncd
[ "$WITH_GCC" = 0 ] || pkgs=$pkgs,gcc,libc6-dev,make
for p in $EXTRA; do pkgs=$pkgs,$p; done

export DEBIAN_FRONTEND=noninteractive LC_ALL=C
cache=${XDG_CACHE_HOME:-$HOME/.cache}/emu/debootstrap
mkdir -p "$cache"
debootstrap --variant=minbase --cache-dir="$(cd "$cache" && pwd)" --include="$pkgs" bookworm "$mnt" "$MIRROR" >"$tmp.log" 2>&1 ||
    { tail -n 20 "$tmp.log" >&2; die "debootstrap failed, log in $tmp.log"; }
rm -f "$tmp.log"

mount --bind /dev "$mnt/dev"
mount -t devpts devpts "$mnt/dev/pts"
mount -t proc proc "$mnt/proc"
mount -t sysfs sysfs "$mnt/sys"
in_guest() { chroot "$mnt" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

uuid=$(blkid -s UUID -o value "${loop}p1")
cat >"$mnt/etc/fstab" <<END
UUID=$uuid / ext4 errors=remount-ro 0 1
END
cat >"$mnt/etc/apt/sources.list" <<END
deb $MIRROR bookworm main
deb $MIRROR bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
END
echo "$HOSTNAME_" >"$mnt/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\t\tlocalhost ip6-localhost ip6-loopback\n' "$HOSTNAME_" >"$mnt/etc/hosts"
echo 'root:root' | chroot "$mnt" /usr/sbin/chpasswd
mkdir -p "$mnt/etc/ssh/sshd_config.d" "$mnt/etc/systemd/network"
printf 'PermitRootLogin yes\nUseDNS no\n' >"$mnt/etc/ssh/sshd_config.d/emu.conf"
printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n' >"$mnt/etc/systemd/network/wired.network"
in_guest systemctl -q enable systemd-networkd ssh
# With no network card nothing would ever come online; and no timer shall disturb a measurement.
in_guest systemctl -q disable systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer dpkg-db-backup.timer fstrim.timer 2>/dev/null || :
in_guest systemctl -q mask apt-daily.timer apt-daily-upgrade.timer

cat >"$mnt/etc/default/grub" <<END
GRUB_DEFAULT=0
GRUB_TIMEOUT=$GRUB_TIMEOUT
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
END
in_guest grub-install --target=i386-pc "$loop" >/dev/null 2>&1 || die "grub-install failed"
# update-grub names the root by UUID only if udev has a link for it; where no udev runs, lend it one.
link=/dev/disk/by-uuid/$uuid
lent=
[ -e "$link" ] || { mkdir -p /dev/disk/by-uuid; ln -s "${loop}p1" "$link"; lent=1; }
in_guest update-grub >/dev/null 2>&1 || { [ -z "$lent" ] || rm -f "$link"; die "update-grub failed"; }
[ -z "$lent" ] || rm -f "$link"
grep -q "root=UUID=$uuid" "$mnt/boot/grub/grub.cfg" || die "grub.cfg does not name the root partition"

# The name service last: its package replaces resolv.conf.
[ -s "$mnt/etc/resolv.conf" ] || cp /etc/resolv.conf "$mnt/etc/resolv.conf" 2>/dev/null || :
printf '#!/bin/sh\nexit 101\n' >"$mnt/usr/sbin/policy-rc.d"
chmod 755 "$mnt/usr/sbin/policy-rc.d"
in_guest apt-get -qq update >/dev/null 2>&1 || :
in_guest apt-get -qq -y --no-install-recommends install systemd-resolved >/dev/null 2>&1 ||
    { rm -f "$mnt/etc/resolv.conf"; echo 'nameserver 10.0.2.3' >"$mnt/etc/resolv.conf"; }
rm -f "$mnt/usr/sbin/policy-rc.d"

in_guest apt-get clean
rm -rf "$mnt"/var/lib/apt/lists/* "$mnt"/var/log/*.log "$mnt"/var/log/apt
: >"$mnt/etc/machine-id"
rm -f "$mnt/var/lib/dbus/machine-id"
ln -s /etc/machine-id "$mnt/var/lib/dbus/machine-id"
# An empty machine-id would make every boot of a snapshot a first boot, with presets applied anew: settle it here.
in_guest systemd-machine-id-setup >/dev/null 2>&1 || :

finish() {
    for d in dev/pts dev proc sys ""; do
        ! mountpoint -q "$mnt/$d" || umount "$mnt/$d"
    done
    e2fsck -fp "${loop}p1" >/dev/null || [ $? -le 1 ] || die "the new file system does not pass e2fsck"
    sync
}

finish
if [ -n "$VARIANT" ]; then
    cp --sparse=always "$tmp" "$tmp.copy"
fi
losetup -d "$loop"
loop=
mv "$tmp" "$out"
if [ -n "$VARIANT" ]; then
    # The same tree with a menu that does not wait.
    mv "$tmp.copy" "$tmp"
    loop=$(losetup -fP --show "$tmp")
    partition_node || die "${loop}p1 did not appear"
    mount "${loop}p1" "$mnt"
    sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/' "$mnt/etc/default/grub"
    sed -i 's/set timeout=[1-9][0-9]*/set timeout=0/' "$mnt/boot/grub/grub.cfg"
    finish
    losetup -d "$loop"
    loop=
    mv "$tmp" "$VARIANT"
fi
echo "images/debian.sh: $out made, log in as root with password root"
