#!/bin/sh
# tests/net_backends.sh - every network card under iPXE's driver for it, on the user network; two machines joined; captures; monitor.
#
# Needs iPXE's CD (images/guests.sh ipxe); tshark, where it is installed, reads the captures.
cd "$(dirname "$0")/.." || exit 1
: "${EMU:=$PWD/emu}" "${EMU_IMAGES:=/var/tmp/emu-images}" "${SLOW:=1}"
passed=0 failed=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
ok() { echo "ok   $1"; passed=$((passed + 1)); }
bad() { echo "FAIL $1${2:+: $2}"; failed=$((failed + 1)); }

# want NAME TEXT COMMAND...: the command's output holds the text
want() {
    name=$1 text=$2
    shift 2
    "$@" >"$work/out" 2>&1 </dev/null
    if grep -qF -- "$text" "$work/out"; then ok "$name"; else bad "$name" "$(head -n 3 "$work/out")"; fi
}

want help_lists_cards rtl8139 "$EMU" -nic model=help
want help_lists_e1000 "Intel 82540EM" "$EMU" -nic model=help
want unknown_card_is_named "model=e1001: unknown network card" "$EMU" -display none -nic user,model=e1001
want unknown_backend_is_named "unknown type \"usr\"" "$EMU" -display none -netdev usr,id=n0
want unknown_option_is_named "colour" "$EMU" -display none -netdev user,id=n0,colour=red
want multicast_mac_is_refused "mac=01:00:00:00:00:01" "$EMU" -display none -nic user,mac=01:00:00:00:00:01
want missing_netdev_is_named "no -netdev with id=n9" "$EMU" -display none -device e1000,netdev=n9
want refused_connection_says_what_to_do "start the listening side first" "$EMU" -display none -netdev socket,id=n0,connect=127.0.0.1:1
want taken_backend_is_refused "is connected already" "$EMU" -display none -netdev user,id=n0 -device e1000,netdev=n0 -device e1000,netdev=n0

# Monitor: the default network, links, backends added and removed.
printf 'info network\nset_link e1000.0 off\ninfo network\nnetdev_add user,id=extra\nnetdev_del extra\nnetdev_del extra\nset_link nobody on\nquit\n' >"$work/commands"
"$EMU" -display none -serial null -S -monitor stdio <"$work/commands" >"$work/out" 2>&1
if grep -q 'e1000.0: type=nic,peer=hub0port1.*model=e1000,macaddr=52:54:00:12:34:56' "$work/out"; then ok default_network_is_a_hub_with_e1000; else bad default_network_is_a_hub_with_e1000; fi
if grep -q 'e1000.0: type=nic,link=down' "$work/out"; then ok set_link_unplugs; else bad set_link_unplugs; fi
if [ "$(grep -c "Device 'extra' not found" "$work/out")" = 1 ] && grep -q "Device 'nobody' not found" "$work/out"; then ok netdev_add_and_del; else bad netdev_add_and_del; fi
printf 'info network\nquit\n' | "$EMU" -nodefaults -display none -S -monitor stdio >"$work/out" 2>&1
if grep -q 'e1000' "$work/out"; then bad nodefaults_has_no_card; else ok nodefaults_has_no_card; fi

