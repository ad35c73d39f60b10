#!/usr/bin/env bash
# The source of a migration is killed at every point of it (crash-migrate.sh).
. "$(dirname "$0")/crash-migrate.sh"
crash_matrix() { migrate_matrix "$1"; }
crash_matrix migrate
