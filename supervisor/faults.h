/* supervisor/faults.h - the tables of fault points (lib/fault.h), each defined beside its steps. */
#ifndef DROVER_SUPERVISOR_FAULTS_H
#define DROVER_SUPERVISOR_FAULTS_H

#include "lib/fault.h"

extern const struct fault_table start_faults, run_faults, attach_faults, service_faults,
	stop_faults, teardown_faults, release_faults, reload_faults, boot_faults, adopt_faults,
	snapshot_faults, restore_faults, suspend_faults, clone_faults, nic_faults, network_faults,
	port_faults, freeze_faults, warm_faults, migrate_faults, receive_faults, user_faults,
	macvtap_faults;

#endif
