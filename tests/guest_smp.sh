#!/bin/sh
# tests/guest_smp.sh - Several processors: see tests/guests/smp.sh.
exec sh "$(dirname "$0")/guests/smp.sh"
