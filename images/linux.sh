#!/bin/sh
# images/linux.sh - makes the small Linux disk of `make run` from Debian's packages, without root.
#
# Usage      images/linux.sh OUT.img
# Result     A raw disk of 96 MiB (sparse): MBR partition table, GRUB in the gap before the first partition, one ext4 root with
#            Debian's kernel, an initramfs, busybox and an ssh server (dropbear). It takes its address by DHCP, answers on port 22 and
#            logs root in without a password, on the serial port, the screen and by ssh. Host keys are made at the first
#            connection and stay. `poweroff` ends it.
# Variables  SSH_KEY=FILE        a public key for root;  SIZE_MIB (96);  GRUB_TIMEOUT (1);  MIRROR, SUITE, EMU_CACHE as in lib.sh
# Theory     Packages are unpacked, not installed. The kernel is the installer's build (the same source and vmlinuz as the
#            ordinary one, its modules in small packages, 16 MB in all). mkfs.ext4 -d fills the file system, debugfs then
#            gives every file to root. GRUB's core is written behind the MBR as grub-install does: its boot sector loads sector
#            1, which loads the rest. Times and identifiers are fixed, so the same packages give nearly the same bytes.
# Needs      A Debian-like machine: apt, dpkg-deb, e2fsprogs, sfdisk not needed; about 30 MB of downloads, kept in the cache.

set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

