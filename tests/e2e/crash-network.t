#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of making a network with a bridge and of attaching
# a nic to it (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix network port user
