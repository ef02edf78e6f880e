# images/lib.sh - what the image scripts share. Read with `.`; POSIX sh, no root.
#
# Contract   fetch_deb ARCH PACKAGE DIR    the package's files under DIR; downloaded once, then from the cache
#            fetch_kernel ARCH DIR         the current kernel image package under DIR; sets kernel_release
#            make_cpio DIR OUT             DIR as an initramfs (newc, gzip), owned by root, times 0: the same tree gives the same bytes
#            mbr_partition IMG START COUNT TYPE   writes a partition table with one bootable entry (sectors, decimal type)
#            have TOOL                     is it installed?
# Theory     A private apt state directory per architecture with Debian's bookworm as its only source: the host's sources,
#            architectures and pins do not matter, and nothing is installed. $EMU_CACHE, $XDG_CACHE_HOME/emu or ~/.cache/emu.

PATH=$PATH:/usr/sbin:/sbin
: "${EMU_CACHE:=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/emu}" "${MIRROR:=http://deb.debian.org/debian}" "${SUITE:=bookworm}"

have() { command -v "$1" >/dev/null 2>&1; }

# What apt is told so that it keeps to its own corner.
apt_private() {
    apt_arch=$1
    shift
    apt_dir=$EMU_CACHE/apt-$apt_arch
    apt-get -q -o Dir="$apt_dir" -o Dir::State="$apt_dir/state" -o Dir::State::status="$apt_dir/status" -o Dir::Cache="$apt_dir/cache" \
        -o Dir::Etc="$apt_dir/etc" -o Dir::Etc::sourcelist="$apt_dir/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::trustedparts=/etc/apt/trusted.gpg.d \
        -o Dir::Etc::main="$apt_dir/etc/apt.conf" -o Dir::Etc::parts=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o Dir::Log="$apt_dir" \
        -o APT::Architecture="$apt_arch" -o APT::Architectures::="$apt_arch" -o Acquire::Languages=none -o APT::Get::List-Cleanup=0 \
        -o APT::Sandbox::User= -o Dir::Ignore-Files-Silently::='(.*)' "$@"
}

# Package lists: fetched once a day at most.
apt_lists() {
    lists_dir=$EMU_CACHE/apt-$1
    [ -z "$(find "$lists_dir/fresh" -mtime -1 2>/dev/null)" ] || return 0
    mkdir -p "$lists_dir/state/lists/partial" "$lists_dir/cache/archives/partial" "$lists_dir/etc" || return 1
    : >"$lists_dir/status"
    : >"$lists_dir/etc/apt.conf"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f $keyring ] && signed="[signed-by=$keyring]" || signed=
    printf 'deb %s %s %s main main/debian-installer\ndeb %s %s %s-updates main\ndeb %s %s %s-security main\n' "$signed" "$MIRROR" "$SUITE" "$signed" "$MIRROR" "$SUITE" \
        "$signed" "${MIRROR%/debian}/debian-security" "$SUITE" >"$lists_dir/etc/sources.list"
    apt_private "$1" update >"$lists_dir/update.log" 2>&1 || {
        # Without the network, lists of an earlier day still do.
        ls "$lists_dir"/state/lists/*Packages* >/dev/null 2>&1 || { tail -n 3 "$lists_dir/update.log" >&2; return 1; }
        return 0
    }
    : >"$lists_dir/fresh"
}

# fetch_deb ARCH PACKAGE DIR. "all" packages are found in the amd64 lists.
fetch_deb() {
    fetch_arch=$1
    [ "$fetch_arch" != all ] || fetch_arch=amd64
    have apt-get && have dpkg-deb || { echo "  apt-get and dpkg-deb are needed to fetch $2" >&2; return 1; }
    apt_lists "$fetch_arch" || return 1
    debs=$EMU_CACHE/debs-$fetch_arch
    mkdir -p "$debs" "$3" || return 1
    want=$(cd "$debs" && apt_private "$fetch_arch" --print-uris download "$2" 2>/dev/null | sed -n "s/^'[^']*' \([^ ]*\) .*/\1/p" | head -n 1)
    if [ -n "$want" ]; then
        [ -f "$debs/$want" ] || (cd "$debs" && apt_private "$fetch_arch" download "$2" >"$debs/download.log" 2>&1) ||
            { tail -n 2 "$debs/download.log" >&2; return 1; }
    fi
    # apt writes the version's colon as %3a in the name; whatever it is called, the newest of this package is meant.
    deb=$(ls -t "$debs/${2}"_*deb 2>/dev/null | head -n 1)
    [ -n "$deb" ] || { echo "  package $2 ($1) is not to be had from $MIRROR" >&2; return 1; }
    dpkg-deb -x "$deb" "$3"
}

# The kernel's meta package depends on the one of the day.
fetch_kernel() {
    meta=linux-image-amd64
    [ "$1" != i386 ] || meta=linux-image-686
    apt_lists "$1" || return 1
    apt_dir=$EMU_CACHE/apt-$1
    fetch_deb "$1" "$meta" "$2" || return 1
    real=$(dpkg-deb -f "$deb" Depends | tr ', ' '\n\n' | grep '^linux-image-[0-9]' | head -n 1)
    [ -n "$real" ] || return 1
    fetch_deb "$1" "$real" "$2" || return 1
    kernel_release=${real#linux-image-}
    kernel_release=${kernel_release%-unsigned}
    [ -f "$2/boot/vmlinuz-$kernel_release" ]
}

make_cpio() {
    have cpio || { echo "  cpio is missing (apt-get install cpio)" >&2; return 1; }
    (cd "$1" && find . -exec touch -h -d @0 {} + && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) | gzip -9n >"$2"
}

# One byte, two bytes ... of a number, little endian, for printf.
le_bytes() {
    le_n=$1 le_count=$2
    while [ "$le_count" -gt 0 ]; do
        printf '\\%03o' $((le_n & 255))
        le_n=$((le_n >> 8)) le_count=$((le_count - 1))
    done
}

mbr_partition() {
    printf "$(le_bytes 0x656d7532 4)\\000\\000\\200\\376\\377\\377$(le_bytes "$4" 1)\\376\\377\\377$(le_bytes "$2" 4)$(le_bytes "$3" 4)" |
        dd of="$1" bs=1 seek=440 conv=notrunc 2>/dev/null &&
        printf '\125\252' | dd of="$1" bs=1 seek=510 conv=notrunc 2>/dev/null
}

# apt_cache_names ARCH PREFIX: the packages whose names begin so.
apt_cache_names() { zless_lists "$1" | sed -n "s/^Package: \($2.*\)/\1/p"; }
# The lists lie compressed as apt likes it.
zless_lists() {
    for list in "$EMU_CACHE/apt-$1"/state/lists/*Packages*; do
        [ ! -f "$list" ] || /usr/lib/apt/apt-helper cat-file "$list" 2>/dev/null
    done
}
