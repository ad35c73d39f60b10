/* The servers of supervisor/network6-serve.h. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"
#include "netcfg/alloc.h"
#include "netcfg/radvd.h"
#include "supervisor/network6-serve-private.h"
#include "supervisor/network6.h"

#define MS_IN_S 1000

static void soon(void *arg);

/* ---- what they are ---- */

static void servers_free(void *arg)
{
	struct servers6 *s = arg;

	free(s->kea_name);
	free(s->radvd_name);
	free(s->kea_conf);
	free(s->radvd_conf);
	free(s->pid_file);
	free(s->lease_file);
	free(s);
}

static struct servers6 *servers(struct bridge_net *b)
{
	struct servers6 *s = b->six;

	if (s != NULL)
		return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->b = b;
	list_init(&s->routes);
	s->kea_name = str_printf("%s-kea", b->name);
	s->radvd_name = str_printf("%s-radvd", b->name);
	s->kea_conf = path_join(b->dir, "kea.json");
	s->radvd_conf = path_join(b->dir, "radvd.conf");
	/* As kea makes it from its configuration's name (PIDFile, Daemon::createPIDFile). */
	s->pid_file = path_join(b->dir, "kea.kea-dhcp6.pid");
	s->lease_file = str_printf("%s/net/%s.leases6", b->d->state_dir, b->name);
	if (s->kea_name == NULL || s->radvd_name == NULL || s->kea_conf == NULL ||
		s->radvd_conf == NULL || s->pid_file == NULL || s->lease_file == NULL) {
		servers_free(s);
		return NULL;
	}
	deadline_init(&s->soon, b->d->loop, soon, s);
	b->six = s;
	return s;
}

void network6_servers_destroy(struct bridge_net *b)
{
	struct servers6 *s = b->six;

	network6_forget_routes(b);
	b->six = NULL;
	if (s == NULL)
		return;
	service_destroy(s->kea);
	service_destroy(s->radvd);
	deadline_close(&s->soon, servers_free);
}

struct service **network6_service(struct bridge_net *b, const char *name)
{
	struct servers6 *s = b->six;

	if (s != NULL && s->kea != NULL && strcmp(name, s->kea_name) == 0)
		return &s->kea;
	return s != NULL && s->radvd != NULL && strcmp(name, s->radvd_name) == 0 ? &s->radvd : NULL;
}

static bool is_down(const struct service *s, bool waits)
{
	return s != NULL && !service_up(s) && (waits || !service_waits(s));
}

const char *network6_server_down(const struct bridge_net *b, bool waits)
{
	if (b->six == NULL)
		return NULL;
	if (is_down(b->six->kea, waits))
		return "kea-dhcp6";
	return is_down(b->six->radvd, waits) ? "radvd" : NULL;
}

/* ---- what they are told ---- */

struct guests {
	struct kea6_guest *v;
	size_t n;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct kea6_guest *)a)->name, ((const struct kea6_guest *)b)->name);
}

static void add_guest(const struct network6 *v6, const struct nic *nic, struct guests *out)
{
	struct kea6_guest g = { .name = nic->tap, .mac = nic->mac };

	if (v6->dhcp && network6_has(v6, &nic->address6))
		g.address = nic->address6;
	if (nic->prefix6.len != 0 && nic->prefix6.len == v6->delegated &&
		ip6_in(&v6->pool, &nic->prefix6.addr))
		g.prefix = nic->prefix6;
	if (!ip6_is_zero(&g.address) || g.prefix.len != 0)
		out->v[out->n++] = g;
}

/* Those that do not run keep theirs, so that neither a start nor a stop is a change. */
static int find_guests(const struct bridge_net *b, struct guests *out)
{
	const struct machine *m;
	size_t n = 0;

	list_for_each_entry (m, &b->d->machines, entry)
		n += m->nnics;
	*out = (struct guests){ calloc(n + 1, sizeof(*out->v)), 0 };
	if (out->v == NULL)
		return -ENOMEM;
	list_for_each_entry (m, &b->d->machines, entry)
		for (unsigned i = 0; i < m->nnics; i++)
			if (str_eq(m->nics[i].network, b->name))
				add_guest(&b->v.v6, &m->nics[i], out);
	qsort(out->v, out->n, sizeof(*out->v), by_name);
	return 0;
}

