#!/bin/sh
# tests/guests/net.sh - the network in real guests. A stock Debian disk on the main job's line (-net user,hostfwd=...:22 disk.img) with further
# forwards and cards, driven over ssh through our own NAT; two small machines joined by each kind of socket.
#
# Variables  as in lib.sh. LONG=1: 256 MiB by scp, 64 MiB over every join, and the impaired line.
# Theory     Everything happens in a network and mount namespace of its own: the far side is its loopback (with 192.0.2.7 and 2001:db8::7
#            as a host elsewhere), a dnsmasq with records of ours behind a resolv.conf of ours, and a tap. So the host's network, ports and
#            resolvers do not matter and are not touched. tests/guests/net.py has the far ends, the same file serves inside the guest.
# Needs      unshare, ip, python3, ssh; dnsmasq, tshark, /dev/net/tun for the parts that say so. Each test is named; what lacks a tool is skipped.
for tool in unshare ip python3 ssh ssh-keygen; do
    command -v $tool >/dev/null 2>&1 || { echo "skip guest_net: $tool is not installed"; exit 0; }
done
if [ -z "${EMU_OWN_NET:-}" ]; then
    for how in "unshare -n -m" "unshare -r -n -m"; do
        if $how true 2>/dev/null; then
            EMU_OWN_NET=1
            export EMU_OWN_NET
            exec $how --propagation private sh "$0" "$@"
        fi
    done
    echo "skip guest_net: no network namespace to be had (root, or unprivileged user namespaces)"
    exit 0
fi
. "$(dirname "$0")/lib.sh"

disk=$EMU_IMAGES/debian-t0.img
[ -r "$disk" ] || disk=$EMU_IMAGES/debian.img
small=$top/images/linux.img
[ -r "$small" ] || small=$EMU_IMAGES/linux.img
scp_mib=64 join_mib=8
[ "$LONG" = 0 ] || scp_mib=256 join_mib=64
helpers= debian_pid=
end() {
    touch "$work/done"
    for p in $helpers $debian_pid; do kill "$p" 2>/dev/null; done
    rm -rf "$work"
}
trap end EXIT

# ---- the world outside ----
ip link set lo up multicast on
ip addr add 192.0.2.7/32 dev lo
ip -6 addr add 2001:db8::7/128 dev lo 2>/dev/null
ip route add 224.0.0.0/4 dev lo
# Echo requests to other hosts need the host's leave (ping sockets).
echo "0 2147483647" 2>/dev/null >/proc/sys/net/ipv4/ping_group_range
printf 'nameserver 127.0.0.1\n' >"$work/resolv.conf"
has_dns=0
if command -v dnsmasq >/dev/null 2>&1 && mount --bind "$work/resolv.conf" /etc/resolv.conf 2>/dev/null; then
    dnsmasq -k --conf-file=/dev/null --no-resolv --no-hosts --user= --group= --pid-file= --log-facility=/dev/null --listen-address=127.0.0.1 --bind-interfaces \
        --host-record=host.emu.test,192.0.2.7,2001:db8::7 --txt-record="long.emu.test,$(printf '%0240d' 1),$(printf '%0240d' 2),$(printf '%0240d' 3),$(printf '%0240d' 4),$(printf '%0240d' 5),$(printf '%0240d' 6)" 2>/dev/null &
    helpers="$helpers $!"
    sleep 1
    ! kill -0 $! 2>/dev/null || has_dns=1
fi
py="python3 $here/net.py"
mkdir "$work/www" "$work/tftp"
for i in 0 1 2 3 4 5 6 7 8 9; do head -c 3000000 /dev/urandom >"$work/www/f$i"; done
head -c 1234567 /dev/urandom >"$work/tftp/file"
(cd "$work/www" && sha256sum f?) >"$work/sums"
$py http "$work/www" 8000 127.0.0.1 ::1 192.0.2.7 2001:db8::7 >/dev/null &
helpers="$helpers $!"
$py sink 8002 127.0.0.1 &
helpers="$helpers $!"
has_tap=0
if [ -c /dev/net/tun ] && ip tuntap add dev emutap0 mode tap 2>/dev/null; then
    ip addr add 10.0.5.1/24 dev emutap0
    ip link set emutap0 up
    has_tap=1
    $py http "$work/www" 8000 10.0.5.1 &
    helpers="$helpers $!"
