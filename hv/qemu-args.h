/*
 * hv/qemu-args.h - QEMU's command line in the making: qemu-args.c (its order, sockets, kernel,
 * nics), qemu-args-board.c (machine, processors, memory, firmware), qemu-args-devices.c (disks and
 * what else is plugged in). Pure. Private to hv/.
 */
#ifndef DROVER_HV_QEMU_ARGS_H
#define DROVER_HV_QEMU_ARGS_H

#include "hv/qemu.h"

struct qemu_args {
	const struct hv_spec *spec;
	struct hv_command *cmd;
	bool microvm; /* devices are virtio-mmio, not PCI */
	bool virt;    /* the board of Arm machines: no ISA, no AHCI, no VGA */
	int next_fd;
};

/* QEMU splits option values at commas; a doubled one stands for itself. Appends to v. */
void args_value(struct buf *v, const char *value);
void args_add(struct qemu_args *b, const char *option, const char *value);
/* An option whose value was put together in v, which is emptied. */
void args_add_buf(struct qemu_args *b, const char *option, struct buf *v);
/* Returns the descriptor's number in QEMU, -1 when there is no room. */
int args_pass_fd(struct qemu_args *b, int fd);
/* "virtio-blk" becomes the device of this machine's bus. */
void args_device(struct buf *v, const struct qemu_args *b, const char *virtio);

/* qemu-args-board.c */
void args_board(struct qemu_args *b, bool use_kvm);

/* qemu-user.c: the -netdev of a nic with its own network. */
void args_user_net(struct qemu_args *b, const struct hv_nic *n);
/* The same as arguments of netdev_add; NULL without memory. */
json_t *qemu_user_netdev(const struct hv_user_net *u, const char *id);

/* qemu-args-devices.c */
void args_display(struct qemu_args *b);
int args_disks(struct qemu_args *b, struct err *err);
/* Everything but disks and nics; what is not asked for is not there. */
int args_devices(struct qemu_args *b, struct err *err);

#endif
