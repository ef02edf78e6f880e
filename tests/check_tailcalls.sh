#!/bin/sh
# check_tailcalls.sh - the hot handlers of the CPU's engine are leaves: no calls, no stack frame, and they end in an indirect jump.
#
# A local whose address escapes, or a helper that is not inlined, turns a handler's tail call into a call without a warning. Looks at the
# disassembly of $EMU, as users get it. Skipped where there is no objdump, or EMU was built without optimisation or by a compiler without tail calls.
cd "$(dirname "$0")/.." || exit 1
: "${EMU:=$PWD/emu}"
command -v objdump >/dev/null 2>&1 || { echo "skip check_tailcalls: no objdump"; exit 0; }
case $(uname -m) in x86_64) ;; *) echo "skip check_tailcalls: knows x86-64 disassembly only"; exit 0 ;; esac
[ -x "$EMU" ] || { echo "skip check_tailcalls: no $EMU"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
objdump -d --no-show-raw-insn "$EMU" >"$dir/code"
if ! grep -q '<uop_call8>:$' "$dir/code"; then
    echo "skip check_tailcalls: $EMU has no symbols"
    exit 0
fi
# Handlers that may call: slow ways, plain-C instructions, flags that need the old carry. A part that handlers share would share its jump too.
awk '
    /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]/, "", name); next }
    name ~ /^uop_/ && name !~ /(_slow|_priv)/ {
        if ($2 == "call") calls[name] = 1
        if ($2 == "push") pushes[name] = 1
        if ($2 == "sub" && $3 ~ /,%rsp$/) frames[name] = 1
        if ($2 == "jmp" && $3 ~ /^\*/) jumps[name] = 1
        seen[name] = 1
    }
    END {
        may = "^uop_(adc|sbb|inc[148]f|inc2f|dec[1248]f|inc[148]_m|dec[148]_m|rol[248]f|ror[248]f|flags$|flags_keep|ret8_jump|jc_any|cond_any|call$|call_end|agen|commit|miss|mmx_begin|vec_rr|enter|indirect_miss|stop|exit_far|leave|exit_resolve|dead|count|fault|raise|no_unit|misaligned|rip|link|mulhi|refresh|string_element|string_repeat)"
        for (n in seen) {
            total++
            if (n ~ /[.]part[.]/) { print "shared part " n; bad++ }
            if (n ~ may) continue
            hot++; if (n in pushes) saved++
            if (n ~ /^uop_div[48]_1$/) continue # DIV by RDX always faults: it leaves by a direct jump
            if (n in calls) { print "call in " n; bad++ }
            else if (n in frames) { print "frame in " n; bad++ }
            else if (!(n in jumps)) { print "no indirect jump in " n; bad++ }
        }
        printf "%d handlers, %d hot, %d of them save a register, %d bad\n", total, hot, saved, bad
        exit bad > 0
    }' "$dir/code" > "$dir/out" && passed=$((passed + 1)) || failed=$((failed + 1))
tail -n 12 "$dir/out"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
