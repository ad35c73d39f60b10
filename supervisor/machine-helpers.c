/*
 * Programs that work for one machine beside its hypervisor, swtpm and virtiofsd, and its vsock
 * address: supervisor/machine-steps.h. They listen before the hypervisor is spawned, on sockets
 * that are made here, and go with the run. Neither protocol lets a hypervisor connect again: one
 * that dies leaves the machine degraded until its next start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/machine-steps.h"
#include "supervisor/service.h"

#define CHILD_FD    3
#define VHOST_VSOCK "/dev/vhost-vsock"

/* ---- their ends ---- */

static bool hypervisor_runs(const struct machine *m)
{
	char state = m->process && m->hv != NULL ? proc_state(hv_process(m->hv)->pid) : 0;

	return state != 0 && state != 'Z' && state != 'X';
}

/* virtiofsd ends by itself, well, when its hypervisor has gone. */
static bool has_ended(void *arg, const struct child_status *status)
{
	if (status->known && !status->signaled && status->code == 0)
		return true;
	return !hypervisor_runs(arg);
}

static void set_degraded(struct machine *m, char *why)
{
	if (why == NULL)
		return;
	machine_tell(m, "degraded", "%s", why);
	free(m->degraded);
	m->degraded = why;
	machine_save_soon(m);
}

static bool helper_died(void *arg, const struct child_status *status)
{
	struct machine *m = arg;

	for (unsigned i = 0; i < m->nhelpers; i++) {
		const struct machine_helper *h = &m->helpers[i];

		if (h->service != NULL && !service_up(h->service) && !h->told) {
			m->helpers[i].told = true;
			set_degraded(m, str_printf("%s %s; it comes back with the machine's next "
						   "start",
						h->name, child_status_text(status)));
		}
	}
	return false;
}

/* ---- starting ---- */

static int helper_new(struct machine *m, const char *program, const char *what,
	struct machine_helper **out, struct err *err)
{
	const struct service_callbacks cb = { .died = helper_died, .ended = has_ended, .arg = m };
	struct machine_helper *h = &m->helpers[m->nhelpers];
	struct service_spec spec = { .kind = "helper", .owner = m->owner };
	char *log = str_printf("%s/%s.log", m->log_dir, program);
	int r;

	*h = (struct machine_helper){ .name = str_printf("%s-%s%s%s", program, m->name,
					      what != NULL ? "/" : "", what != NULL ? what : "") };
	spec.name = h->name;
	spec.log_path = log;
	if (log == NULL || h->name == NULL)
		r = err_nomem(err);
	else
		r = service_create(&h->service, m->d, &spec, &cb, err);
	free(log);
	if (r < 0) {
		free(h->name);
		h->name = NULL;
		return r;
	}
	m->nhelpers++;
	*out = h;
	return 0;
}

/* Its socket listens before it runs: whoever connects meanwhile waits. argv is taken over. */
static int helper_start(struct machine *m, const char *program, const char *what,
	const char *socket, struct strv *argv, struct err *err)
{
	struct machine_helper *h;
	char *path = path_join(m->run_dir, socket);
	int fd = -1, r = path == NULL || argv->bad ? err_nomem(err) : 0;

	if (r == 0)
		r = unix_listen(path, 0600, 4, &fd, err);
	/* They wait in accept() for the one who connects (QEMU 7.2, tools/virtiofsd/fuse_virtio.c). */
	if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
		r = err_errno(err, -errno, "%s", quote(path));
	if (r == 0)
		r = helper_new(m, program, what, &h, err);
	if (r == 0) {
		service_set_fd(h->service, fd, CHILD_FD);
		r = service_start(h->service, argv, err);
		service_set_fd(h->service, -1, -1);
	}
	if (fd >= 0)
		close(fd);
	free(path);
	return r;
}

/* A comma would begin another option of theirs. */
static int check_path(const char *path, struct err *err)
{
	if (strchr(path, ',') != NULL)
		return err_set(
			err, -EINVAL, "%s: a path with a comma cannot be handed on", quote(path));
	return 0;
}

static int start_tpm(struct machine *m, struct err *err)
{
	char *program = find_program("swtpm"), *dir = path_join(m->dir, "tpm");
	struct strv argv = { 0 };
	int r;

	if (program == NULL)
		r = err_set(err, -ENOENT, "swtpm is not installed (Debian package swtpm)");
	else if (dir == NULL)
		r = err_nomem(err);
	else
		r = mkdir_p(dir, 0700, err);
	if (r == 0)
		r = check_path(dir, err);
	if (r == 0) {
		strv_add(&argv, program);
		strv_add(&argv, "socket");
		strv_add(&argv, "--tpm2");
		strv_add(&argv, "--tpmstate");
		strv_addf(&argv, "dir=%s,mode=0600", dir);
		strv_add(&argv, "--ctrl");
		strv_addf(&argv, "type=unixio,fd=%d", CHILD_FD);
		r = helper_start(m, "swtpm", NULL, "tpm.sock", &argv, err);
	}
	strv_finish(&argv);
	free(program);
	free(dir);
	return r < 0 ? err_wrap(err, "tpm") : 0;
}

