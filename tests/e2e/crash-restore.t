#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of a restore (crash-snapshot.sh).
. "$(dirname "$0")/crash-snapshot.sh"
crash_matrix restore
