#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of a release, a reload, its own start and an
# adoption (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix release reload boot adopt