/* Where Debian 13 and others have the one in Rust; QEMU's own, up to 7.2, is in Debian 12. */
static char *find_virtiofsd(bool *is_qemus)
{
	static const char *const places[] = { "virtiofsd", "/usr/libexec/virtiofsd",
		"/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd" };
	char *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(places) && found == NULL; i++)
		found = find_program(places[i]);
	*is_qemus = found != NULL && strstr(found, "/qemu/") != NULL;
	return found;
}

/* A program whose folder is mounted read-only for it (hv/jail-main.c). */
static int add_reader(
	const struct machine *m, const struct share *s, struct strv *argv, struct err *err)
{
	char *jail = path_join(m->d->libexec, "drover-jail");

	if (jail == NULL)
		return err_nomem(err);
	strv_add(argv, jail);
	strv_add(argv, "--read-only");
	strv_add(argv, s->path);
	strv_add(argv, "--");
	free(jail);
	return 0;
}

static int virtiofsd_argv(
	const struct machine *m, const struct share *s, struct strv *argv, struct err *err)
{
	bool is_qemus;
	char *program = find_virtiofsd(&is_qemus);
	int r = 0;

	if (program == NULL)
		return err_set(err, -ENOENT,
			"virtiofsd is not installed (Debian 12: qemu-system-common; later: "
			"virtiofsd)");
	/* QEMU's own has no option for it. */
	if (is_qemus && s->readonly)
		r = add_reader(m, s, argv, err);
	strv_add(argv, program);
	strv_addf(argv, "--fd=%d", CHILD_FD);
	if (is_qemus) {
		strv_add(argv, "-o");
		strv_addf(argv, "source=%s", s->path);
		if (r == 0)
			r = check_path(s->path, err);
	} else {
		strv_addf(argv, "--shared-dir=%s", s->path);
		if (s->readonly)
			strv_add(argv, "--readonly");
	}
	free(program);
	return r;
}

static int start_share(struct machine *m, const struct share *s, size_t i, struct err *err)
{
	struct strv argv = { 0 };
	char socket[32];
	struct stat st;
	int r = 0;

	snprintf(socket, sizeof(socket), "share%zu.sock", i);
	if (stat(s->path, &st) < 0)
		r = err_errno(err, -errno, "%s", quote(s->path));
	else if (!S_ISDIR(st.st_mode))
		r = err_errno(err, -ENOTDIR, "%s", quote(s->path));
	else if (access(s->path, R_OK | X_OK) < 0)
		r = err_errno(err, -errno, "%s", quote(s->path));
	if (r == 0)
		r = virtiofsd_argv(m, s, &argv, err);
	if (r == 0)
		r = helper_start(m, "virtiofsd", s->tag, socket, &argv, err);
	strv_finish(&argv);
	return r < 0 ? err_wrap(err, "share %s", s->tag) : 0;
}

static int start_shares(struct machine *m, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < m->run_cfg->shares.n && r == 0; i++) {
		struct share s = { 0 };

		r = share_parse(&s, m->run_cfg->shares.v[i], err);
		if (r == 0)
			r = start_share(m, &s, i, err);
		share_finish(&s);
	}
	return r;
}

/* ---- vsock ---- */

static bool cid_is_taken(const struct machine *m, uint32_t cid)
{
	const struct machine *other;

	list_for_each_entry (other, &m->d->machines, entry) {
		uint32_t theirs = 0;
		bool any;

		if (other == m)
			continue;
		if (other->vsock_cid == cid)
			return true;
		if (other->cfg != NULL && other->cfg->vsock != NULL &&
			vsock_parse(other->cfg->vsock, &any, &theirs, NULL) == 0 && theirs == cid)
			return true;
	}
	return false;
}

/* From a place of its own on, because another drover on this host gives CIDs, too. */
static uint32_t choose_cid(const struct machine *m)
{
	const char *run_id = drover_config(m->d)->drover->run_id;
	uint64_t h = hash64(m->name, strlen(m->name), hash64(run_id, strlen(run_id), 0));
	uint32_t range = INT32_MAX - VSOCK_CID_MIN;

	for (uint32_t i = 0;; i++) {
		uint32_t cid = (uint32_t)((h + i) % range) + VSOCK_CID_MIN;

		if (!cid_is_taken(m, cid))
			return cid;
	}
}

