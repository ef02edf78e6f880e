#!/bin/sh
# Prints emu.c: the parts named in src/parts.txt, in that order, as one file. Deterministic: no dates, no paths.
# Local #include lines go, since each part stands in the file once; that of emu.h stays, for the user's second file.
set -e
cd "$(dirname "$0")/.."
cat <<'HEAD'
/* emu.c - a PC in one C file. GENERATED from src/ by `make emu.c`: edit there, not here.
 *
 * Build:  cc -O2 emu.c -o emu
 * Use:    ./emu -nographic disk.img
 * Embed:  compile with -DEMU_NO_MAIN and read emu.h.
 *
 * SPDX-License-Identifier: MIT
 */
#define EMU_AMALGAMATION 1
HEAD
while read -r part; do
    [ -n "$part" ] && [ -f "$part" ] || continue
    printf '\n/* ======================================== src/%s ======================================== */\n\n' "$part"
    awk '
        /^[ \t]*#[ \t]*include[ \t]*"[^"]*emu\.h"/ { print "#include \"emu.h\""; next }
        /^[ \t]*#[ \t]*include[ \t]*"/ { next }
        { print }
    ' "$part"
done < parts.txt
