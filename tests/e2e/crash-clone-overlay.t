#!/usr/bin/env bash
# The same as crash-clone.t, of a machine whose disk is an overlay: the copy has what it lies above.
overlay=yes
. "$(dirname "$0")/crash-clone.t"