static int set_vsock(struct machine *m, struct err *err)
{
	bool is_auto = false;
	uint32_t cid = 0;
	int r = 0;

	if (m->run_cfg->vsock != NULL)
		r = vsock_parse(m->run_cfg->vsock, &is_auto, &cid, err);
	if (r == 0 && (is_auto || cid != 0) && access(VHOST_VSOCK, R_OK | W_OK) < 0)
		r = err_set(err, -errno,
			"vsock: " VHOST_VSOCK ": %s; `modprobe vhost_vsock` makes it, where the "
			"host's kernel has that module",
			strerror(errno));
	if (r < 0)
		return r;
	if (!is_auto)
		m->vsock_cid = cid;
	else if (m->vsock_cid == 0 || cid_is_taken(m, m->vsock_cid))
		m->vsock_cid = choose_cid(m);
	return 0;
}

/* ---- the step, and the rest of their lives ---- */

void machine_step_helpers(struct machine *m)
{
	struct err err;
	int r;

	machine_helpers_release(m);
	r = machine_check_vhost(m, &err);
	if (r == 0)
		r = set_vsock(m, &err);
	if (r == 0 && m->run_cfg->tpm)
		r = start_tpm(m, &err);
	if (r == 0)
		r = start_shares(m, &err);
	machine_start_next(m, r < 0 ? &err : NULL);
}

int machine_spec_helpers(
	struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	size_t n = 0;
	int r = 0;

	spec->vsock_cid = m->vsock_cid;
	if (cfg->tpm) {
		hold->tpm = path_join(m->run_dir, "tpm.sock");
		spec->tpm_socket = hold->tpm;
		r = hold->tpm == NULL ? err_nomem(err) : 0;
	}
	if (r == 0 && cfg->display == DISPLAY_VNC) {
		hold->vnc = path_join(m->run_dir, "vnc.sock");
		spec->vnc = hold->vnc;
		r = hold->vnc == NULL ? err_nomem(err) : 0;
	}
	for (size_t i = 0; i < cfg->shares.n && r == 0; i++) {
		r = share_parse(&hold->parsed[i], cfg->shares.v[i], err);
		if (r < 0)
			break;
		hold->sockets[i] = str_printf("%s/share%zu.sock", m->run_dir, i);
		hold->shares[n++] = (struct hv_share){ .tag = hold->parsed[i].tag,
			.socket = hold->sockets[i] };
		if (hold->sockets[i] == NULL)
			r = err_nomem(err);
	}
	spec->shares = hold->shares;
	spec->nshares = n;
	return r;
}

void spec_hold_finish_helpers(struct spec_hold *hold)
{
	free(hold->tpm);
	free(hold->vnc);
	for (size_t i = 0; i < SHARES_MAX; i++) {
		share_finish(&hold->parsed[i]);
		free(hold->sockets[i]);
	}
}

/* What the ledger names, because the configuration may have changed since they were started. */
void machine_helpers_adopt(struct machine *m)
{
	static const char *const programs[] = { "swtpm", "virtiofsd" };
	struct ledger_owner *owner;
	struct object *o;

	list_for_each_entry (owner, ledger_owners(m->d->ledger), entry) {
		if (strcmp(owner->name, m->owner) == 0)
			goto found;
	}
	return;
found:
	list_for_each_entry (o, &owner->objects, entry) {
		for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
			char *begin = str_printf("%s-%s", programs[i], m->name);
			size_t n = begin != NULL ? strlen(begin) : 0;
			struct machine_helper *h;
			struct strv argv = { 0 };
			struct err err;
			int r = 0;

			if (o->kind == OBJECT_PROCESS && begin != NULL &&
				strncmp(o->name, begin, n) == 0 &&
				(o->name[n] == '\0' || o->name[n] == '/') &&
				m->nhelpers < ARRAY_LEN(m->helpers)) {
				r = helper_new(m, programs[i],
					o->name[n] == '/' ? o->name + n + 1 : NULL, &h, &err);
				if (r == 0)
					r = service_adopt(h->service, &argv, &err);
			}
			free(begin);
			if (r < 0)
				set_degraded(m, strdup(err.msg));
		}
	}
}

struct service **machine_helper_find(struct machine *m, const char *name)
{
	for (unsigned i = 0; i < m->nhelpers; i++)
		if (m->helpers[i].service != NULL && strcmp(m->helpers[i].name, name) == 0)
			return &m->helpers[i].service;
	return NULL;
}

void machine_helpers_release(struct machine *m)
{
	while (m->nhelpers > 0) {
		struct machine_helper *h = &m->helpers[--m->nhelpers];

		service_destroy(h->service);
		free(h->name);
		*h = (struct machine_helper){ 0 };
	}
	free(m->degraded);
	m->degraded = NULL;
}
