#!/bin/sh
# tests/guest_nics.sh - rtl8139 and ne2k_pci under Debian's drivers: see tests/guests/nics.sh.
exec sh "$(dirname "$0")/guests/nics.sh"
