#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of its own start and of an adoption (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix boot adopt
