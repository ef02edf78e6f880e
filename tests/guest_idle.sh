#!/bin/sh
# tests/guest_idle.sh - An idle guest's use of the host: see tests/guests/idle.sh.
exec sh "$(dirname "$0")/guests/idle.sh"
