#!/bin/sh
# tests/guest_mainjob.sh - The main job, ssh included: see tests/guests/mainjob.sh.
exec sh "$(dirname "$0")/guests/mainjob.sh"
