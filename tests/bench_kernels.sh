#!/bin/sh
# tests/bench_kernels.sh - The benchmark kernels' checksums: see tests/bench/check.sh.
exec sh "$(dirname "$0")/bench/check.sh"