die() { echo "images/linux.sh: $*" >&2; exit 1; }
[ $# = 1 ] || die "usage: images/linux.sh OUT.img"
out=$1
: "${SSH_KEY:=}" "${SIZE_MIB:=96}" "${GRUB_TIMEOUT:=1}"

have apt-get && have dpkg-deb || die "this needs Debian's or Ubuntu's apt; elsewhere give emu any raw or qcow2 x86_64 Linux disk: ./emu -net user,hostfwd=tcp::2222-:22 DISK"
have mkfs.ext4 && have debugfs || die "mkfs.ext4 and debugfs are missing: apt-get install e2fsprogs"
have cpio || die "cpio is missing: apt-get install cpio"
[ -z "$SSH_KEY" ] || [ -r "$SSH_KEY" ] || die "SSH_KEY: $SSH_KEY can't be read"

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
umask 022

echo "images/linux.sh: fetching Debian packages into $EMU_CACHE"
apt_lists amd64 || die "Debian's package lists can't be had from $MIRROR (on Ubuntu: apt-get install debian-archive-keyring; no network: any disk image will do)"
release=$(apt_cache_names amd64 'kernel-image-' | sed -n 's/^kernel-image-\([0-9.]*-[0-9]*-amd64\)-di$/\1/p' | sort -t- -k1,1V -k2,2n | tail -n 1)
[ -n "$release" ] || die "$MIRROR has no kernel-image-*-amd64-di for $SUITE"
for p in kernel-image ata-modules pata-modules sata-modules scsi-core-modules scsi-modules ext4-modules crc-modules nic-modules nic-shared-modules; do
    fetch_deb amd64 "$p-$release-di" "$tmp/kernel" || die "package $p-$release-di could not be fetched"
done
for p in busybox-static dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1 zlib1g libc6; do
    fetch_deb amd64 $p "$tmp/user" || die "package $p could not be fetched"
done
fetch_deb amd64 grub-pc-bin "$tmp/grub" || die "package grub-pc-bin could not be fetched"

# ---- kernel modules: each with its dependencies in loading order ----
modules=$tmp/modules
mkdir -p "$modules"
find "$tmp/kernel/lib/modules" -name '*.ko' | awk -F/ '{ n = $NF; sub(/\.ko$/, "", n); gsub(/-/, "_", n); print n, $0 }' >"$tmp/index"
# put_module NAME: it and what it depends on go to $modules; $modules/deps gets a line `NAME: FIRST SECOND ...`
put_module() {
    [ ! -f "$modules/$1.ko" ] || return 0
    pm_file=$(sed -n "s/^$1 //p" "$tmp/index" | head -n 1)
    [ -n "$pm_file" ] || return 0           # built in
    cp "$pm_file" "$modules/$1.ko"
    echo "$1:$(module_depends "$1")" >>"$modules/deps"
}
module_depends() {
    for d in $(tr '\000' '\n' <"$modules/$1.ko" | sed -n 's/^depends=//p' | head -n 1 | tr ',' ' ' | tr - _); do
        (put_module "$d")
        if [ -f "$modules/$d.ko" ]; then
            sed -n "s/^$d://p" "$modules/deps" | head -n 1
            echo "$d"
        fi
    done | tr '\n' ' '
}
for m in crc32c_generic ata_piix ata_generic ahci sd_mod virtio_pci virtio_blk virtio_scsi nvme ext4; do put_module $m; done
(cd "$modules" && ls ./*.ko) >"$tmp/early"
for m in e1000 e1000e 8139cp 8139too pcnet32 ne2k_pci virtio_net virtio_rng; do put_module $m; done
for m in sd_mod ext4 e1000; do [ -f "$modules/$m.ko" ] || die "module $m is not in the kernel's packages"; done

# `load NAME...` for init and rc.
cat >"$tmp/load" <<'END'
load() {
    for module; do
        for part in $(sed -n "s/^$module://p" /lib/modules/deps) $module; do
            [ -d /sys/module/$part ] || [ ! -f /lib/modules/$part.ko ] || insmod /lib/modules/$part.ko 2>/dev/null
        done
    done
}
# pci_load ID=MODULE...: those whose vendor:device is on the bus
pci_load() {
    for device in /sys/bus/pci/devices/*; do
        id=$(cut -c3- "$device/vendor"):$(cut -c3- "$device/device"):$(cut -c3-6 "$device/class")
        for pair; do
            case $id in ${pair%%=*}) load "${pair#*=}" ;; esac
        done
    done
}
END

# ---- initramfs: finds the root file system by its label ----
early=$tmp/initramfs
mkdir -p "$early/bin" "$early/proc" "$early/sys" "$early/dev" "$early/root" "$early/lib/modules"
cp "$tmp/user/bin/busybox" "$early/bin/busybox"
cp "$modules/deps" "$early/lib/modules/deps"
(cd "$modules" && while read -r f; do cp "$f" "$early/lib/modules/"; done) <"$tmp/early"
{
    echo '#!/bin/busybox sh'
    echo '/bin/busybox --install -s /bin'
    echo 'export PATH=/bin'
    cat "$tmp/load"
    cat <<'END'
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
load crc32c_generic
pci_load '8086:*:0101=ata_piix' '*:0101=ata_generic' '*:0106=ahci' '*:0108=nvme' '1af4:*=virtio_pci'
load sd_mod virtio_blk virtio_scsi ext4
tries=0
until root=$(findfs LABEL=emu-linux 2>/dev/null); do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { echo "no disk labelled emu-linux"; exec sh; }
    usleep 100000
done
mount -t ext4 "$root" /root || exec sh
mount -o move /dev /root/dev
umount /sys /proc
exec switch_root /root /sbin/init
END
} >"$early/init"
chmod 755 "$early/init"

# ---- the root file system ----
root=$tmp/root
mkdir -p "$root/bin" "$root/sbin" "$root/etc/dropbear" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/root/.ssh" \
    "$root/var/log" "$root/var/run" "$root/usr/bin" "$root/usr/sbin" "$root/lib64" "$root/lib/modules" "$root/lib/x86_64-linux-gnu" \
    "$root/usr/lib" "$root/usr/share/udhcpc" "$root/boot/grub"
cp "$tmp/user/bin/busybox" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list 2>/dev/null || echo sh mount init); do
    case $applet in busybox | dpkg | dpkg-deb) ;; *) ln -s busybox "$root/bin/$applet" 2>/dev/null || : ;; esac
done
ln -s ../bin/busybox "$root/sbin/init"
for f in ld-linux-x86-64.so.2 libc.so.6 libcrypt.so.1 libtomcrypt.so.1 libtommath.so.1 libgmp.so.10 libz.so.1 libm.so.6; do
    src=$(find "$tmp/user" -name "$f" | head -n 1)
    [ -n "$src" ] || die "$f is not in its package"
    cp -L "$src" "$root/lib/x86_64-linux-gnu/$f" 2>/dev/null ||
        cp "$(dirname "$src")/$(basename "$(readlink "$src")")" "$root/lib/x86_64-linux-gnu/$f" || die "$f could not be copied"
done
ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/lib64/ld-linux-x86-64.so.2"
for f in dropbear dropbearkey dbclient; do
    cp "$(find "$tmp/user" -name $f -type f -perm -1 | head -n 1)" "$root/usr/sbin/$f" || die "$f is not in its package"
done
ln -s ../sbin/dbclient "$root/usr/bin/ssh"
cp "$modules/deps" "$modules"/*.ko "$root/lib/modules/"
cp "$tmp/kernel/boot/vmlinuz" "$root/boot/vmlinuz" || die "no kernel in its package"

echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root::19700:0:99999:7:::' >"$root/etc/shadow"
chmod 600 "$root/etc/shadow"
echo 'root:x:0:' >"$root/etc/group"
echo emu >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost emu\n::1\tlocalhost\n' >"$root/etc/hosts"
echo /bin/sh >"$root/etc/shells"
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
ln -s ../run/resolv.conf "$root/etc/resolv.conf"
printf 'export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root\nPS1='"'"'emu:\\w# '"'"'\n' >"$root/etc/profile"
printf '\nemu: a small Linux (\\s \\r). Log in as root, no password; poweroff ends it.\n\n' >"$root/etc/issue"
[ -z "$SSH_KEY" ] || cp "$SSH_KEY" "$root/root/.ssh/authorized_keys"
chmod 700 "$root/root" "$root/root/.ssh"
[ -z "$SSH_KEY" ] || chmod 600 "$root/root/.ssh/authorized_keys"
cat >"$root/etc/inittab" <<'END'
::sysinit:/etc/rc
ttyS0::respawn:/bin/getty -L 115200 ttyS0 vt100
tty1::respawn:/bin/getty 38400 tty1 linux
::ctrlaltdel:/bin/reboot
::shutdown:/etc/rc.stop
END
{
    echo '#!/bin/sh'
    echo 'export PATH=/bin:/sbin:/usr/bin:/usr/sbin'
    cat "$tmp/load"
    cat <<'END'
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=0,mode=620 devpts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
hostname -F /etc/hostname
pci_load '8086:100e:*=e1000' '8086:100f:*=e1000' '8086:10d3:*=e1000e' '10ec:8139:*=8139cp' '10ec:8029:*=ne2k_pci' '1022:2000:*=pcnet32' '1af4:*=virtio_pci'
load virtio_net virtio_rng
ifconfig lo 127.0.0.1 up
for card in /sys/class/net/*; do
    card=${card##*/}
    [ "$card" = lo ] && continue
    ifconfig "$card" up
    udhcpc -q -b -S -i "$card" -s /etc/udhcpc.sh -x hostname:emu >/dev/null 2>&1 &
done
dropbear -R -B -p 22
END
} >"$root/etc/rc"
cat >"$root/etc/rc.stop" <<'END'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
killall dropbear udhcpc 2>/dev/null
sync
umount /tmp /run 2>/dev/null
mount -o remount,ro /
END
# udhcpc calls it with what the server said in the environment.
cat >"$root/etc/udhcpc.sh" <<'END'
#!/bin/sh
export PATH=/bin
case $1 in
deconfig)
    ifconfig "$interface" 0.0.0.0
    ;;
