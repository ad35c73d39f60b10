#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of a reload (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix reload
