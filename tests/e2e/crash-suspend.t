#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of a suspend (crash-snapshot.sh).
. "$(dirname "$0")/crash-snapshot.sh"
crash_matrix suspend
