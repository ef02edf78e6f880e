#!/bin/sh
# net_options.sh - wrong network lines: each ends with status 1 and one line that names the option, the value and the right form; and what the host refuses.
# (-netdev user's own options are tests/net_known.c's table, filters' tests/net_filters.c's.)
cd "$(dirname "$0")/.." || exit 1
: "${EMU:=$PWD/emu}"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAIL %s\n' "$*"; }
run="timeout 60 $EMU -display none -serial none -monitor none -S"

# judge NAME STATUS TEXT...: the one line of $dir/err holds every text
judge() {
    name=$1 status=$2
    shift 2
    said=$(head -c 400 "$dir/err")
    if [ "$status" -ne 1 ]; then bad "$name: exit status $status, wanted 1: $said"; return; fi
    if [ "$(wc -l < "$dir/err")" -ne 1 ]; then bad "$name: not one line: $said"; return; fi
    for text; do
        case $said in *"$text"*) ;; *) bad "$name: \"$text\" is not in: $said"; return ;; esac
    done
    ok
}
# refuse NAME "ARGUMENTS" TEXT...
refuse() {
    name=$1 arguments=$2
    shift 2
    $run $arguments > "$dir/out" 2> "$dir/err" < /dev/null
    judge "$name" $? "$@"
}

refuse netdev_without_id '-netdev user' '-netdev user' 'id=NAME'
refuse netdev_unknown_type '-netdev usr,id=a' '"usr"' 'user, tap, bridge'
refuse netdev_id_taken '-netdev user,id=a -netdev user,id=a' 'id a already'
refuse netdev_user_forward '-netdev user,id=a,hostfwd=tcp::99999-:22' hostfwd= 99999 'between 0 and 65535'
refuse netdev_later '-netdev l2tpv3,id=a' l2tpv3 'not supported yet'
refuse netdev_later_vde '-netdev vde,id=a,sock=/x' vde 'not supported yet'
refuse hubport_without_hub '-netdev hubport,id=h' hubid=NUMBER
refuse hubport_hub '-netdev hubport,id=h,hubid=first' hubid=first number
refuse hubport_netdev '-netdev hubport,id=h,hubid=0,netdev=q' netdev id=q
refuse socket_nothing '-netdev socket,id=s' 'exactly one of' fd= listen= connect= mcast= udp=
refuse socket_two '-netdev socket,id=s,listen=:1,connect=:2' 'exactly one of'
refuse socket_listen '-netdev socket,id=s,listen=127.0.0.1:x' listen=127.0.0.1:x host:port
refuse socket_connect '-netdev socket,id=s,connect=127.0.0.1:1' connect=127.0.0.1:1 'start the listening side first'
refuse socket_mcast '-netdev socket,id=s,mcast=1.2.3.4:5' mcast=1.2.3.4:5 230.0.0.1:1234
refuse socket_udp '-netdev socket,id=s,udp=127.0.0.1:5' udp= localaddr=host:port
refuse socket_localaddr '-netdev socket,id=s,listen=:0,localaddr=127.0.0.1' localaddr= 'mcast= or udp='
refuse socket_fd '-netdev socket,id=s,fd=77' fd=77 'not open'
refuse socket_fd_word '-netdev socket,id=s,fd=tap' fd=tap number
refuse stream_nothing '-netdev stream,id=s' addr.type=inet 'unix or fd'
refuse stream_type '-netdev stream,id=s,addr.type=tcp' addr.type=tcp 'inet, unix or fd'
refuse stream_port '-netdev stream,id=s,addr.type=inet,addr.host=127.0.0.1,addr.port=x' 127.0.0.1:x host:port
refuse stream_path '-netdev stream,id=s,addr.type=unix,server=on' addr.path=
refuse stream_server '-netdev stream,id=s,addr.type=unix,addr.path=/tmp/x,server=maybe' server=maybe 'on or off'
refuse stream_reconnect '-netdev stream,id=s,addr.type=inet,addr.host=127.0.0.1,addr.port=1,reconnect-ms=x' reconnect-ms=x number
refuse stream_reconnect_server '-netdev stream,id=s,addr.type=inet,addr.host=127.0.0.1,addr.port=0,server=on,reconnect-ms=5' reconnect-ms server=off
refuse dgram_local_only '-netdev dgram,id=d,local.type=inet,local.host=127.0.0.1,local.port=5' remote.type= local.type=fd
refuse dgram_remote_only '-netdev dgram,id=d,remote.type=inet,remote.host=127.0.0.1,remote.port=5' local.type=inet
refuse tap_vnet '-netdev tap,id=t,vnet_hdr=x' vnet_hdr=x 'on or off'
refuse tap_queues '-netdev tap,id=t,queues=2' queues=2 queues=1
refuse tap_vhost '-netdev tap,id=t,vhost=on' vhost=on 'leave it out'
refuse tap_fd '-netdev tap,id=t,fd=99' fd=99 descriptor
refuse tap_fd_and_name '-netdev tap,id=t,fd=5,ifname=x' 'fd= goes without' ifname=
refuse tap_unknown '-netdev tap,id=t,colour=red' tap
refuse nic_nic '-nic nic' '-nic nic' '-nic user'
refuse nic_type '-nic bogus' '"bogus"' 'user, tap, bridge'
refuse nic_model '-nic user,model=e1001' model=e1001 'model=help'
refuse nic_mac '-nic user,mac=zz' '-nic user' mac=zz 52:54:00:12:34:56
refuse nic_mac_group '-nic user,mac=01:00:5e:00:00:01' mac=01:00:5e:00:00:01 'first byte even'
refuse nic_none '-nic none,colour=red' '-nic none' '"colour"'
refuse nic_unknown '-nic user,colour=red' '"colour"'
refuse nic_addr '-nic user,addr=zz' addr=zz slot.function
refuse net_type '-net bogus' '"bogus"' 'user, tap, bridge'
refuse net_none '-net none,colour=red' '-net none' '"colour"'
refuse net_nic_model '-net nic,model=e1001' model=e1001 'model=help'
refuse net_nic_mac '-net nic,mac=1:2' '-net nic' mac=1:2 52:54:00:12:34:56
refuse net_nic_macaddr '-net nic,macaddr=1:2' '-net nic' macaddr=1:2 52:54:00:12:34:56
refuse net_nic_netdev '-net nic,netdev=q' '-net nic' 'no -netdev with id=q'
refuse net_nic_unknown '-net nic,colour=red' '"colour"'
refuse net_user_unknown '-net user,colour=red' '"colour"'
refuse net_user_forward '-net user,hostfwd=tcp::22' hostfwd=tcp::22 '[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport'
for card in e1000 rtl8139 ne2k_pci; do
    refuse "device_${card}_mac" "-device $card,mac=01:00:00:00:00:00" "-device $card" mac=01:00:00:00:00:00 52:54:00:12:34:56
    refuse "device_${card}_netdev" "-device $card,netdev=n9" 'no -netdev with id=n9'
    refuse "device_${card}_addr" "-device $card,addr=40" "-device $card" addr=40 slot.function
    refuse "device_${card}_bus" "-device $card,bus=pcie.0" "-device $card" bus=pcie.0 pci.0
    refuse "device_${card}_unknown" "-device $card,colour=red" '"colour"'
