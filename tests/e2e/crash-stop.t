#!/usr/bin/env bash
# droverd is killed or a step fails, at every point of a stop (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix stop teardown
