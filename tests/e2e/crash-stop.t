#!/usr/bin/env bash
# droverd is killed at every point of a stop, a reload, its own start and an adoption (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix stop teardown release reload boot adopt