done
refuse device_backend_taken '-netdev user,id=n0 -device e1000,netdev=n0 -device rtl8139,netdev=n0' '"n0"' 'connected already'
refuse object_unknown '-object filter-magic,id=x' 'filter-dump and filter-impair'
refuse object_dump '-object filter-dump,id=x' 'id=, netdev= and file='

# QEMU's own spellings of a card: the monitor shows what came of them.
accept() { # NAME "ARGUMENTS" TEXT...
    name=$1 arguments=$2
    shift 2
    printf 'info network\nquit\n' | timeout 20 $EMU -display none -serial none -monitor stdio -S $arguments > "$dir/out" 2> "$dir/err"
    for text; do # !TEXT: must not be there
        case $text in
        !*) ! grep -q -e "${text#!}" "$dir/out" ;;
        *) grep -q -e "$text" "$dir/out" ;;
        esac || { bad "$name: \"$text\": $(cat "$dir/out" "$dir/err")"; return; }
    done
    ok
}
accept net_nic_takes_macaddr '-net nic,macaddr=52:54:00:00:00:09 -net user' 'macaddr=52:54:00:00:00:09'
accept net_nic_takes_netdev '-netdev user,id=n7 -net nic,netdev=n7' 'peer=n7'
accept device_takes_bus '-netdev user,id=n7 -device e1000,netdev=n7,bus=pci.0,addr=0x5' 'peer=n7'
# Which cards there are: no option is -net nic -net user; -net user alone has the card too; -netdev alone has none.
mac=52:54:00:12:34
accept default_card '' '^#net000: type=user,peer=hub0port0' "^e1000.0: .*peer=hub0port1.*macaddr=$mac:56" '!e1000.1'
accept net_user_has_a_card '-net user' '^#net000: type=user,peer=hub0port0' "^e1000.0: .*peer=hub0port1.*macaddr=$mac:56" '!e1000.1'
accept net_nic_and_user '-net nic,model=rtl8139 -net user,net=10.1.1.0/24' '^rtl8139.0: .*peer=hub0port0' 'net=10.1.1.0' '!e1000'
accept net_socket_joins_the_hub '-net nic -net user -net socket,listen=127.0.0.1:0' '^#net002: type=socket,peer=hub0port2' "macaddr=$mac:56" '!e1000.1'
accept net_none '-net none' '!e1000' '!user'
accept nic_none '-nic none' '!e1000' '!user'
accept nodefaults '-nodefaults' '!e1000' '!user'
accept netdev_alone_has_no_card '-netdev user,id=n7' '^n7: type=user' '!e1000' '!hub'
accept nic_makes_backend_and_card '-nic user,model=ne2k_pci,mac=52:54:00:00:00:77,net=10.1.1.0/24' 'ne2k_pci.*macaddr=52:54:00:00:00:77' 'net=10.1.1.0' '!hub'
accept macs_rise '-nic user -nic user,model=rtl8139 -nic user,model=ne2k_pci' "e1000.0: .*$mac:56" "rtl8139.0: .*$mac:57" "ne2k_pci.0: .*$mac:58"
accept device_takes_mac '-netdev user,id=n7 -device rtl8139,netdev=n7,mac=52:54:00:00:00:78' 'peer=n7.*macaddr=52:54:00:00:00:78'
accept hubport_takes_netdev '-netdev user,id=n7 -netdev hubport,id=h,hubid=4,netdev=n7' '^h: type=hubport,peer=n7'

