#!/bin/sh
# fuzz.sh - each fuzz target (tests/fuzz) for a moment, from a fixed seed. FUZZ_SECONDS=600: as long as a release wants it.
cd "$(dirname "$0")/.." || exit 1
: "${FUZZ_SECONDS:=6}"
[ -z "$LONG" ] || [ "$FUZZ_SECONDS" -gt 6 ] || FUZZ_SECONDS=120
top=$PWD
mkdir -p build
passed=0 failed=0
if ! sh tests/fuzz/build.sh build/fuzz > build/fuzz.build 2>&1; then
    tail -n 5 build/fuzz.build
    echo "FAIL fuzz: does not build"
    echo "0 passed, 1 failed"
    exit 1
fi
# One good input each, for the engine without coverage.
mac='\122\125\012\000\002\002\122\124\000\022\064\126'
for t in tests/fuzz/*.c; do
    name=$(basename "$t" .c)
    [ "$name" = driver ] && continue
    folder=build/fuzz/$name.run
    rm -rf "$folder"
    mkdir -p "$folder/corpus"
    case $name in
    net_ether) # ARP for the gateway, echo to it, and a SYN to the guestfwd server
        printf '\052\000\001'"$mac"'\010\006\000\001\010\000\006\004\000\001\122\124\000\022\064\126\012\000\002\017\000\000\000\000\000\000\012\000\002\002' > "$folder/corpus/arp"
        printf '\052\000\005'"$mac"'\010\000\105\000\000\034\000\001\000\000\100\001\000\000\012\000\002\017\012\000\002\002\010\000\000\000\000\001\000\001' > "$folder/corpus/echo"
        printf '\066\000\005'"$mac"'\010\000\105\000\000\050\000\001\000\000\100\006\000\000\012\000\002\017\012\000\002\144\060\000\000\007\000\000\000\001\000\000\000\000\120\002\377\377\000\000\000\000' > "$folder/corpus/syn" ;;
    net_dns) printf '\030\000\022\064\001\000\000\001\000\000\000\000\000\000\001a\004test\000\000\001\000\001\022\064\201\200\000\001\000\000\000\000\000\000\001a\004test\000\000\001\000\001' > "$folder/corpus/a" ;;
    net_tftp) printf '\025\000\000\001if.h\000octet\000tsize\0000\000\004\001\000\004\000\001' > "$folder/corpus/get" ;;
    net_stream) printf '\104\000\000\000\000\100%064d\024\006\000\000\000\100%016d' 1 2 > "$folder/corpus/frames" ;;
    dev_nics) printf '\001\007\067\000\034\000\104\000\002\000\020\000\000\004\100\001' > "$folder/corpus/ring" ;;
    fw_loader) printf '\002\260\255\033\000\000\001\000\376\117\121\344\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\000\000\020\000\003' > "$folder/corpus/multiboot" ;;
    disk_qcow2) # a write and a read; header, refcount table, refcount block, L1 table in clusters of 512 bytes, a disk of 64 KiB
        {
            printf '\000\010\000\000\001\007\003\000\000\017QFI\373\000\000\000\003'
            head -c 12 /dev/zero
            printf '\000\000\000\011\000\000\000\000\000\001\000\000\000\000\000\000\000\000\000\002\000\000\000\000\000\000\006\000\000\000\000\000\000\000\002\000\000\000\000\001'
            head -c 36 /dev/zero
            printf '\000\000\000\004\000\000\000\150'
            head -c 408 /dev/zero
            printf '\000\000\000\000\000\000\004\000'
            head -c 504 /dev/zero
            printf '\000\001\000\001\000\001\000\001'
            head -c 1016 /dev/zero
        } > "$folder/corpus/empty" ;;
    dev_ports) printf '\000\160\340\000\000\000\040\167\354\000\000\000\004\024' > "$folder/corpus/identify" ;;
    esac
    (cd "$folder" && "$top/build/fuzz/$name" -seed=1 -runs=100000000 -max_total_time="$FUZZ_SECONDS" -max_len=4096 -timeout=60 corpus) > "$folder/log" 2>&1
    status=$?
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$folder/log")
    if [ $status = 0 ] && [ "${runs:-0}" -gt 0 ]; then
        echo "ok   fuzz_$name ($runs inputs, $FUZZ_SECONDS s)"
        passed=$((passed + 1))
    else
        echo "FAIL fuzz_$name: status $status; the input is in $folder"
        grep -E 'ERROR|runtime error|SUMMARY' "$folder/log" | head -n 5
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
