/*
 * supervisor/hardware.h - values of the keys that describe a machine's hardware. Pure; any thread.
 *
 *	volume = NAME|/PATH [size=SIZE] [format=raw|qcow2] [ro] [serial=TEXT]
 *	share  = TAG /PATH [ro]
 *	boot   = disk, cdrom, network
 *	vsock  = none | auto | CID
 */
#ifndef DROVER_SUPERVISOR_HARDWARE_H
#define DROVER_SUPERVISOR_HARDWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "hv/hv.h"

#define VOLUMES_MAX 16
#define SHARES_MAX  8
#define SERIAL_MAX  20 /* bytes (virtio 1.2, 5.2.6.1) */
#define TAG_MAX     36 /* bytes (virtio 1.2, 5.11.4) */

struct volume {
	char *name; /* of the machine's own; NULL: path is somebody's */
	char *path; /* NULL with a name */
	uint64_t size;
	enum hv_disk_format format;
	bool readonly;
	char serial[SERIAL_MAX + 1]; /* "": none */
};
/* out is written only on success; release it with volume_finish(). */
int volume_parse(struct volume *out, const char *text, struct err *err);
void volume_finish(struct volume *v);
const char *disk_format_name(enum hv_disk_format f); /* "qcow2" */

struct share {
	char *tag, *path;
	bool readonly;
};
int share_parse(struct share *out, const char *text, struct err *err);
void share_finish(struct share *s);

enum boot_device {
	BOOT_DISK,
	BOOT_CDROM,
	BOOT_NETWORK,
	BOOT_DEVICES
};
struct boot_order {
	enum boot_device v[BOOT_DEVICES]; /* each once at most */
	size_t n;
};
int boot_order_parse(struct boot_order *out, const char *text, struct err *err);
bool boot_order_has(const struct boot_order *o, enum boot_device device);

#define VSOCK_CID_MIN 3 /* those below have meanings of their own (vsock(7)) */
#define VSOCK_CID_MAX UINT32_C(0xfffffffe)
/* *is_auto, or *cid, which is 0 for none. */
int vsock_parse(const char *text, bool *is_auto, uint32_t *cid, struct err *err);

#endif
