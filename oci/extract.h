/*
 * oci/extract.h - kernel and initrd taken out of an image's layers. Part of drover-image: blocks.
 *
 * Later layers and whiteouts count; symbolic links are followed inside the image only, so
 * /boot/vmlinuz -> vmlinuz-6.1 and links out of /boot work and links out of the image cannot.
 */
#ifndef DROVER_OCI_EXTRACT_H
#define DROVER_OCI_EXTRACT_H

#include "oci/layers.h"

struct kernel_files {
	/* Where they were in the image, "/boot/vmlinuz-6.1.0-28-amd64"; initrd may be "". */
	char kernel[512];
	char initrd[512];
};

/*
 * Writes the files "kernel" and, where the image has one, "initrd" (mode 0644, not fsynced) into
 * the directory open at dir_fd; both must not exist there.
 *
 * Kernel: /boot/vmlinux, else /boot/vmlinuz, else the highest version of /boot/vmlinux-* and
 * /boot/vmlinuz-*, *.old only when there is nothing else. Initrd: the one of the kernel's version,
 * else /boot/initrd, initrd.img, initramfs, else the highest version of initrd* and initramfs*.
 * With neither of these kernels, a unified kernel image and no initrd: NAME.efi in /boot or in
 * /EFI/Linux of a boot partition, there or at /boot, /boot/efi or /efi; the highest version.
 * -ENOENT: no kernel; the message lists what /boot holds. Other errors as layers_build_disk().
 */
int extract_kernel(const struct layer_src *layers, size_t n, int dir_fd,
	layers_progress_fn *progress, void *arg, struct kernel_files *out, struct err *err);

/* The files kernel and initrd in the directory; closed, and those removed that came to nothing. */
int extract_create(int dir_fd, int fds[2], struct err *err);
/* r is what extracting gave; returns it, or what went wrong now. */
int extract_close(int dir_fd, const int fds[2], bool initrd, int r, struct err *err);

/* The same into two files that are open; that of the initrd stays as it is where there is none. */
int extract_kernel_to(const struct layer_src *layers, size_t n, int kernel_fd, int initrd_fd,
	layers_progress_fn *progress, void *arg, struct kernel_files *out, struct err *err);

#endif