static int kea_text(
	struct bridge_net *b, const struct dnsmasq6_spec *told, struct buf *out, struct err *err)
{
	const struct network6_config *c = &b->cfg->v6;
	struct kea6_spec spec = { .link = b->bridge,
		.net = told->net,
		.lifetime = told->lifetime,
		.preferred = c->preferred / MS_IN_S,
		.renew = c->renew / MS_IN_S,
		.rebind = c->rebind / MS_IN_S,
		.refresh = told->refresh,
		.dns = told->dns,
		.search = told->search,
		.lease_file = b->six->lease_file };
	struct guests guests;
	char mac[18];
	int r;

	bridge_mac(b, mac);
	spec.mac = mac;
	if (find_guests(b, &guests) < 0)
		return err_nomem(err);
	spec.guests = guests.v;
	spec.nguests = guests.n;
	/* A link that was made anew is another one. */
	buf_printf(out, "// link %d\n", b->index);
	r = kea6_config_text(&spec, out, err);
	free(guests.v);
	return r;
}

static void radvd_text(struct bridge_net *b, const struct dnsmasq6_spec *told, struct buf *out)
{
	struct radvd_spec spec = { .link = b->bridge,
		.net = told->net,
		.managed = told->dhcp,
		.other = told->other,
		.autonomous = told->autonomous,
		.on_link = told->on_link,
		.interval = told->interval,
		.router_lifetime = told->router_lifetime,
		.lifetime = told->lifetime,
		.preferred = b->cfg->v6.preferred / MS_IN_S,
		.mtu = told->mtu,
		.dns = told->dns,
		.search = told->search };

	buf_printf(out, "# link %d\n", b->index);
	radvd_config_text(&spec, out);
}

/* ---- how they are started ---- */

static int need(const char *program, const char *package, struct strv *argv, struct err *err)
{
	char *path = find_program(program);

	if (path == NULL)
		return err_set(
			err, -ENOENT, "%s is not installed (Debian package %s)", program, package);
	strv_add(argv, path);
	free(path);
	return 0;
}

/*
 * Neither drops its rights as dnsmasq does: kea not at all, and radvd by way of a second process that
 * keeps them. They keep their user, whose the lease file is, and of root's rights one. Debian's
 * AppArmor profile of kea allows the paths of Debian's own service only.
 */
static int confine(const char *capability, struct strv *argv, struct err *err)
{
	int r = need("setpriv", "util-linux", argv, err);

	strv_add(argv, "--no-new-privs");
	strv_addf(argv, "--bounding-set=-all,+%s", capability);
	if (access("/sys/kernel/security/apparmor/profiles", F_OK) == 0)
		strv_add(argv, "--apparmor-profile=unconfined");
	return r;
}

static int kea_argv(const struct servers6 *s, struct strv *argv, struct err *err)
{
	int r = need("env", "coreutils", argv, err);

	strv_addf(argv, "KEA_PIDFILE_DIR=%s", s->b->dir);
	strv_add(argv, "KEA_LOCKFILE_DIR=none");
	if (r == 0 && geteuid() == 0)
		r = confine("net_bind_service", argv, err);
	if (r == 0)
		r = need("kea-dhcp6", "kea-dhcp6-server", argv, err);
	strv_add(argv, "-c");
	strv_add(argv, s->kea_conf);
	return r == 0 && argv->bad ? err_nomem(err) : r;
}

static int radvd_argv(const struct servers6 *s, struct strv *argv, struct err *err)
{
	int r = geteuid() == 0 ? confine("net_raw", argv, err) : 0;

	if (r == 0)
		r = need("radvd", "radvd", argv, err);
	strv_add(argv, "--nodaemon");
	strv_add(argv, "--logmethod=stderr");
	strv_addf(argv, "--config=%s", s->radvd_conf);
	strv_addf(argv, "--pidfile=%s/radvd.pid", s->b->dir);
	return r == 0 && argv->bad ? err_nomem(err) : r;
}

