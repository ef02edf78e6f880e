#!/bin/sh
# tests/guest_debian.sh - A stock Debian disk: see tests/guests/debian.sh.
exec sh "$(dirname "$0")/guests/debian.sh"