# A bridge of the host, in a namespace: the tap becomes its port, by ourselves or by QEMU's helper, and is gone with the machine.
ns=emu-bridge-$$
helper=/usr/lib/qemu/qemu-bridge-helper
ports() { ip -n "$ns" -o link show master br7 2>/dev/null | wc -l; }
# joins NAME COMMAND...: the machine's tap is a port of br7 while it runs
joins() {
    name=$1
    shift
    "$@" -S -display none -serial none -monitor none >"$work/out" 2>&1 </dev/null &
    pid=$!
    n=0
    until [ "$(ports)" = 1 ] || [ $n -gt $((200 * SLOW)) ]; do sleep 0.1; n=$((n + 1)); done
    if [ "$(ports)" = 1 ]; then ok "$name"; else bad "$name" "$(head -n 3 "$work/out")"; fi
    kill $pid 2>/dev/null
    wait $pid
    if [ "$(ports)" = 0 ]; then ok "${name}_and_leaves"; else bad "${name}_and_leaves"; fi
}
if [ "$(id -u)" = 0 ] && [ -c /dev/net/tun ] && ip netns add "$ns" 2>/dev/null; then
    trap 'rm -rf "$work"; ip netns del "$ns"' EXIT
    if ip -n "$ns" link add br7 type bridge 2>/dev/null; then
        joins bridge_joins ip netns exec "$ns" "$EMU" -nic bridge,br=br7
        joins tap_br_joins ip netns exec "$ns" "$EMU" -netdev tap,id=n0,br=br7 -device e1000,netdev=n0
        want bridge_missing_is_named "br=none7" ip netns exec "$ns" "$EMU" -display none -nic bridge,br=none7
        want bridge_helper_missing_is_named "helper=/nonexistent" ip netns exec "$ns" "$EMU" -display none -nic bridge,br=br7,helper=/nonexistent
        if [ -x $helper ]; then
            # the helper asks /etc/qemu/bridge.conf; the namespace has mounts of its own
            echo 'mount -t tmpfs tmpfs /etc && mkdir /etc/qemu && echo allow br7 >/etc/qemu/bridge.conf && exec "$@"' >"$work/allow"
            joins bridge_helper_joins ip netns exec "$ns" sh "$work/allow" "$EMU" -netdev bridge,id=n0,br=br7,helper=$helper -device e1000,netdev=n0
            echo 'mount -t tmpfs tmpfs /etc && mkdir /etc/qemu && echo deny br7 >/etc/qemu/bridge.conf && exec "$@"' >"$work/allow"
            want bridge_helper_refuses "helper=$helper" ip netns exec "$ns" sh "$work/allow" "$EMU" -display none -nic bridge,br=br7,helper=$helper
        else
            echo "skip bridge_helper_joins: no $helper"
        fi
    else
        echo "skip bridge_joins: this kernel has no bridges"
    fi
else
    echo "skip bridge_joins: needs root, ip netns and /dev/net/tun"
fi

iso=$EMU_IMAGES/ipxe.iso
if [ ! -r "$iso" ]; then
    echo "skip ipxe_dhcp: $iso is not there (images/guests.sh ipxe)"
else
    for model in e1000 rtl8139 ne2k_pci; do
        : >"$work/$model.out"
        { # asks until the address is there
            i=0
            while [ $i -lt $((60 * SLOW)) ] && ! grep -aq 'gw 10\.0\.2\.2' "$work/$model.out"; do
                sleep 3
                echo screentext
                i=$((i + 1))
            done
            echo quit
        } |
            "$EMU" -display none -serial none -monitor stdio -m 64M -nic user,model=$model,id=u0 -object filter-dump,id=d0,netdev=u0,file="$work/$model.pcap" \
                -cdrom "$iso" -boot d >"$work/$model.out" 2>&1 &
    done
    wait
    for model in e1000 rtl8139 ne2k_pci; do
        if grep -q '10\.0\.2\.15/255\.255\.255\.0 gw 10\.0\.2\.2' "$work/$model.out"; then ok "ipxe_dhcp_$model"; else bad "ipxe_dhcp_$model" "$(grep -a 'net0\|No more' "$work/$model.out" | head -n 3)"; fi
        if command -v tshark >/dev/null; then
            if [ "$(tshark -r "$work/$model.pcap" -Y dhcp 2>/dev/null | wc -l)" -ge 4 ] && [ -z "$(tshark -r "$work/$model.pcap" -Y _ws.malformed 2>/dev/null)" ]; then
                ok "capture_is_well_formed_$model"
            else
                bad "capture_is_well_formed_$model"
            fi
        else
            echo "skip capture_is_well_formed_$model: no tshark"
        fi
    done
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