# The monitor unplugs a card by either end's name, takes a backend away from its card, and goes on after each wrong line.
cat > "$dir/commands" <<'END'
set_link n7 off
info network
set_link n7 on
set_link e1000.0 perhaps
set_link nobody on
netdev_add user,id=n8,colour=red
netdev_add bogus,id=n8
netdev_add user,id=n7
netdev_del e1000.0
netdev_del n7
info network
netdev_add user,id=n7,net=10.1.1.0/24
hostfwd_add n7 tcp:127.0.0.1:0-:22
hostfwd_add n6 tcp:127.0.0.1:0-:22
info network
quit
END
timeout 60 $EMU -display none -serial none -monitor stdio -S -netdev user,id=n7 -device e1000,netdev=n7 < "$dir/commands" > "$dir/out" 2> "$dir/err"
status=$?
for text in 'n7: type=user,link=down,peer=e1000.0' 'set_link: needs a name and on or off' "Device 'nobody' not found" '"colour"' '"bogus"' 'id n7 already' \
    "Device 'e1000.0' not found" '^e1000.0: type=nic,link=down,frames' 'no user network with id n6' 'net=10.1.1.0'; do
    if grep -q -e "$text" "$dir/out"; then ok; else bad "monitor_changes_the_network: \"$text\" is not in: $(cat "$dir/out" "$dir/err")"; fi
done
if [ $status = 0 ]; then ok; else bad "monitor_changes_the_network: status $status"; fi