fi

# ---- one Debian guest, run by expect in the background while the tests use ssh ----
ssh-keygen -q -t ed25519 -N '' -C emu-test -f "$work/key" || exit 1
ssh_options="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=60 -i $work/key"
g() { ssh $ssh_options -o ControlMaster=auto -o ControlPath="$work/master" -o ControlPersist=yes -p 2222 root@127.0.0.1 "$@"; }
monitor() { $py monitor "$work/monitor" "$@"; }

# debian NAME ARGUMENTS...: boots, leaves the key, waits for `done`
debian() {
    debian_name=$1
    shift
    rm -f "$work/ready" "$work/done" "$work/master"
    cat >"$work/script" <<SCRIPT
limit $((400 * SLOW))
never Kernel panic
never BUG:
never soft lockup
never Detected Tx Unit Hang
$debian_login
time login
run mkdir -p /root/.ssh && echo '$(cat "$work/key.pub")' >/root/.ssh/authorized_keys
run systemctl is-system-running --wait
time running
limit 7200
host touch "$work/ready"; until [ -f "$work/done" ]; do sleep 0.3; done
limit 120
line poweroff
status 0
SCRIPT
    "$work/expect" -t 7200 -l "$OUT/$debian_name.log" "$work/script" $EMU -pidfile "$work/pid" -monitor "unix:$work/monitor,server=on,wait=off" -snapshot "$@" "$disk" >"$work/times.debian" 2>"$work/errors.debian" &
    debian_pid=$!
    until [ -f "$work/ready" ]; do
        kill -0 $debian_pid 2>/dev/null || break
        sleep 0.3
    done
    if [ -f "$work/ready" ] && g true; then
        pass "$debian_name" "$(tr '\n' ' ' <"$work/times.debian" | sed 's/ $//')"
        g 'cat >/root/net.py' <"$here/net.py"
        # nic N: the name of the machine's card number N
        g 'cat >/root/pre' <<'SCRIPT'
nic() { for n in /sys/class/net/*; do [ "$(cat $n/address)" != "52:54:00:12:34:$(printf %x $((86 + $1)))" ] || basename $n; done; }
no() { if "$@"; then echo "succeeded: $*"; return 1; fi; }
same() { [ "$(curl -sS "$1/f$2" | openssl dgst -sha256 -r | cut -d' ' -f1)" = "$(sed -n "s/  f$2\$//p" /root/sums)" ]; }
I=$(nic 0)
ask="python3 /root/net.py ask"
set -e
SCRIPT
        g 'cat >/root/sums' <"$work/sums"
        return 0
    fi
    flunk "$debian_name" "$(grep '^expect: ' "$work/errors.debian" | head -n 1); log: $OUT/$debian_name.log"
    sed 's/^/    /' "$work/errors.debian"
    return 1
}
debian_off() {
    ssh -O exit -o ControlPath="$work/master" root@127.0.0.1 2>/dev/null
    touch "$work/done"
    status=0
    wait $debian_pid || status=$?
    debian_pid=
    if [ $status = 0 ]; then pass "${debian_name}_powers_off"; else flunk "${debian_name}_powers_off" "$(grep '^expect: ' "$work/errors.debian" | head -n 1); log: $OUT/$debian_name.log"; fi
}

# in_guest NAME SECONDS <SCRIPT     a shell script that must end with 0 in the guest; its last line of output is shown
in_guest() {
    cat >"$work/in_guest"
    wanted "$1" || return 0
    { echo '. /root/pre'; cat "$work/in_guest"; } >"$work/in_guest.full"
    report "$1" timeout $(($2 * SLOW)) ssh $ssh_options -o ControlPath="$work/master" -p 2222 root@127.0.0.1 'cat >/root/step; sh /root/step' <"$work/in_guest.full"
}
# on_host NAME COMMAND...
on_host() {
    wanted "$1" || return 0
    report "$@" </dev/null
}
report() {
    report_name=$1
    shift
    report_start=$(date +%s)
    if "$@" >"$work/report" 2>&1; then
        pass "$report_name" "$(tail -n 1 "$work/report" | cut -c 1-100 | sed 's/$/; /' | grep -v '^; $')$(($(date +%s) - report_start)) s"
    else
        flunk "$report_name" "status $?"
        tail -n 12 "$work/report" | sed 's/^/    /'
    fi
}

scp_both_ways() { # MIB SECONDS
    head -c $(($1 * 1048576)) /dev/urandom >"$work/big"
    timeout $(($2 * SLOW)) scp -q $ssh_options -P 2222 "$work/big" root@127.0.0.1:/root/big &&
        timeout $(($2 * SLOW)) scp -q $ssh_options -P 2222 root@127.0.0.1:/root/big "$work/back" || return 1
    sum=$(sha256sum <"$work/big" | cut -d' ' -f1)
    there=$(g 'openssl dgst -sha256 -r /root/big; rm /root/big')
    echo "$1 MiB, SHA-256 $(echo "$sum" | cut -c 1-12)"
    [ "${there%% *}" = "$sum" ] && [ "$(sha256sum <"$work/back" | cut -d' ' -f1)" = "$sum" ]
    set -- $?
    rm -f "$work/big" "$work/back"
    return $1
}
tap_from_host() { # the host's kernel connects to the guest
    head -c 8388608 /dev/urandom >"$work/eight"
    if command -v ping; then ping -c 2 -W 10 10.0.5.2 || return 1; fi
    ssh $ssh_options root@10.0.5.2 'cat >/root/eight' <"$work/eight" && ssh $ssh_options root@10.0.5.2 cat /root/eight | cmp - "$work/eight"
}
hostfwd_by_monitor() {
    monitor 'hostfwd_add #net000 tcp:127.0.0.1:2299-:22' 'info usernet' >"$work/m"
    grep -q '2299 *10.0.2.15 *22' "$work/m" && $py ask 127.0.0.1 2299 hello | grep '^SSH-2.0' || return 1
    monitor 'hostfwd_remove #net000 tcp:127.0.0.1:2299' 'info usernet' >"$work/m"
    ! grep -q ' 2299 ' "$work/m" && ! $py ask 127.0.0.1 2299 hello
}
carrier_becomes() { g ". /root/pre; for i in \$(seq 30); do [ \"\$(cat /sys/class/net/\$(nic 2)/carrier)\" != $1 ] || exit 0; sleep 1; done; exit 1"; }
unplugged() {
    monitor 'set_link e1000.2 off' 'info network' | grep -q 'e1000.2: type=nic,link=down' && carrier_becomes 0 &&
        monitor 'set_link e1000.2 on' >/dev/null && carrier_becomes 1 && g '. /root/pre; ping -c 3 -W 5 -I $(nic 2) 10.0.4.2 | tail -n 2'
}
netdev_by_monitor() {
    monitor 'netdev_add user,id=late,net=10.9.9.0/24' 'info network' | grep -q '^late: type=user' && ! monitor 'netdev_del late' 'info network' | grep -q '^late:'
}
info_names_all() {
    monitor 'info network' 'info usernet' >"$work/m"
    for want in '#net000: type=user' 'e1000.0: type=nic,peer=hub0port' 'r: type=user,peer=e1000.1,.*restrict=on' 'TCP.ESTABLISHED. ' 'TCP.HOST_FORWARD.* 2222 *10.0.2.15 *22' 'UDP.HOST_FORWARD.* 7007'; do
        grep -q "$want" "$work/m" || { echo "no $want in"; cat "$work/m"; return 1; }
    done
}
hold_hundred() {
    # What scp left for the disk, and timesyncd asking each card's name server for hosts that this world does not have, are not this measurement.
    g 'sync; systemctl stop systemd-timesyncd'
    g 'setsid python3 /root/net.py sink 7100 0.0.0.0 >/dev/null 2>&1 </dev/null & setsid python3 /root/net.py hold 50 8002 10.0.2.2 >/root/held 2>&1 </dev/null & echo $! >/root/hold.pid; for i in $(seq 60); do grep -q held /root/held && break; sleep 1; done'
    $py hold 50 7100 127.0.0.1 >"$work/held" &
    holder=$!
    helpers="$helpers $holder"
    for i in $(seq 60); do [ -s "$work/held" ] && break; sleep 1; done
    open=$(monitor 'info usernet' | grep -c 'TCP.ESTABLISHED')
    used=$($py cpu "$work/pid" 10 3 6)
    [ "$open" -ge 100 ] && [ "$(g cat /root/held)" = "held 50" ] || { echo "$open connections"; return 1; }
    if awk -v used="$used" 'BEGIN { exit !(used < 3) }'; then
        echo "$open connections, $used % of a core over 10 s"
        return 0
    fi
    # A host so busy that the guest alone costs as much: the connections add next to nothing.
    kill $holder
    g 'kill $(cat /root/hold.pid)'
    sleep 5
    alone=$($py cpu "$work/pid" 10 0 6)
    echo "$open connections, $used % of a core over 10 s, $alone % without them"
    awk -v used="$used" -v alone="$alone" 'BEGIN { exit !(used < alone * 1.3 + 0.5) }'
}
capture_is_sound() {
    [ "$(tshark -r "$1" 2>/dev/null | wc -l)" -gt 1000 ] || { echo "fewer than 1000 packets"; return 1; }
    # A hub of three ports drops for a full card, so TCP sends again: overlaps that its reassembly would call errors are none of the packets'.
    tshark -r "$1" -o tcp.desegment_tcp_streams:FALSE -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE \
        -Y '_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 || icmp.checksum.status == 0' >"$work/bad" 2>"$work/tshark.err"
    head -n 5 "$work/bad"
    [ ! -s "$work/bad" ] && for kind in dhcp arp icmp tcp vlan; do
        [ "$(tshark -r "$1" -Y $kind 2>/dev/null | head -n 1 | wc -l)" = 1 ] || { echo "no $kind packet"; return 1; }
    done && echo "$(tshark -r "$1" 2>/dev/null | wc -l) packets, none malformed, no wrong checksum"
}

if [ $is_qemu = 1 ]; then
    skip guest_net "these are emu's own options and behaviour"
elif need debian_on_main_line "$disk"; then
    tap=
    [ $has_tap = 0 ] || tap="-netdev tap,id=t,ifname=emutap0,script=no,downscript=no -device e1000,netdev=t,mac=52:54:00:12:34:5b"
    if debian debian_on_main_line \
        -net "user,hostfwd=tcp::2222-:22,hostfwd=tcp:[::1]:2222-[fec0::5054:ff:fe12:3456]:22,hostfwd=unix:$work/ssh-:22,hostfwd=udp:127.0.0.1:7007-:7007,hostfwd=tcp:127.0.0.1:7100-:7100,tftp=$work/tftp,guestfwd=tcp:10.0.2.100:7-cmd:tr a-z A-Z,guestfwd=tcp:10.0.2.101:7-chardev:line" \
        -chardev "socket,id=line,path=$work/line,server=on,wait=off" \
        -netdev "user,id=r,net=10.0.3.0/24,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:2223-:22,guestfwd=tcp:10.0.3.100:7-cmd:tr a-z A-Z" -device e1000,netdev=r \
        -netdev user,id=j,net=10.0.4.0/24,ipv6=off,mtu=9000 -device e1000,netdev=j \
        -netdev user,id=u,net=10.0.7.0/24,ipv6=off -netdev hubport,id=h0,hubid=1,netdev=u -netdev hubport,id=h1,hubid=1 -netdev hubport,id=h2,hubid=1 \
        -device e1000,netdev=h1 -device e1000,netdev=h2 -object "filter-dump,id=d,netdev=u,file=$work/hub.pcap" $tap; then

        on_host ssh_reaches_guest g uname -r
        on_host ssh_by_ipv6_hostfwd ssh $ssh_options -p 2222 root@::1 uname -r
        on_host ssh_by_unix_hostfwd ssh $ssh_options -o ProxyCommand="$py pipe $work/ssh" root@guest uname -r
        in_guest http_from_host_loopback 120 <<'SCRIPT'
same http://10.0.2.2:8000 0
SCRIPT
        in_guest http_from_another_host 120 <<'SCRIPT'
same http://192.0.2.7:8000 1
SCRIPT
        in_guest twenty_parallel_curls 300 <<'SCRIPT'
for i in 0 1 2 3 4 5 6 7 8 9; do for k in a b; do
    (same http://10.0.2.2:8000 $i && echo good >>/root/twenty) &
done; done
wait
test "$(wc -l </root/twenty)" = 20
echo 20 x 3000000 bytes
SCRIPT
        if [ $has_dns = 1 ]; then
            in_guest dig_udp_and_tcp 60 <<'SCRIPT'
test "$(dig @10.0.2.3 +short host.emu.test)" = 192.0.2.7
test "$(dig @10.0.2.3 +tcp +short host.emu.test)" = 192.0.2.7
test "$(dig @10.0.2.3 +short AAAA host.emu.test)" = 2001:db8::7
test "$(dig @fec0::3 +short host.emu.test)" = 192.0.2.7
dig @10.0.2.3 nobody.emu.test | grep -Eq 'NXDOMAIN|REFUSED|SERVFAIL'
SCRIPT
            in_guest dig_long_answer_goes_over_tcp 60 <<'SCRIPT'
dig @10.0.2.3 +bufsize=512 TXT long.emu.test >/root/dig
grep -q 'Truncated, retrying in TCP' /root/dig
test "$(grep -c 0006 /root/dig)" = 1
SCRIPT
            in_guest guest_resolver_uses_dhcp_dns 60 <<'SCRIPT'
getent ahosts host.emu.test | grep 192.0.2.7
same http://host.emu.test:8000 2
SCRIPT
        else
            skip dig_udp_and_tcp "no dnsmasq (dnsmasq-base) on a resolv.conf of our own"
        fi
        in_guest ping_gateway_v4_and_v6 60 <<'SCRIPT'
ping -c 3 -W 5 10.0.2.2
ping -c 3 -W 5 fec0::2
ping -c 1 -W 5 fe80::2%$I
ping -c 1 -W 5 -s 8000 10.0.2.2
ping -c 1 -W 5 -s 8000 fec0::2 | grep ' 0% packet loss'
SCRIPT
        if awk '{ exit !($2 > 0) }' /proc/sys/net/ipv4/ping_group_range; then
            in_guest ping_another_host 60 <<'SCRIPT'
ping -c 1 -W 5 2001:db8::7
ping -c 2 -W 5 192.0.2.7 | grep ' 0% packet loss'
SCRIPT
        else
            skip ping_another_host "no ping sockets (net.ipv4.ping_group_range)"
        fi
        in_guest ipv6_autoconfiguration_http_and_ssh 120 <<'SCRIPT'
ip -6 addr show dev $I | grep 'fec0::5054:ff:fe12:3456/64'
ip -6 route show default | grep fe80::2
same 'http://[fec0::2]:8000' 3
same 'http://[2001:db8::7]:8000' 4
# out over IPv6 to the host's ::1, and in again by the IPv6 forward
$ask fec0::2 2222 hello | grep '^SSH-2.0'
SCRIPT
        in_guest tftp_get_and_put_refused 60 <<SCRIPT
cd /root
tftp -m binary 10.0.2.2 -c get file
test "\$(sha256sum <file)" = "$(sha256sum <"$work/tftp/file")"
curl -sS --tftp-blksize 1428 tftp://10.0.2.2/file | cmp - file
tftp -m binary 10.0.2.2 -c put file other | grep 'Error code 2'
tftp -m binary 10.0.2.2 -c get ../key | grep 'Error code'
SCRIPT
        on_host tftp_put_left_nothing test ! -e "$work/tftp/other"
        in_guest dhclient_gets_renews_and_releases 120 <<'SCRIPT'
cat >/root/dh <<'END_OF_DH'
. /root/pre
set +e
systemctl stop systemd-networkd.socket systemd-networkd
ip -4 addr flush dev $I
printf 'supersede dhcp-renewal-time 3;\nsupersede dhcp-rebinding-time 30;\nsupersede dhcp-lease-time 40;\n' >/root/dc
dh="dhclient -v -cf /root/dc -lf /root/dl -pf /root/dp"
$dh $I
sleep 6
ip -4 -br addr show $I >/root/dh.1
$dh -r $I
ip -4 -br addr show $I >/root/dh.2
$dh $I
ip -4 -br addr show $I >/root/dh.3
kill $(cat /root/dp)
systemctl start systemd-networkd.socket systemd-networkd
touch /root/dh.end
END_OF_DH
setsid sh /root/dh >/dev/null 2>&1 </dev/null &
until [ -f /root/dh.end ]; do sleep 1; done
grep 10.0.2.15/24 /root/dh.1
test ! -s /root/dh.2
grep 10.0.2.15/24 /root/dh.3
journalctl -b -t dhclient --no-pager >/root/dh.log
grep 'DHCPOFFER of 10.0.2.15 from 10.0.2.2' /root/dh.log
grep -A 1 'DHCPREQUEST for 10.0.2.15 on .* to 10.0.2.2 port 67' /root/dh.log | grep 'DHCPACK of 10.0.2.15'
grep 'DHCPRELEASE of 10.0.2.15 on .* to 10.0.2.2' /root/dh.log
SCRIPT
        in_guest guestfwd_to_command_twice 90 <<'SCRIPT'
test "$($ask 10.0.2.100 7 hello)" = HELLO
test "$($ask 10.0.2.100 7 again)" = AGAIN
SCRIPT
        $py answer "$work/line" &
        helpers="$helpers $!"
        in_guest guestfwd_to_chardev_twice 90 <<'SCRIPT'
test "$($ask -o 10.0.2.101 7 hello)" = HELLO
sleep 1
test "$($ask -o 10.0.2.101 7 again)" = AGAIN
SCRIPT
        g 'setsid python3 /root/net.py echo-udp 7007 >/dev/null 2>&1 </dev/null & for i in $(seq 60); do grep -q ":1B5F " /proc/net/udp && break; sleep 1; done' # 7007
        on_host udp_hostfwd $py ask-udp 7007 127.0.0.1
        on_host monitor_hostfwd_add_and_remove hostfwd_by_monitor
        on_host monitor_info_network_and_usernet info_names_all
        on_host monitor_netdev_add_and_del netdev_by_monitor
        on_host monitor_set_link_is_the_carrier unplugged

        on_host restrict_hostfwd_works sh -c "$py ask 127.0.0.1 2223 hello | grep '^SSH-2.0'"
        in_guest restrict_nothing_goes_out 90 <<'SCRIPT'
R=$(nic 1)
test -z "$(ip route show default dev $R)"
ip route add 192.0.2.7 via 10.0.3.2 dev $R
no $ask -t 5 192.0.2.7 8000 hello
no $ask -t 5 10.0.3.2 8000 hello
no ping -c 1 -W 3 192.0.2.7
no dig +time=2 +tries=1 @10.0.3.3 host.emu.test
no dig +tcp +time=2 +tries=1 @10.0.3.3 host.emu.test
test "$($ask 10.0.3.100 7 hello)" = HELLO
ip route del 192.0.2.7 via 10.0.3.2 dev $R
SCRIPT

        in_guest ethtool_names_driver_and_statistics 30 <<'SCRIPT'
ethtool -i $I | grep '^driver: e1000$'
ethtool -S $I >/root/s1
ping -c 5 -i 0.2 10.0.2.2 >/dev/null
ethtool -S $I >/root/s2
for k in rx_packets tx_packets rx_bytes tx_bytes; do
    test "$(sed -n "s/^ *$k: //p" /root/s2)" -ge "$(($(sed -n "s/^ *$k: //p" /root/s1) + 5))"
done
for k in rx_errors tx_errors rx_crc_errors rx_csum_offload_errors rx_missed_errors; do
    test "$(sed -n "s/^ *$k: //p" /root/s2)" = 0
done
SCRIPT
        in_guest ethtool_offloads_off_and_on_with_traffic 240 <<'SCRIPT'
ethtool -k $I | grep 'tcp-segmentation-offload: on'
for f in tso gso tx rx rxvlan gro sg; do for s in off on; do
    ethtool -K $I $f $s
    same http://10.0.2.2:8000 5 || { echo "download with $f $s"; exit 1; }
    head -c 1500000 /root/net.bin >/dev/null 2>&1 || head -c 3000000 /dev/urandom >/root/net.bin
    test "$(curl -sS -T /root/net.bin http://10.0.2.2:8000/sum)" = "$(openssl dgst -sha256 -r /root/net.bin | cut -d' ' -f1)" || { echo "upload with $f $s"; exit 1; }
done; done
ethtool -k $I | grep 'tcp-segmentation-offload: on'
SCRIPT
        in_guest ethtool_self_test_passes_all_five 90 <<'SCRIPT'
ethtool -t $I offline >/root/t
for k in Register Eeprom Interrupt Loopback Link; do grep -E "^$k test .*[[:space:]]0\$" /root/t; done
grep 'The test result is PASS' /root/t
SCRIPT
        in_guest network_works_after_self_test 60 <<'SCRIPT'
same http://10.0.2.2:8000 6
SCRIPT
        in_guest jumbo_mtu_9000 60 <<'SCRIPT'
J=$(nic 2)
ip link set $J mtu 9000
sleep 3
ping -c 4 -W 5 -M do -s 8972 10.0.4.2 | grep -E ' [1-4] received'
same http://10.0.4.2:8000 7
cat /sys/class/net/$J/mtu
SCRIPT
        in_guest vlan_between_two_cards 90 <<'SCRIPT'
A=$(nic 3) B=$(nic 4)
ip netns add far
ip link set $B netns far
ip netns exec far ip link set $B up
ip link add link $A name v5 type vlan id 5
ip netns exec far ip link add link $B name v5 type vlan id 5
ip addr add 10.0.6.1/24 dev v5
ip link set v5 up
ip netns exec far ip addr add 10.0.6.2/24 dev v5
ip netns exec far ip link set v5 up
for i in $(seq 30); do ! ip netns exec far ping -c 1 -W 2 10.0.6.1 || break; sleep 1; done
for s in on off on; do
    ethtool -K $A rxvlan $s
    ip netns exec far ping -c 2 -W 5 10.0.6.1 | grep -E ' [12] received'
done
head -c 3000000 /dev/urandom >/root/net.bin
setsid python3 /root/net.py http /root 8000 10.0.6.1 >/dev/null 2>&1 </dev/null &
for i in $(seq 30); do ! ip netns exec far curl -sS -o /dev/null http://10.0.6.1:8000/net.py || break; sleep 1; done
ip netns exec far curl -sS http://10.0.6.1:8000/net.bin | cmp - /root/net.bin
wc -c </root/net.bin
SCRIPT
        in_guest hub_joins_cards_and_nat 60 <<'SCRIPT'
ping -c 3 -W 5 10.0.7.2
same http://10.0.7.2:8000 8
SCRIPT
        if [ $has_tap = 1 ]; then
            in_guest tap_guest_to_host_kernel 60 <<'SCRIPT'
ip addr add 10.0.5.2/24 dev $(nic 5)
sleep 1
ping -c 3 -W 5 10.0.5.1
same http://10.0.5.1:8000 9
SCRIPT
            on_host tap_host_kernel_to_guest tap_from_host
        else
            skip tap_guest_to_host_kernel "no tap to be had (/dev/net/tun)"
        fi
        on_host scp_both_ways_equal_sha256 scp_both_ways $scp_mib 600
        on_host hundred_idle_connections_cost_under_3_percent hold_hundred
        debian_off
        if command -v tshark >/dev/null 2>&1; then on_host hub_capture_is_sound capture_is_sound "$work/hub.pcap"; else skip hub_capture_is_sound "tshark is not installed"; fi
    else
        touch "$work/done"
        wait $debian_pid
    fi
fi

# ---- a bad line ----
if [ $is_qemu = 0 ] && need impaired_debian "$disk"; then
    if [ "$LONG" = 0 ]; then
        skip impaired_scp_64_mib_both_ways "long: LONG=1"
    elif debian impaired_debian -netdev user,id=n,hostfwd=tcp:127.0.0.1:2222-:22 -device e1000,netdev=n \
        -object filter-impair,id=bad,netdev=n,loss=5,dup=2,reorder=5,seed=7; then
        on_host impaired_scp_64_mib_both_ways scp_both_ways 64 1800
        on_host impaired_info monitor 'info network'
        debian_off
    else
        touch "$work/done"
        wait $debian_pid
    fi
fi

# ---- two small machines, joined five times ----
links="socket_tcp stream_unix dgram_unix socket_mcast socket_udp"
if [ $is_qemu = 0 ] && need joined_machines "$small"; then
    nics="-device e1000,netdev=n0 -device e1000,netdev=n1 -device e1000,netdev=n2 -device e1000,netdev=n3 -device e1000,netdev=n4"
    # the listening side serves a file and its sum on each link
    {
        cat <<SCRIPT
limit $((200 * SLOW))
wait emu login: \$
line root
wait emu:~# 
run mkdir -p /tmp/m && mount -t tmpfs -o size=200m m /tmp/m && cd /tmp/m
run head -c 67108864 /dev/urandom >f0; head -c $((join_mib * 1048576)) f0 >f2; ln f0 f1; ln f2 f3; ln f2 f4
run for i in 0 1 2 3 4; do sha256sum <f\$i >s\$i; ifconfig eth\$i 10.9.\$i.1 up; done
run for i in 0 1 2 3 4; do nc -l -p 600\$i <s\$i & nc -l -p 700\$i <f\$i >/dev/null & done
host touch $work/serving; until [ -f $work/fetched ]; do sleep 0.3; done
kill
SCRIPT
    } >"$work/script.a"
    {
        cat <<SCRIPT
limit $((200 * SLOW))
wait emu login: \$
line root
wait emu:~# 
run mkdir -p /tmp/m && mount -t tmpfs -o size=200m m /tmp/m && cd /tmp/m
run for i in 0 1 2 3 4; do ifconfig eth\$i 10.9.\$i.2 up; done
host until [ -f $work/serving ]; do sleep 0.3; done
SCRIPT
        i=0
        for link in $links; do
            echo "run ping -c 2 -W 5 10.9.$i.1 && nc 10.9.$i.1 600$i >s && nc 10.9.$i.1 700$i | sha256sum | cmp - s && test -s s"
            echo "time $link"
            i=$((i + 1))
        done
        echo "kill"
    } >"$work/script.b"
    "$work/expect" -t $((900 * SLOW)) -l "$OUT/joined_a.log" "$work/script.a" $EMU -m 512 -nographic -snapshot \
        -netdev socket,id=n0,listen=127.0.0.1:9100 -netdev "stream,id=n1,server=on,addr.type=unix,addr.path=$work/stream" \
        -netdev "dgram,id=n2,local.type=unix,local.path=$work/dgram.a,remote.type=unix,remote.path=$work/dgram.b" \
        -netdev socket,id=n3,mcast=230.0.0.1:9101,localaddr=127.0.0.1 -netdev socket,id=n4,udp=127.0.0.1:9103,localaddr=127.0.0.1:9102 $nics "$small" >"$work/times.a" 2>"$work/errors.a" &
    a=$!
    for i in $(seq 120); do [ -S "$work/stream" ] && break; sleep 0.5; done
    sleep 1
    "$work/expect" -t $((900 * SLOW)) -l "$OUT/joined_b.log" "$work/script.b" $EMU -m 512 -nographic -snapshot \
        -netdev socket,id=n0,connect=127.0.0.1:9100 -netdev "stream,id=n1,server=off,addr.type=unix,addr.path=$work/stream" \
        -netdev "dgram,id=n2,local.type=unix,local.path=$work/dgram.b,remote.type=unix,remote.path=$work/dgram.a" \
        -netdev socket,id=n3,mcast=230.0.0.1:9101,localaddr=127.0.0.1 -netdev socket,id=n4,udp=127.0.0.1:9102,localaddr=127.0.0.1:9103 $nics "$small" >"$work/times.b" 2>"$work/errors.b"
    touch "$work/fetched"
    wait $a
    i=0
    for link in $links; do
        size=$join_mib
        [ $i -gt 1 ] || size=64
        if grep -q "^$link " "$work/times.b"; then pass "joined_by_${link}_${size}_mib_equal_sha256" "$(grep "^$link " "$work/times.b")"; else flunk "joined_by_${link}_${size}_mib_equal_sha256" "$(cat "$work/errors.a" "$work/errors.b" | grep '^expect: ' | head -n 2); logs: $OUT/joined_?.log"; fi
        i=$((i + 1))
    done
fi
finish
