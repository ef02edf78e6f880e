#!/bin/sh
# build.sh - what a person builds and installs: make install, clean, CC, CFLAGS, PREFIX and DESTDIR; no warnings; the example as C++; only emu_* symbols.
# LONG=1: the compiler's time and peak memory for emu.c at -O2.
: "${CC:=cc}"
: "${EMU:=./emu}"
top=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAIL %s\n' "$*"; }
# check NAME COMMAND...: the command succeeds
check() {
    name=$1
    shift
    if "$@" > "$dir/out" 2>&1; then ok; else bad "$name: $(head -n 5 "$dir/out")"; fi
}
same() { [ "$2" = "$3" ] && ok || bad "$1: \"$2\", wanted \"$3\""; }

# A tree of our own, with the emulator under test in it, newer than everything.
mkdir "$dir/tree"
(cd "$top" && cp -Rp Makefile emu.h emu.c src "$dir/tree/")
touch "$dir/tree/emu.c"
cp "$EMU" "$dir/tree/emu"
cd "$dir/tree" || exit 1

# ---- make install: every file, where PREFIX and DESTDIR say, and the installed things work ----
check install make -s install DESTDIR="$dir/root" PREFIX=/opt/emu
same installed_files "$(cd "$dir/root" && find . -type f | LC_ALL=C sort | tr '\n' ' ')" './opt/emu/bin/emu ./opt/emu/include/emu.h ./opt/emu/share/man/man1/emu.1 ./opt/emu/src/emu.c '
check installed_program "$dir/root/opt/emu/bin/emu" -version
check installed_source cmp "$dir/root/opt/emu/src/emu.c" "$top/emu.c"
same default_prefix "$(make -n install DESTDIR=/d | grep -c '/d/usr/local/')" 5
if command -v groff >/dev/null 2>&1; then
    same manual_warnings "$(groff -man -Tutf8 -ww "$dir/root/opt/emu/share/man/man1/emu.1" 2>&1 >"$dir/manual")" ''
    grep -q 'Spelling and defaults' "$dir/manual" && ok || bad 'manual: its text is not rendered'
elif command -v man >/dev/null 2>&1; then
    same manual_warnings "$(MANWIDTH=80 man --warnings -l "$dir/root/opt/emu/share/man/man1/emu.1" 2>&1 >/dev/null)" ''
else
    echo 'skip manual_warnings: neither groff nor man is installed'
fi

# ---- make run elsewhere than on a Debian-like machine: one line that says what to do ----
mkdir "$dir/tools"
for tool in sh dirname pwd make cat; do ln -s "$(command -v $tool)" "$dir/tools/" 2>/dev/null; done
cp -Rp "$top/images" .
rm -f images/linux.img
PATH=$dir/tools make -s run > "$dir/out" 2>&1 && bad 'run_without_apt: it succeeded' || ok
same run_without_apt "$(grep -c . "$dir/out") $(grep -c 'elsewhere give emu any raw or qcow2 x86_64 Linux disk' "$dir/out")" '2 1' # make adds its own
rm -rf images

