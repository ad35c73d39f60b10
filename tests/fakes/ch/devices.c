/* The VM's devices: what is opened, locked and held for them; their ids. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

void machine_add_node(const char *id, const char *bdf)
{
	json_t *node = json_pack("{s:s,s:[],s:[]}", "id", id, "resources", "children");

	if (bdf != NULL)
		json_object_set_new(node, "pci_bdf", json_string(bdf));
	json_object_set_new(vm.tree, id, node);
}

void machine_remove_node(const char *id)
{
	json_object_del(vm.tree, id);
}

bool machine_is_id(const char *id)
{
	return json_object_get(vm.tree, id) != NULL;
}

json_t *machine_add_device(const char *kind, json_t *config)
{
	const char *id = json_string_value(json_object_get(config, "id"));
	char name[64], bdf[16];

	for (unsigned i = 0; id == NULL; i++) {
		snprintf(name, sizeof(name), "_%s%u", kind, i);
		if (!machine_is_id(name))
			id = name;
	}
	snprintf(bdf, sizeof(bdf), "0000:00:%02x.0", ++vm.next_slot);
	json_object_set_new(config, "id", json_string(id));
	machine_add_node(json_string_value(json_object_get(config, "id")), bdf);
	return json_pack("{s:O,s:s}", "id", json_object_get(config, "id"), "bdf", bdf);
}

static bool refused(const char *what, const char *name, const char *cause)
{
	answer_error(what, "Error from device manager", name, cause, NULL);
	return false;
}

/* Its descriptor is held as long as the VM is. */
bool machine_hold(int fd, const char *id)
{
	if (vm.nheld == FDS_MAX)
		return false;
	vm.held[vm.nheld].fd = fd;
	snprintf(vm.held[vm.nheld].id, sizeof(vm.held[0].id), "%s", id);
	vm.nheld++;
	return true;
}

void machine_let_go(const char *id)
{
	for (size_t i = 0; i < vm.nheld; i++) {
		if (id != NULL && strcmp(vm.held[i].id, id) != 0)
			continue;
		close(vm.held[i].fd);
		vm.held[i--] = vm.held[--vm.nheld];
	}
}

static bool open_tap(const json_t *net, const char *what)
{
	const char *name = json_string_value(json_object_get(net, "tap"));
	const char *id = json_string_value(json_object_get(net, "id"));
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	char why[256];
	int fd;

	if (name == NULL)
		return true;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0 && machine_hold(fd, id != NULL ? id : name))
		return true;
	snprintf(why, sizeof(why), "%s (os error %d)", strerror(errno), errno);
	if (fd >= 0)
		close(fd);
	return refused(what, "Cannot open tap", why);
}

/* block/src/fcntl.rs; a lock of this kind is the open file's. */
static bool lock_disk(int fd, const char *path, bool readonly, const char *what)
{
	struct flock lock = { .l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	char why[512];

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return true;
	snprintf(why, sizeof(why), "Failed to get %s lock for disk image: %s",
		readonly ? "Read" : "Write", path);
	answer_error(what, "Error from device manager", "Cannot lock images of all block devices",
		why, "The file is already locked", NULL);
	close(fd);
	return false;
}

static bool fits_type(int fd, const json_t *disk, const char *what)
{
	const char *type = json_string_value(json_object_get(disk, "image_type"));
	bool qcow2 = type != NULL && strcmp(type, "Qcow2") == 0, is;
	char head[4] = "", why[128];

	is = pread(fd, head, 4, 0) == 4 && memcmp(head, "QFI\xfb", 4) == 0;
	if (type == NULL || is == qcow2)
		return true;
	snprintf(why, sizeof(why),
		"Disk image type does not match expected type: specified = %s, detected = %s",
		qcow2 ? "qcow2" : "raw", is ? "qcow2" : "raw");
	answer_error(what, "Error from device manager", why, NULL);
	close(fd);
	return false;
}

static bool open_disk(const json_t *disk, const char *what)
{
	const char *path = json_string_value(json_object_get(disk, "path"));
	const char *id = json_string_value(json_object_get(disk, "id"));
	bool readonly = json_is_true(json_object_get(disk, "readonly"));
	char name[512], why[256];
	int fd;

	if (path == NULL)
		return true;
	fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0) {
		snprintf(why, sizeof(why), "%s (os error %d)", strerror(errno), errno);
		snprintf(name, sizeof(name), "I/O error (path=%s op=open)", path);
		answer_error(what, "Error from device manager", "Cannot open disk path", name, why,
			NULL);
		return false;
	}
	return fits_type(fd, disk, what) && lock_disk(fd, path, readonly, what) &&
	       machine_hold(fd, id != NULL ? id : path);
}

bool machine_open_device(const char *kind, const json_t *config, const char *what)
{
	if (strcmp(kind, "disk") == 0)
		return open_disk(config, what);
	return strcmp(kind, "net") != 0 || open_tap(config, what);
}

static bool same_id(const json_t *a, const char *id)
{
	const char *name = json_string_value(json_object_get(a, "id"));

	return name != NULL && id != NULL && strcmp(name, id) == 0;
}

size_t machine_count_id(const char *id)
{
	static const char *const lists[] = { "disks", "net", "fs", "pmem", "devices",
		"user_devices", "vdpa", "generic_vhost_user" };
	json_t *one;
	size_t i, n = 0;

	for (size_t k = 0; k < N(lists); k++)
		json_array_foreach (json_object_get(vm.config, lists[k]), i, one)
			n += same_id(one, id);
	return n;
}

bool machine_unique(const char *what, const char *id, size_t allowed)
{
	char text[128];

	if (id == NULL || machine_count_id(id) <= allowed)
		return true;
	snprintf(text, sizeof(text), "Identifier %s is not unique", id);
	answer_error(what, "Failed to validate config", text, NULL);
	return false;
}