bound | renew)
    ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}" ${mtu:+mtu $mtu}
    for r in $router; do
        route add default gw "$r" dev "$interface" 2>/dev/null
    done
    for d in $dns; do
        echo "nameserver $d"
    done >/run/resolv.conf
    ;;
esac
END
chmod 755 "$root/etc/rc" "$root/etc/rc.stop" "$root/etc/udhcpc.sh"
make_cpio "$early" "$root/boot/initramfs.gz" || die "the initramfs could not be made"

cat >"$root/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=$GRUB_TIMEOUT
set default=0
menuentry "Linux $release" {
    linux /boot/vmlinuz console=tty0 console=ttyS0,115200 quiet
    initrd /boot/initramfs.gz
}
menuentry "Linux $release, with all messages" {
    linux /boot/vmlinuz console=tty0 console=ttyS0,115200
    initrd /boot/initramfs.gz
}
END

# ---- GRUB's core image: the host's grub-mkimage, or the package's with the package's libraries ----
mods="biosdisk part_msdos ext2 normal linux serial terminal configfile echo ls cat test minicmd halt reboot search search_label"
mkimage=grub-mkimage
if ! have grub-mkimage; then
    for p in grub-common liblzma5 libdevmapper1.02.1 libselinux1 libudev1 libpcre2-8-0; do
        fetch_deb amd64 $p "$tmp/user" || die "package $p could not be fetched"
    done
    libs=$tmp/user/lib/x86_64-linux-gnu:$tmp/user/usr/lib/x86_64-linux-gnu
    mkimage="$tmp/user/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path $libs $tmp/user/usr/bin/grub-mkimage"
