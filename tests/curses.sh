#!/bin/sh
# curses.sh - -display curses on a real terminal (tmux): what the guest shows and what it is typed, the monitor, a small terminal, and the
# terminal's state after every way out; and the line that points out a guest that speaks to its screen only.
: "${EMU:=./emu}"
command -v tmux >/dev/null 2>&1 || { echo 'skip curses: tmux is not installed'; exit 0; }
dir=$(mktemp -d) || exit 1
export LC_ALL=C.UTF-8
t() { tmux -L "emu-curses-$$" -f /dev/null "$@"; }
trap 't kill-server 2>/dev/null; rm -rf "$dir"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAIL %s\n' "$*"; t capture-pane -p | sed 's/^/    |/'; }
screen_has() { t capture-pane -p -J | grep -q -- "$1"; }
# sees NAME REGEX [SECONDS]: appears in the terminal
sees() {
    n=0
    until screen_has "$2"; do
        n=$((n + 1))
        [ $n -lt $((${3:-60} * 10)) ] || { bad "$1: /$2/ did not appear"; return 1; }
        sleep 0.1
    done
    ok
}
keys() { t send-keys "$@"; }
run() { keys "$EMU $*; echo status=\$? > $dir/status" Enter; }
ended() { # NAME STATUS: emu is gone and the terminal is as before
    n=0
    until [ -s "$dir/status" ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n + 1)); done
    grep -qx "status=$2" "$dir/status" 2>/dev/null && ok || bad "$1: $(cat "$dir/status" 2>&1), wanted $2"
    rm -f "$dir/status"
    keys "stty -g > $dir/after; grep flags /proc/self/fdinfo/0 > $dir/after.flags; echo done > $dir/told" Enter
    n=0
    until [ -s "$dir/told" ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n + 1)); done
    rm -f "$dir/told"
    cmp -s "$dir/before" "$dir/after" && ok || bad "$1: terminal settings differ: $(cat "$dir/before" "$dir/after")"
    cmp -s "$dir/before.flags" "$dir/after.flags" && ok || bad "$1: the terminal's open flags differ"
    [ "$(t display-message -p '#{alternate_on}#{cursor_flag}')" = 01 ] && ok || bad "$1: alternate screen or cursor: $(t display-message -p '#{alternate_on} #{cursor_flag}')"
}

# A boot sector: mov si,text; next: lodsb; test al,al; jz keys; mov ah,0Eh; int 10h; jmp next; keys: xor ah,ah; int 16h; mov ah,0Eh; int 10h; jmp keys
# text, at 7C00h + 24, ends with CP437 B0h and C9h, which are U+2591 and U+2554.
printf '\276\030\174\254\204\300\164\006\264\016\315\020\353\365\060\344\315\026\264\016\315\020\353\366hello screen \260\311\r\n\000' > "$dir/boot.img"
size=$(wc -c < "$dir/boot.img")
head -c $((510 - size)) /dev/zero >> "$dir/boot.img"
printf '\125\252' >> "$dir/boot.img"
head -c 65024 /dev/zero >> "$dir/boot.img"
disk="-net none -drive file=$dir/boot.img,format=raw,if=ide,snapshot=on"

t new-session -d -x 100 -y 30 "PS1='ready> ' sh" || { echo 'skip curses: tmux has no terminal to give'; exit 0; }
sees shell 'ready>'
keys "stty -g > $dir/before; grep flags /proc/self/fdinfo/0 > $dir/before.flags" Enter
sleep 0.3

run -display curses $disk
sees text_and_cp437 'hello screen ░╔'
keys 'aB1!~'
sees keys_reach_the_guest '^aB1!~'
[ "$(t display-message -p '#{alternate_on}')" = 1 ] && ok || bad 'alternate screen is not used'
keys C-a c
sees monitor_prompt '(emu)'
keys 'info status' Enter
sees monitor_answers 'VM status: running'
keys 'screentext' Enter
sees monitor_screentext 'hello screen ░╔'
keys C-a c
sees back_to_guest '^aB1!~'
keys 'again'
sees keys_after_monitor '^aB1!~again'
t resize-window -x 60 -y 5
sleep 0.3
keys Enter; keys C-j
n=0
while [ $n -lt 12 ]; do keys "n$n" Enter C-j; sleep 0.1; n=$((n + 1)); done
keys 'bottom'
sees small_terminal_follows_the_cursor '^bottom'
t resize-window -x 100 -y 30
sees large_again 'hello screen'
keys C-a h
sees help 'to the monitor and back'
keys C-a x
ended quit 0

for signal in TERM INT HUP; do
    run -pidfile "$dir/pid" -display curses $disk
    sees "text_before_$signal" 'hello screen'
    kill -$signal "$(cat "$dir/pid")"
    ended "signal_$signal" 0
done

# stopped, and the shell has the terminal; continued, it is drawn again
run -pidfile "$dir/pid" -display curses $disk
sees text_before_stop 'hello screen'
kill -STOP "$(cat "$dir/pid")"
sees stopped Stopped
keys "stty $(cat "$dir/before"); printf '\\033[?1049l'; clear; echo in the shell" C-j # the settings are still raw: C-j ends a line
sees shell_has_the_terminal '^in the shell'
rm -f "$dir/status"
keys "fg; echo status=\$? > $dir/status" Enter
sees continued_is_drawn_again 'hello screen'
keys C-a x
ended continued_quit 0

run -display curses -serial stdio $disk
sees one_owner_of_the_terminal 'the terminal is taken by serial0'
ended one_owner 1
keys clear Enter

# nothing on the serial port: pointed out once, in one line
run -nographic $disk
sees silent_serial_hint 'emu: the guest writes to its screen, not to the serial port shown here' 60
[ "$(t capture-pane -p -J | grep -c 'writes to its screen')" = 1 ] && ok || bad 'the hint is not one line'
keys C-a c
sees hint_monitor '(emu)'
keys screentext Enter
sees hint_screentext 'hello screen'
keys C-a x
ended after_hint 0

images=${EMU_IMAGES:-/var/tmp/emu-images}
if [ -f "$images/grub-rescue-floppy.img" ]; then
    run -display curses -net none -snapshot -fda "$images/grub-rescue-floppy.img" -boot a
    sees grub_on_the_screen 'GNU GRUB' 120
    keys Down
    sees grub_takes_arrows '│\*GNU (aka' 60
    keys c
    sees grub_prompt 'grub>' 60
    keys 'echo one t' 'wo' Enter
    sees grub_takes_keys '^ *one two'
    keys C-a x
    ended grub 0
else
    echo 'skip curses_grub: no grub-rescue-floppy.img (images/guests.sh makes it)'
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
