# tests/guests/lib.sh - what the guest scripts share. Read with `.`.
#
# Contract   guest NAME SECONDS ARGUMENTS... <SCRIPT    one run of $EMU with ARGUMENTS under tests/guests/expect, one test
#            check NAME COMMAND...                      a command that must succeed, one test
#            skip NAME WHY                              named, not counted
#            need NAME FILE...                          true if the images are there, else skips the test
#            wanted NAME                                true unless $ONLY (an extended expression) leaves the test out
#            finish                                     prints `N passed, N failed` and exits
# Variables  EMU     the emulator with arguments (./emu in the repository's root); "qemu-system-x86_64 -accel tcg" checks the scripts
#            EMU_IMAGES  where images/guests.sh and images/debian.sh put their files (/var/tmp/emu-images)
#            OUT     serial logs (build/guests); SLOW multiplies every time limit (1; a sanitizer build wants 10)
#            LONG=1  the long ones too

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${EMU:=$top/emu}" "${EMU_IMAGES:=/var/tmp/emu-images}" "${OUT:=$top/build/guests}" "${SLOW:=1}" "${LONG:=0}" "${ONLY:=}" "${CC:=cc}"
PATH=$PATH:/usr/sbin:/sbin
passed=0 failed=0 skipped=0
mkdir -p "$OUT" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
$CC -std=c99 -O1 -o "$work/expect" "$here/expect.c" || exit 1

case $EMU in *qemu-system*) is_qemu=1 ;; *) is_qemu=0 ;; esac

wanted() { [ -z "$ONLY" ] || echo "$1" | grep -Eq -- "$ONLY"; }
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }
pass() { echo "ok   $1${2:+ ($2)}"; passed=$((passed + 1)); }
flunk() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }

need() {
    need_name=$1
    shift
    wanted "$need_name" || return 1
    for f; do
        [ -r "$EMU_IMAGES/$f" ] || [ -r "$f" ] || { skip "$need_name" "$f is not there (images/guests.sh, images/debian.sh)"; return 1; }
    done
}

guest() {
    guest_name=$1
    guest_limit=$(($2 * SLOW))
    shift 2
    # Limits within the script are stretched too.
    awk -v slow="$SLOW" '$1 == "limit" { $2 *= slow } { print }' >"$work/script"
    if "$work/expect" -t "$guest_limit" -l "$OUT/$guest_name.log" "$work/script" $EMU "$@" >"$work/times" 2>"$work/errors"; then
        pass "$guest_name" "$(tr '\n' ' ' <"$work/times" | sed 's/ $//')"
    else
        flunk "$guest_name" "$(grep '^expect: ' "$work/errors" | head -n 1); log: $OUT/$guest_name.log"
        sed 's/^/    /' "$work/errors"
        return 1
    fi
}

check() {
    check_name=$1
    shift
    if "$@" >"$work/check" 2>&1; then
        pass "$check_name"
    else
        flunk "$check_name" "\`$*\` failed"
        sed 's/^/    /' "$work/check" | tail -n 15
        return 1
    fi
}

finish() {
    [ $skipped = 0 ] || echo "$skipped skipped"
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
    exit
}

# A script's lines to log in on a full Debian disk made by images/debian.sh.
debian_login='wait login: $
line root
wait Password: 
line root
wait #
line stty cols 200; PS1="em""u> "
wait emu> '