fi
pc=$tmp/grub/usr/lib/grub/i386-pc
# shellcheck disable=SC2086
$mkimage -d "$pc" -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$tmp/core.img" $mods || die "grub-mkimage failed (install grub-common)"
[ "$(wc -c <"$tmp/core.img")" -le $((2047 * 512)) ] || die "GRUB's core does not fit before the first partition"

# ---- the disk ----
find "$root" -exec touch -h -d @1700000000 {} + 2>/dev/null
fs_mib=$((SIZE_MIB - 1))
rm -f "$tmp/fs"
truncate -s "${fs_mib}M" "$tmp/fs"
E2FSPROGS_FAKE_TIME=1700000000 mkfs.ext4 -q -F -L emu-linux -U 656d7521-0000-4000-8000-000000000001 -O ^metadata_csum_seed,^orphan_file,^resize_inode -m 0 -J size=4 \
    -E hash_seed=656d7521-0000-4000-8000-000000000002,lazy_itable_init=0,root_owner=0:0 -d "$root" "$tmp/fs" >"$tmp/mkfs.log" 2>&1 ||
    E2FSPROGS_FAKE_TIME=1700000000 mkfs.ext4 -q -F -L emu-linux -m 0 -d "$root" "$tmp/fs" >"$tmp/mkfs.log" 2>&1 ||
    { cat "$tmp/mkfs.log" >&2; die "mkfs.ext4 failed"; }
if [ "$(id -u)" != 0 ]; then
    (cd "$root" && find . | sed 's/^\.//; s/^$/\//' | while read -r f; do printf 'sif "%s" uid 0\nsif "%s" gid 0\n' "$f" "$f"; done) >"$tmp/owners"
    E2FSPROGS_FAKE_TIME=1700000000 debugfs -w -f "$tmp/owners" "$tmp/fs" >/dev/null 2>"$tmp/debugfs.log" || { cat "$tmp/debugfs.log" >&2; die "debugfs failed"; }
fi
disk=$tmp/disk
truncate -s "${SIZE_MIB}M" "$disk"
dd if="$pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc 2>/dev/null && mbr_partition "$disk" 2048 $((fs_mib * 2048)) 131 &&
    dd if="$tmp/core.img" of="$disk" bs=512 seek=1 conv=notrunc 2>/dev/null &&
    dd if="$tmp/fs" of="$disk" bs=1M seek=1 conv=notrunc,sparse 2>/dev/null || die "$disk could not be written"
cp --sparse=always "$disk" "$out.new" 2>/dev/null || cp "$disk" "$out.new" || die "$out could not be written"
mv "$out.new" "$out" || exit 1
echo "images/linux.sh: $out made; start it with: ./emu -net user,hostfwd=tcp::2222-:22 $out   (root, no password)"
