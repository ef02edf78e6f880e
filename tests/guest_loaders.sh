#!/bin/sh
# tests/guest_loaders.sh - Loaders and kernels: see tests/guests/loaders.sh.
exec sh "$(dirname "$0")/guests/loaders.sh"
