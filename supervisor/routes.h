/*
 * supervisor/routes.h - the HTTP API of droverd: every route in one table.
 *
 * HTTP/1.1 with JSON over the Unix socket `listen`. An error is
 *   {"error":{"code":WORD,"message":SENTENCE,"vm":NAME|null,"state":STATE|null}}
 * with WORD as err_word(): invalid 400, denied 403, not-found 404, wrong-state, busy and exists
 * 409, unsupported 501, again 503, timeout 504, anything else 500. A reload or plan of a broken file has
 * "errors":[{"file","line","message"}] beside it (code "config", 422).
 *
 *   GET    /version                       {version, api: 1, pid}
 *   GET    /health                        {status: "ok", machines, uptime_s}
 *   GET    /vms[?all=1]                   array of summaries; all: removed ones with disks too
 *   GET    /vms/NAME                      summary and more, see below
 *   POST   /vms/NAME/ACTION[?wait=S]      start stop kill restart pause resume suspend; an operation;
 *                                         start?discard=1 boots a suspended machine afresh
 *   GET    /vms/NAME/snapshots            array of {name, created, kind, consistency,
 *                                         description|null, hypervisor_version|null, size,
 *                                         allocated}, oldest first
 *   POST   /vms/NAME/snapshots[?wait=S]   body {"name", "description", "disks": bool,
 *                                         "crash_consistent": bool}; an operation
 *   GET    /vms/NAME/snapshots/SNAP       its manifest (supervisor/snapshot.h)
 *   DELETE /vms/NAME/snapshots/SNAP[?wait=S]          an operation
 *   POST   /vms/NAME/snapshots/SNAP/restore[?wait=S]  an operation
 *   POST   /vms/NAME/migrate[?wait=S]     body {"to": URL, "via": address, "max_bandwidth": bytes a
 *                                         second}; an operation; or {"resolve": "keep"|"give"}
 *   DELETE /vms/NAME[?disks=1][&wait=S]   an operation; only a stopped or removed machine
 *   GET    /vms/NAME/why                  the last run, below
 *   GET    /vms/NAME/log[?boot=N][&follow=1]  text/plain; boot 0: the current or last, -1 before
 *   GET    /vms/NAME/console[?write=MODE][&force=1][&replay=0][&from=POS&boot=N]
 *                     [&wrote=ID]       see below
 *   POST   /vms/NAME/console[?attached=ID]  body: bytes for the guest; 204. Without ID beside
 *                                         others that share
 *   POST   /vms/NAME/qmp[?write=1]        body: one QMP command; answer: its reply as QEMU gave it;
 *                                         without write one that may change something is denied
 *   POST   /vms/NAME/ch[?write=1]         body: a request to cloud-hypervisor's API as text, "PUT
 *                                         /vm.resize {...}"; answer: {status, return} or {status,
 *                                         error: [...]}; without write it must be a GET
 *   GET    /migrations                    array of {name, id, role, state, peer, doubt}
 *   POST   /migrations                    body: what machine comes; answer: {id, via, state}
 *   GET    /migrations/ID
 *   POST   /migrations/ID/commit|abort|farewell  {id, answer}: supervisor/handover.h
 *   GET    /operations                    array of those under way and the last 100
 *   GET    /operations/ID[?wait=S]        without wait a failed one is shown, not answered as error
 *   POST   /operations/ID/cancel
 *   GET    /events[?since=SEQ][&follow=1][&vm=NAME]  one JSON object a line
 *                                         (application/x-ndjson); seq > SEQ; below 0: the
 *                                         last -SEQ
 *   GET    /plan                          {actions:[...]}: what a reload would do now
 *   POST   /reload                        {actions:[...]}: what was set going
 *   GET    /config[?all=1]                text/plain, the effective INI; all: defaults too
 *   POST   /images/pull                   body {"reference":R,"policy":P}; answer: JSON lines of
 *                                         oci/image.h as they come, the last is done or error
 *   GET    /images                        array of {reference, digest, size, created, os,
 *                                         architecture, used_by:[]}
 *   DELETE /images?reference=R            {freed: bytes}
 *   GET    /registries                    array of {name, upstream, listen, state, mode, pid}
 *   GET    /networks                      array of {name, kind, state, problem|null, cidr|null,
 *                                         domain|null, bridge|null, gateway|null, pid|null,
 *                                         nics:[{vm, nic, tap, mac, address|null, running}],
 *                                         leases:[{address, mac, vm|null, expires}]}
 *   GET    /networks/NAME                 one of them
 *   GET    /doctor                        {checks:[{check, ok, level, message, fix|null}],
 *                                         differences:[{kind, name, owner|null, difference,
 *                                         action}]}; level: "error", "warning" or "info"
 *   POST   /doctor[?fix=1]                the same; fix: mends the differences
 *
 * wait=S: the answer comes when the operation has ended or S seconds (at most 3600) have passed;
 * without it at once. 202 while it is under way, 200 when it is done; a failed one answers with
 * its error. What needed no operation (start of a running machine) has id null and is done.
 *
 * A log that is followed begins with what there is of the boot and ends with the run; that of a
 * machine which is about to start waits for its console. A pull goes on when its client goes.
 *
 * A console is a stream of frames, "o LEN\n" with so many bytes of the guest's or "j LEN\n" with an
 * object. The first is {attached: ID, boot, position, now, writes, writers}: the output begins at
 * position (a count of bytes since the boot began; the log's last 1 MiB at most, or what came behind
 * POS of boot N, or with replay=0 nothing before now); all before now is old. MODE: alone (the
 * default; waits until nobody else writes), share, none; force takes the turn from who has it.
 * wrote=ID: who was ID at an earlier droverd's, and wrote, goes on writing.
 * {writes, writers} comes when that changes; writers: "uid 0 (pid 17), for 3s" or null. {end: true}:
 * the run is over. A reader more than 1 MiB behind is cut off without it, and may come again.
 * busy (409): somebody else writes; again (503): the guest has no room, nothing was taken.
 *
 * summary: {name, state, conditions:[], hypervisor, pid|null, address|null, mac|null,
 *   network|null, image|null, uptime_s|null, restarts, last_cause|null}
 * conditions: unresponsive, degraded (a dnsmasq is down), restart-pending (on_change = defer),
 *   unsaved (its state file cannot be written),
 *   not-ready, unhealthy
 * state: stopped preparing starting running paused saving restoring migrating stopping backoff
 *   failed unknown removed suspended
 * GET /vms/NAME adds: wanted ("running"|"stopped"), nics:[{name, network, mac, tap,
 *   addresses:[], added}], accel, machine, memory, vcpus, kernel, rootfs, disk, boot (number of this
 *   boot), restart, error|null (why the last start failed), operation|null, ssh:{user, identity|null,
 *   address}, console (path of the Unix socket: raw bytes both ways, no replay), monitor,
 *   qmp (path of the socket for other clients of the monitor), log (path),
 *   guest_id, started (time), migration|null {role, state, peer, doubt}, migrated_to|null, capabilities:[], cannot:{capability: reason},
 *   health|null (of a machine that is up and has checks):
 *   {state: "starting"|"healthy"|"unhealthy", ready, checks:[{check, ok|null, error|null, last|null}]}
 * operation: {id, verb, vm, state: "running"|"done"|"failed"|"cancelled", error|null, step,
 *   started, ended|null}; of a running one that copies memory: progress {done, total} in bytes
 * why: {name, state, boot, cause, sentence, started, ended, status, console:[last 20 lines],
 *   story:[{time, event, text}]}; of the present run, with cause null, while there is one
 * event: {seq, time, kind: "vm"|"network"|"registry"|"image"|"drover", name, event, ...}
 *   vm: state {from, to, cause, reason}, stop-step {step}, ended {cause, reason, boot, status},
 *     panic, rebooted, reset, watchdog, io-error, nospace, nospace-over, monitor-lost, unresponsive, responsive
 *     {reason, by_us}, ready, healthy, unhealthy {check, reason}, health-action {action, check,
 *     reason}, adopted, removed, qmp {command, line (of the human monitor), uid, pid, write (it
 *     may change something), refused}; state and reset have by: who at the passthrough caused it
 *     migrate-begun, migrate-failed, migrate-doubt, migrated {to, reason}, receive-begun,
 *     receive-failed, received {from, reason}
 *     snapshot-begun, snapshot-done, snapshot-failed, snapshot-deleting, snapshot-deleted,
 *     suspend-begun, suspend-failed, restore-begun, restore-failed, restored {snapshot, reason}
 *   network, registry: started {pid}, died {reason}, ready {mode}
 *   network: ready {bridge}, failed {error}, removed, lease {action: "new"|"changed"|"gone",
 *     address, mac, vm|null, expires}
 *   drover: started, reloaded, re-executing, stopping, log-begun-anew (the event log was gone)
 */
#ifndef DROVER_SUPERVISOR_ROUTES_H
#define DROVER_SUPERVISOR_ROUTES_H

#include "supervisor/server.h"

struct drover;
/* The table; requests get the struct drover as their arg. */
extern const struct route routes[];
extern const size_t nroutes;

#endif