# ---- CC, CFLAGS, LDFLAGS: a compiler that writes down how it was called ----
cat > "$dir/cc" <<END
#!/bin/sh
echo "\$@" >> "$dir/cc.log"
while [ \$# -gt 0 ]; do [ "\$1" != -o ] || : > "\$2"; shift; done
END
chmod 755 "$dir/cc"
rm -f emu
check make_with_compiler make -s emu CC="$dir/cc" CFLAGS='-O3 -DMINE' LDFLAGS=-Lnowhere
same compiler_line "$(cat "$dir/cc.log")" '-std=c99 -pedantic -Wall -Wextra -O3 -DMINE emu.c -o emu -Lnowhere'
: > "$dir/cc.log"
check make_dev make -s dev CC="$dir/cc" DEV_CFLAGS=-O7
grep -q -- '-std=c99 -pedantic -Wall -Wextra -O7 .*-c src/front/options.c -o build/dev/front/options.o' "$dir/cc.log" && ok || bad "make_dev: $(head -n 2 "$dir/cc.log")"

# ---- make clean takes away what make made, and no source ----
check clean make -s clean
same clean_leaves "$(ls | tr '\n' ' ')" 'Makefile emu.c emu.h src '
check remakes_emu_c_from_src sh -c 'rm emu.c && make -s emu.c && cmp emu.c "$1"' sh "$top/emu.c"
cd "$top" || exit 1

# ---- no warning; a header for C++ ----
for c in gcc clang; do
    command -v $c >/dev/null 2>&1 || { echo "skip warnings_$c: $c is not installed"; continue; }
    check "warnings_$c" $c -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only emu.c
    check "warnings_${c}_library" $c -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only -DEMU_NO_MAIN emu.c
done
lib=${EMU_LIB:-build/tests/emu_lib.o} # run.sh makes it for the programs that use emu.h only
if [ -z "$EMU_LIB" ] && { [ ! -f "$lib" ] || [ emu.c -nt "$lib" ]; }; then
    lib=$dir/emu_lib.o
    check library $CC -std=c99 -O1 -DEMU_NO_MAIN -c emu.c -o "$lib"
fi
for c in g++ clang++; do
    command -v $c >/dev/null 2>&1 || { echo "skip example_$c: $c is not installed"; continue; }
    check "example_${c}_builds" $c -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror tests/api_example.c -x none "$lib" -o "$dir/example"
    check "example_${c}_runs" "$dir/example"
done
# the README's program, on a disk whose boot sector sends "r" to COM1 and turns the machine off by SLP_EN of S5 at 604h:
# mov al,'r'; mov dx,3F8h; out dx,al; mov ax,2000h; mov dx,604h; out dx,ax; hlt
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' README.md > "$dir/readme.c"
check readme_example_builds $CC -std=c99 -Wall -Wextra -Werror -I. "$dir/readme.c" "$lib" -o "$dir/readme"
{
    printf '\260r\272\370\003\356\270\000\040\272\004\006\357\364'
    head -c 496 /dev/zero
    printf '\125\252'
    head -c 65024 /dev/zero
} > "$dir/disk.img"
(cd "$dir" && timeout 60 ./readme > readme.out 2> readme.err)
[ $? = 0 ] && grep -q r "$dir/readme.out" && ok || bad "readme_example_runs: $(head -c 200 "$dir/readme.out" "$dir/readme.err")"
if [ -n "$EMU_LIB" ]; then
    echo 'skip exported_symbols: EMU_LIB is the parts'
elif command -v nm >/dev/null 2>&1; then
    same exported_symbols "$(nm -g --defined-only "$lib" | awk '$3 !~ /^_?emu_/ { print $3 }' | tr '\n' ' ')" ''
else
    echo 'skip exported_symbols: nm is not installed'
fi

if [ -n "$LONG" ]; then # 120 s and 2 GiB (address space, which is more than what is used)
    # The peak is the largest resident set of the compiler's processes, in KiB.
    measure=
    if command -v python3 >/dev/null 2>&1; then
        printf '%s\n' 'import resource, subprocess, sys' 'status = subprocess.call(sys.argv[2:])' 'peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss' \
            'print(peak // 1024 if sys.platform == "darwin" else peak, file=open(sys.argv[1], "w"))' 'sys.exit(status)' > "$dir/measure.py"
        measure="python3 $dir/measure.py $dir/peak"
    elif /usr/bin/time -f %M true 2>/dev/null; then
        measure="/usr/bin/time -f %M -o $dir/peak"
    fi
    start=$(date +%s)
    check compile_limits sh -c "ulimit -v 2097152; exec timeout $((120 * ${SLOW:-1})) $measure $CC -O2 emu.c -o $dir/emu"
    echo "emu.c at -O2: $(($(date +%s) - start)) s"
    if [ -n "$measure" ]; then
        peak=$(tail -n 1 "$dir/peak")
        echo "emu.c at -O2: $((peak / 1024)) MiB at most"
        [ "$peak" -gt 0 ] && [ "$peak" -le 2097152 ] && ok || bad "compile_memory: $peak KiB, at most 2 GiB wanted"
    else
        echo 'skip compile_memory: neither python3 nor a /usr/bin/time that takes -f %M'
    fi
    check compiled_alone "$dir/emu" -version
else
    echo 'skip compile_limits: a long test (LONG=1)'
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
