#!/usr/bin/env bash
# droverd is killed, or a step fails, at every point of attaching a nic (crash.sh).
. "$(dirname "$0")/crash.sh"
crash_matrix attach service
