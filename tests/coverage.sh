#!/bin/sh
# coverage.sh - COVERAGE.md names only tests that exist.
cd "$(dirname "$0")" || exit 1
all=$(mktemp) || exit 1
trap 'rm -f "$all"' EXIT
cat ./*.c ./*.h ./*.sh fuzz/* guests/* bench/* > "$all"
passed=0 failed=0
# What looks like a test's name: three words or more joined by underscores; "name_*" stands for any rest.
for name in $(sed '/^## In no test/,$d' COVERAGE.md | grep -oE '[a-z0-9]+_[a-z0-9]+_[a-z0-9_]+\*?' | sort -u); do
    case $name in # put together by their scripts
    k_gs_base) continue ;; # a register
    fuzz_net_*) look='ok   fuzz_$name' ;;
    idle_*_connections) look='idle_${count}_connections' ;;
    ipxe_dhcp_*) look='ipxe_dhcp_$model' ;;
    joined_by_* | 64_mib_equal_sha256) look='joined_by_${link}_${size}_mib_equal_sha256' ;;
    nic_*_under_debians_driver) look='nic_${model}_under_debians_driver' ;;
    parallel_*_flows) look='parallel_${flows}_flows' ;;
    short_connections_*) look='short_connections_$shorts' ;;
    *) look=${name%\*} ;;
    esac
    if grep -qF -- "$look" "$all"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $name: no such test"; fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
