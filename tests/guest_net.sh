#!/bin/sh
# tests/guest_net.sh - The network in real guests: see tests/guests/net.sh.
exec sh "$(dirname "$0")/guests/net.sh"
