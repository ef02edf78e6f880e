#!/bin/sh
# kernels.sh - -kernel with small kernels of each kind that judge what they are given: Multiboot 0.6.96 (§3.1.3 address fields, §3.2 state, §3.3
# information), Xen's PVH entry (ELF note 18, struct hvm_start_info version 1). Each prints its command line and ends with status 33, or 35 where
# something is not as its document says. (A Multiboot ELF file is what bench_kernels boots, Linux what the guests do.)
: "${EMU:=./emu}"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }
hex() { for b in "$@"; do printf "\\$(printf %o "0x$b")"; done; }

# Loaded at 2 MiB without its last 16 bytes, which BSS covers: 60h bytes and entry at 20h.
flat() {
    hex 02 B0 AD 1B 00 00 01 00 FE 4F 51 E4 # magic, flags: address fields, checksum
    hex 00 00 20 00 00 00 20 00 60 00 20 00 00 10 20 00 20 00 20 00 # header, load, load end, BSS end, entry
    hex 3D 02 B0 AD 2B 75 20                # cmp eax,2BADB002h; jne fail
    hex 80 3D 60 00 20 00 00 75 17          # cmp byte [200060h],0; jne fail
    hex 8B 73 10 BA F8 03 00 00             # mov esi,[ebx+16]; mov edx,3F8h
    hex AC 84 C0 74 03 EE EB F8             # next: lodsb; test al,al; jz end; out dx,al; jmp next
    hex B0 10 E6 F4 EB FE                   # end: mov al,10h; out 0F4h,al
    hex 90 B0 11 E6 F4 EB FE                # fail: mov al,11h; out 0F4h,al
    head -c 19 /dev/zero
    hex FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF
}
# An ELF file of 32 bits: headers of 74h bytes, the note, code at A0h; all of it loaded at 1 MiB, entry 1000A0h.
pvh() {
    hex 7F 45 4C 46 01 01 01 00 00 00 00 00 00 00 00 00 02 00 03 00 01 00 00 00
    hex 00 00 00 00 34 00 00 00 00 00 00 00 00 00 00 00 34 00 20 00 02 00 28 00 00 00 00 00 # no entry of its own, 2 program headers
    hex 01 00 00 00 00 00 00 00 00 00 10 00 00 00 10 00 20 01 00 00 00 20 00 00 07 00 00 00 00 10 00 00 # PT_LOAD
    hex 04 00 00 00 74 00 00 00 74 00 10 00 74 00 10 00 14 00 00 00 14 00 00 00 04 00 00 00 04 00 00 00 # PT_NOTE
    hex 04 00 00 00 04 00 00 00 12 00 00 00 58 65 6E 00 A0 00 10 00 # "Xen", 18: 1000A0h
    head -c 24 /dev/zero
    hex 81 3B 78 C5 6E 33 75 58             # cmp dword [ebx],336EC578h; jne fail
    hex 83 7B 04 01 75 52                   # version 1
    hex 83 7B 0C 01 75 4C                   # one module
    hex 8B 43 20 81 38 52 53 44 20 75 41    # its RSDP: "RSD "
    hex 83 7B 30 02 72 3B                   # at least 2 ranges of memory
    hex 8B 43 28 83 38 00 75 33             # the first begins at 0
    hex 83 78 10 01 75 2D                   # and is RAM
    hex 8B 73 18 BA F8 03 00 00             # mov esi,[ebx+24]; mov edx,3F8h
    hex AC 84 C0 74 03 EE EB F8             # the command line
    hex B0 20 EE 8B 43 10 8B 30 8B 48 08    # a space; mov eax,[ebx+16]; mov esi,[eax]; mov ecx,[eax+8]
    hex F3 6E B0 10 E6 F4 EB FE             # rep outsb; end
    hex 90 90 90 90 90 90 90 90 90 90
    hex B0 11 E6 F4 EB FE                   # fail
    head -c 26 /dev/zero
}
flat > "$dir/flat"
pvh > "$dir/pvh"
[ "$(wc -c < "$dir/flat")" = 112 ] && [ "$(wc -c < "$dir/pvh")" = 288 ] || { echo "FAIL kernels: $(wc -c < "$dir/flat") and $(wc -c < "$dir/pvh") bytes"; exit 1; }
printf module > "$dir/module"

# boots NAME TEXT ARGS...: ends with status 33, having printed the text
boots() {
    name=$1 text=$2
    shift 2
    timeout 60 "$EMU" -m 16M -net none -display none -monitor none -serial "file:$dir/serial" -device isa-debug-exit,iobase=0xf4 "$@" > "$dir/out" 2>&1 < /dev/null
    status=$?
    if [ $status != 33 ]; then bad "$name" "status $status: $(head -n 3 "$dir/out")"
    elif ! grep -qF -- "$text" "$dir/serial"; then bad "$name" "printed $(head -c 100 "$dir/serial"), not $text"
    else ok "$name"; fi
}
boots multiboot_flat "$dir/flat one two" -kernel "$dir/flat" -append 'one two'
boots pvh "three four module" -kernel "$dir/pvh" -append 'three four' -initrd "$dir/module"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
