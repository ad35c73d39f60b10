#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of attaching a nic to a link that it shares
# (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix macvtap