# What the host refuses.
if [ -c /dev/net/tun ]; then
    refuse tap_long_name '-netdev tap,id=t,ifname=a-name-that-is-too-long' a-name-that-is-too-long '15 characters'
    if [ "$(id -u)" = 0 ] && command -v setpriv > /dev/null; then
        cp "${EMU%% *}" "$dir/emu" && chmod 755 "$dir" "$dir/emu"
        timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all "$dir/emu" -display none -serial none -monitor none -S \
            -netdev tap,id=t,ifname=emutap9,script=no,downscript=no > "$dir/out" 2> "$dir/err" < /dev/null
        judge tap_without_permission $? emutap9 'no permission' 'ip tuntap add dev emutap9 mode tap user'
        chmod 700 "$dir"
    elif [ "$(id -u)" != 0 ]; then
        refuse tap_without_permission '-netdev tap,id=t,ifname=emutap9,script=no,downscript=no' emutap9 'no permission' 'ip tuntap add dev emutap9 mode tap user'
    else
        echo 'skip tap_without_permission: root without setpriv'
    fi
    if [ "$(id -u)" = 0 ] && command -v ip > /dev/null && ip tuntap add dev emutst$$ mode tap 2> /dev/null; then
        refuse tap_script_fails "-netdev tap,id=t,ifname=emutst$$,script=/bin/false" script=/bin/false 'failed (status 1)'
        refuse tap_script_missing "-netdev tap,id=t,ifname=emutst$$,script=/nonexistent" script=/nonexistent 'not found'
        printf '#!/bin/sh\necho "no luck with $1" >&2\nexit 3\n' > "$dir/up"
        chmod 755 "$dir/up"
        refuse tap_script_says_why "-netdev tap,id=t,ifname=emutst$$,script=$dir/up" 'failed (status 3)' "no luck with emutst$$"
        ip tuntap del dev emutst$$ mode tap
    else
        echo 'skip tap_script_fails: needs the right to make a tap'
    fi
else
    refuse tap_not_here '-netdev tap,id=t' tap
fi

# A port in use: another emu has it. And rules that come and go.
printf 'info usernet\nhostfwd_add tcp:127.0.0.1:0-:80\nhostfwd_add tcp::99999-:80\nhostfwd_remove tcp:127.0.0.1:1\ninfo usernet\n' > "$dir/commands"
mkfifo "$dir/in"
timeout 180 $EMU -display none -serial none -S -monitor stdio -netdev user,id=n0,hostfwd=tcp:127.0.0.1:0-:22 -device e1000,netdev=n0 < "$dir/in" > "$dir/mon" 2>&1 &
pid=$!
exec 5> "$dir/in"
cat "$dir/commands" >&5
n=0
until [ "$(grep -c 'TCP\[HOST_FORWARD\]' "$dir/mon")" -ge 3 ] || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done
port=$(sed -n 's/.*TCP\[HOST_FORWARD\] *[0-9]* *127\.0\.0\.1 *\([0-9]*\) .* 22 .*/\1/p' "$dir/mon" | head -n 1)
added=$(sed -n 's/.*TCP\[HOST_FORWARD\] *[0-9]* *127\.0\.0\.1 *\([0-9]*\) .* 80 .*/\1/p' "$dir/mon" | head -n 1)
if [ -n "$port" ] && [ -n "$added" ]; then ok; else bad "info_usernet_lists_rules: $(cat "$dir/mon")"; fi
if grep -q 'host port 99999 is not between 0 and 65535' "$dir/mon"; then ok; else bad hostfwd_add_names_what_is_wrong; fi
if grep -q 'tcp:127.0.0.1:1 not found' "$dir/mon"; then ok; else bad hostfwd_remove_names_what_is_missing; fi
refuse port_in_use "-netdev user,id=a,hostfwd=tcp:127.0.0.1:${port:-1}-:22" "127.0.0.1:${port:-1}" 'in use by another program'
echo "hostfwd_remove n0 tcp:127.0.0.1:${added:-1}" >&5
n=0
until grep -q 'removed' "$dir/mon" || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done
echo 'info usernet' >&5
echo quit >&5
exec 5>&-
wait $pid
if [ "$(tail -n 6 "$dir/mon" | grep -c 'TCP\[HOST_FORWARD\]')" = 1 ]; then ok; else bad "hostfwd_remove: $(tail -n 8 "$dir/mon")"; fi
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