/* One that was killed leaves its pid file, and kea does not start while that pid runs, whosever it
 * is by now. */
static bool kea_died(void *arg, const struct child_status *status)
{
	struct servers6 *s = arg;

	unlink(s->pid_file);
	return true;
}

/* What an earlier daemon started goes on, if it still runs. */
static int make_service(struct bridge_net *b, struct service **out, const char *name,
	const struct strv *argv, struct err *err)
{
	struct service_callbacks cb = { .arg = b->six };
	char *log = str_printf("%s/log/network-%s.log", b->d->state_dir, name);
	struct service_spec spec = {
		.kind = "network", .name = name, .owner = b->owner, .log_path = log
	};
	struct strv copy = { 0 };
	int r = 0;

	if (name == b->six->kea_name)
		cb.died = kea_died;
	if (log == NULL || strv_copy(&copy, argv) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = service_create(out, b->d, &spec, &cb, err);
	/* Whether it has read what that daemon wrote last nobody knows. */
	if (r == 0 && service_adopt(*out, &copy, err) == 0)
		b->six->kea_due = b->six->radvd_due = true;
	free(log);
	strv_finish(&copy);
	return r;
}

enum change {
	SAME,
	CHANGED,
	ANOTHER_LINK
};

static int write_conf(
	const char *path, const struct buf *text, enum change *change, struct err *err)
{
	struct buf old = { 0 };
	size_t first = strcspn(buf_str(text), "\n");

	*change = SAME;
	if (text->bad)
		return err_nomem(err);
	if (file_read(path, (size_t)16 << 20, &old, NULL) < 0 ||
		strncmp(buf_str(&old), text->data, first + 1) != 0)
		*change = ANOTHER_LINK;
	else if (strcmp(buf_str(&old), text->data) != 0)
		*change = CHANGED;
	buf_finish(&old);
	/* radvd reads it without our rights; there is no secret in it. */
	return *change == SAME ? 0
			       : file_write_atomic(path, text->data, text->len, 0644, false, err);
}

/* A signal that a program does not expect yet ends it. */
static bool hears_hup(pid_t pid)
{
	char path[32], *at;
	struct buf text = { 0 };
	unsigned long long caught = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (file_read(path, 65536, &text, NULL) == 0 && text.len > 0) {
		at = strstr(text.data, "\nSigCgt:");
		caught = at != NULL ? strtoull(at + strlen("\nSigCgt:"), NULL, 16) : 0;
	}
	buf_finish(&text);
	return (caught >> (SIGHUP - 1) & 1) != 0;
}

/* One that is down reads it when it starts. false: it is not that far. */
static bool tell_one(const struct service *s, bool *due)
{
	if (*due && s != NULL && service_up(s)) {
		if (!hears_hup(service_pid(s)))
			return false;
		kill(service_pid(s), SIGHUP);
	}
	*due = false;
	return true;
}

/* Both read their configuration again at SIGHUP, and go on serving. */
static void tell(struct servers6 *s)
{
	bool kea = tell_one(s->kea, &s->kea_due), radvd = tell_one(s->radvd, &s->radvd_due);

	if (!kea || !radvd)
		deadline_set(&s->soon, 20);
}

static int run(struct bridge_net *b, struct service **s, const char *name, struct strv *argv,
	enum change change, struct err *err)
{
	int r = *s == NULL ? make_service(b, s, name, argv, err) : 0;

	if (r < 0)
		return r;
	if (!service_up(*s)) {
		kea_died(b->six, NULL);
		return service_start(*s, argv, err);
	}
	service_set_command(*s, argv);
	if (change == ANOTHER_LINK)
		service_restart(*s);
	else if (change == CHANGED && s == &b->six->kea)
		b->six->kea_due = true;
	else if (change == CHANGED)
		b->six->radvd_due = true;
	return 0;
}

static int run_kea(struct bridge_net *b, const struct dnsmasq6_spec *told, struct err *err)
{
	struct buf text = { 0 };
	struct strv argv = { 0 };
	enum change change;
	int r = kea_text(b, told, &text, err);

	if (r == 0)
		r = kea_argv(b->six, &argv, err);
	if (r == 0)
		r = write_conf(b->six->kea_conf, &text, &change, err);
	if (r == 0)
		r = run(b, &b->six->kea, b->six->kea_name, &argv, change, err);
	strv_finish(&argv);
	buf_finish(&text);
	return r;
}

static int run_radvd(struct bridge_net *b, const struct dnsmasq6_spec *told, struct err *err)
{
	struct buf text = { 0 };
	struct strv argv = { 0 };
	enum change change;
	int r = radvd_argv(b->six, &argv, err);

	radvd_text(b, told, &text);
	if (r == 0)
		r = write_conf(b->six->radvd_conf, &text, &change, err);
	if (r == 0)
		r = run(b, &b->six->radvd, b->six->radvd_name, &argv, change, err);
	strv_finish(&argv);
	buf_finish(&text);
	return r;
}

static int run_both(struct bridge_net *b, bool kea, bool radvd, struct err *err)
{
	struct network6_told told;
	const struct dnsmasq6_spec *spec = network6_tell(
		&told, b->cfg, b->bridge, &b->v.v6.net, &b->v.v6.gateway, err);
	int r = spec == NULL ? err->code : 0;

	if (r == 0 && kea)
		r = run_kea(b, spec, err);
	if (r == 0 && radvd)
		r = run_radvd(b, spec, err);
	if (spec != NULL)
		network6_told_finish(&told);
	tell(b->six);
	return r;
}

static void soon(void *arg)
{
	struct servers6 *s = arg;
	bool due = s->guests_due;
	struct err err;

	s->guests_due = false;
	if (!due)
		tell(s);
	else if (s->kea != NULL && s->b->state != BRIDGE_GOING &&
		 run_both(s->b, true, false, &err) < 0)
		log_error("network %s: %s", s->b->name, err.msg);
	/* It may be the prefix of a lease that was nobody's. */
	if (due)
		network6_delegate(s->b);
}

/* Many machines that start at once are one change. */
void network6_guests_changed(struct bridge_net *b)
{
	if (b->six != NULL && b->v.v6.kea) {
		b->six->guests_due = true;
		deadline_set(&b->six->soon, 1);
	}
}

/* ---- the step ---- */

static void one_gone(void *arg)
{
	struct bridge_net *b = arg;
	struct servers6 *s = b->six;

	if (s->kea != NULL) {
		service_destroy(s->kea);
		s->kea = NULL;
		unlink(s->kea_conf);
	} else {
		service_destroy(s->radvd);
		s->radvd = NULL;
		unlink(s->radvd_conf);
	}
	if (s->radvd != NULL)
		service_stop(s->radvd, one_gone, b);
	else
		bridge_resume(b, NULL);
}

/* They make room for dnsmasq; also those of an earlier daemon. */
static int stop_both(struct bridge_net *b, struct err *err)
{
	struct servers6 *s = b->six;
	struct strv none = { 0 };
	int r = 0;

	if (s->kea == NULL &&
		ledger_find(b->d->ledger, b->owner, OBJECT_PROCESS, s->kea_name) != NULL)
		r = make_service(b, &s->kea, s->kea_name, &none, err);
	if (r == 0 && s->radvd == NULL &&
		ledger_find(b->d->ledger, b->owner, OBJECT_PROCESS, s->radvd_name) != NULL)
		r = make_service(b, &s->radvd, s->radvd_name, &none, err);
	if (r < 0 || (s->kea == NULL && s->radvd == NULL))
		return r;
	b->rebuilding = true;
	service_stop(s->kea != NULL ? s->kea : s->radvd, one_gone, b);
	return 1;
}

int network6_serve(struct bridge_net *b, struct err *err)
{
	if (servers(b) == NULL)
		return err_nomem(err);
	return b->v.v6.kea ? run_both(b, true, true, err) : stop_both(b, err);
}
