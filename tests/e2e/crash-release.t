#!/usr/bin/env bash
# droverd is killed, or the kernel refuses, at every object that a machine leaves behind (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix release
