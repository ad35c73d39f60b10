/* What one value alone does not show: what is missing, what excludes one another, what overlaps. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/un.h>
#include "netcfg/alloc.h"
#include "supervisor/config-priv.h"
#include "supervisor/health-check.h"

struct config_pos config_key_pos(const struct config_section *s, const char *key)
{
	const struct config_key *k = config_key_find(s->kind, key);
	const struct config_pos *p = &s->key_pos[k - config_keys];

	return p->line != 0 ? *p : s->pos;
}

/* Everything but digits, letters and what else may be in a host name is refused. */
bool config_is_hostname(const char *s)
{
	size_t i, n = strlen(s);

	for (i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '.' && s[i] != '_')
			return false;
	return n > 0 && n <= 253 && s[0] != '-' && s[0] != '.';
}

static bool is_port(const char *s)
{
	uint64_t port;

	return parse_u64(s, 1, 65535, &port, NULL) == 0;
}

/* "127.0.0.1:5000", "[::1]:5000" */
static bool is_listen(const char *s)
{
	const char *colon = strrchr(s, ':');
	struct in6_addr addr;
	char host[64];
	size_t n;

	if (colon == NULL || !is_port(colon + 1) || (size_t)(colon - s) >= sizeof(host))
		return false;
	n = (size_t)(colon - s);
	memcpy(host, s, n);
	host[n] = '\0';
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		return inet_pton(AF_INET6, host + 1, &addr) == 1;
	}
	return inet_pton(AF_INET, host, &addr) == 1;
}

/* "ghcr.io", "localhost:5000" */
static bool is_host(const char *s)
{
	const char *colon = strchr(s, ':');
	char host[256];

	if (colon == NULL)
		return config_is_hostname(s);
	if ((size_t)(colon - s) >= sizeof(host) || !is_port(colon + 1))
		return false;
	memcpy(host, s, (size_t)(colon - s));
	host[colon - s] = '\0';
	return config_is_hostname(host);
}

/* The host of "https://ghcr.io/"; NULL if that is not what upstream is. */
static char *upstream_host(struct load *l, const char *url)
{
	const char *p = str_starts(url, "https://")  ? url + 8
			: str_starts(url, "http://") ? url + 7
						     : NULL;
	char *host;
	size_t n;

	if (p == NULL)
		return NULL;
	n = strcspn(p, "/");
	if (p[n] != '\0' && p[n + 1] != '\0')
		return NULL;
	host = strndup(p, n);
	if (host == NULL)
		l->nomem = true;
	else if (is_host(host))
		return host;
	free(host);
	return NULL;
}

static void check_drover(struct load *l)
{
	struct drover_config *d = l->c->pub.drover;
	struct sockaddr_un sun;

	if (d->listen == NULL && d->run_dir != NULL) {
		d->listen = str_printf("%s/api.sock", d->run_dir);
		l->nomem |= d->listen == NULL;
	}
	if (d->listen != NULL && strlen(d->listen) >= sizeof(sun.sun_path)) {
		struct config_pos p = config_key_pos(&d->s, "listen");

		if (p.line == 0)
			p = config_key_pos(&d->s, "run_dir");
		load_error(l, p.line == 0 ? l->opts->path : p.file, p.line,
			"the path of a socket has at most %zu bytes: %s", sizeof(sun.sun_path) - 1,
			quote(d->listen));
	}
}

static void check_registry(struct load *l, struct registry_config *r)
{
	char *host = r->upstream == NULL ? NULL : upstream_host(l, r->upstream);
	size_t i;

	if (r->upstream != NULL && host == NULL)
		check_key_error(l, &r->s, "upstream", "%s is not https://HOST or http://HOST:PORT",
			quote(r->upstream));
	if (r->listen != NULL && !is_listen(r->listen))
		check_key_error(l, &r->s, "listen",
			"%s is not ADDRESS:PORT, such as 127.0.0.1:5000", quote(r->listen));
	for (i = 0; i < r->hosts.n; i++)
		if (!is_host(r->hosts.v[i]))
			check_key_error(l, &r->s, "hosts",
				"%s is not HOST or HOST:PORT (one in each line)",
				quote(r->hosts.v[i]));
	free(host);
}

/* There are few registries, so each is held against each. */
static void check_registries(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_REGISTRY];
	size_t i, j;

	for (i = 0; i < a->n; i++) {
		const struct registry_config *x = (const void *)a->v[i];

		for (j = 0; j < i && x->listen != NULL; j++) {
			const struct registry_config *y = (const void *)a->v[j];
			struct config_pos at;

			if (y->listen == NULL || strcmp(x->listen, y->listen) != 0)
				continue;
			at = config_key_pos(&y->s, "listen");
			check_key_error(l, &x->s, "listen", "%s is taken by [registry %s], %s:%u",
				x->listen, y->s.name, at.file, at.line);
			break;
		}
	}
}

/* "ssh-ed25519 AAAA... comment" */
static bool is_public_key(const char *s)
{
	static const char *const types[] = { "ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-" };
	const char *blob = strchr(s, ' ');
	size_t i;

	for (i = 0; i < ARRAY_LEN(types); i++)
		if (str_starts(s, types[i]))
			return blob != NULL && str_starts(blob + 1, "AAAA");
	return false;
}

static void check_key(struct load *l, const struct key_config *k)
{
	int given = (k->public_key != NULL) + (k->file != NULL) + k->generate;

	if (given == 0)
		check_section_error(l, &k->s, "needs one of: public, file, generate = yes");
	else if (given > 1)
		check_section_error(l, &k->s, "has more than one of: public, file, generate");
	if (k->public_key != NULL && !is_public_key(k->public_key))
		check_key_error(l, &k->s, "public", "%s is not a line of an SSH public key",
			quote(k->public_key));
	if (k->generate && k->private_key != NULL)
		check_key_error(l, &k->s, "private", "a generated key has its own");
}

static bool is_user(const char *s)
{
	size_t i, n = strlen(s);

	for (i = 0; i < n; i++)
		if (!islower((unsigned char)s[i]) && s[i] != '_' &&
			(i == 0 || (!isdigit((unsigned char)s[i]) && s[i] != '-' && s[i] != '.')))
			return false;
	return n > 0 && n <= 32;
}

static void check_machine(struct load *l, const struct vm_config *vm)
{
	check_hypervisor(l, vm);
	if (vm->binary != NULL && strchr(vm->binary, '/') != NULL && vm->binary[0] != '/')
		check_key_error(l, &vm->s, "binary", "%s is neither a name nor an absolute path",
			quote(vm->binary));
	if (vm->memory % (1 << 20) != 0)
		check_key_error(l, &vm->s, "memory", "must be whole MiB");
	if (vm->disk_size != 0 && vm->disk_size < 1 << 20)
		check_key_error(l, &vm->s, "disk_size", "must be 0 or at least 1M");
	check_clone(l, vm);
	/* The default is no contradiction, somebody's own word is. */
	if (vm->ephemeral && vm->disk == DISK_KEEP &&
		vm->s.key_pos[config_key_find(SECTION_VM, "disk") - config_keys].line != 0)
		check_key_error(l, &vm->s, "ephemeral",
			"disk = keep says that the disk stays, which that of an ephemeral machine "
			"does not");
	if (vm->networks.n > CONFIG_NETWORK_MAX)
		check_key_error(l, &vm->s, "network", "a machine has at most %d, not %zu",
			CONFIG_NETWORK_MAX, vm->networks.n);
	if (vm->ssh_user != NULL && !is_user(vm->ssh_user))
		check_key_error(
			l, &vm->s, "ssh_user", "%s is not the name of a user", quote(vm->ssh_user));
	if (vm->hostname != NULL && !config_is_hostname(vm->hostname))
		check_key_error(
			l, &vm->s, "hostname", "%s is not a host name", quote(vm->hostname));
	if (vm->restart_delay > vm->restart_max_delay)
		check_key_error(l, &vm->s, "restart_delay", "is more than restart_max_delay");
}

static const struct raw_key *raw_of(
	const struct config_section *s, const struct raw_key *raw, const char *name)
{
	size_t n;

	return &raw[config_key_find(s->kind, name) - section_keys(s->kind, &n)];
}

/* What a check of a machine needs; a template may leave it to the machines. */
static const char *check_lacks(const struct vm_config *vm, const struct health_check *c)
{
	if (vm->s.kind == SECTION_TEMPLATE)
		return NULL;
	if (c->kind == HEALTH_AGENT && !vm->agent)
		return "needs agent = yes";
	if (health_check_needs_address(c) && vm->networks.n == 0)
		return "needs a network";
	return NULL;
}

static void check_health(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	const struct raw_key *raw = raw_of(&vm->s, raws, "health");
	struct health_check check;
	struct err err;

	for (size_t i = 0; i < vm->health.n; i++) {
		struct config_pos at = config_key_pos(&vm->s, "health");
		const char *lack;

		/* Unless a value was left out as a mistake, each has its own line. */
		if (raw->n == vm->health.n && raw->v[i].line != 0)
			at.line = raw->v[i].line;
		if (health_check_parse(&check, vm->health.v[i], &err) < 0) {
			l->nomem |= err.code == -ENOMEM;
			load_error(l, at.file, at.line, "health: %s", err.msg);
			continue;
		}
		lack = check_lacks(vm, &check);
		if (lack != NULL)
			load_error(
				l, at.file, at.line, "health: %s %s", quote(vm->health.v[i]), lack);
		health_check_finish(&check);
	}
	if (vm->health.n > HEALTH_CHECKS_MAX)
		check_key_error(l, &vm->s, "health", "a machine has at most %d checks, not %zu",
			HEALTH_CHECKS_MAX, vm->health.n);
}

/* QEMU takes every option with one dash or two. */
static const char *refused_argument(const char *arg)
{
	static const struct {
		const char *option, *why;
	} rows[] = {
		{ "daemonize", "take the hypervisor out of drover's hands" },
		{ "no-shutdown", "keep the hypervisor of a guest that has powered off" },
		{ "preconfig", "make the hypervisor wait before it has a machine" },
		{ "version", "print a text instead of running the machine" },
		{ "help", "print a text instead of running the machine" },
		{ "h", "print a text instead of running the machine" },
	};

	if (arg[0] != '-')
		return NULL;
	arg += arg[1] == '-' ? 2 : 1;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (strcmp(arg, rows[i].option) == 0)
			return rows[i].why;
	}
	return NULL;
}

static void check_qemu_args(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	const struct raw_key *raw = raw_of(&vm->s, raws, "qemu_args");
	struct config_pos at = config_key_pos(&vm->s, "qemu_args");

	for (size_t i = 0; i < vm->qemu_args.n; i++) {
		const char *why = refused_argument(vm->qemu_args.v[i]);

		/* Of several lines the one that has it. */
		for (size_t k = 0; why != NULL && k < raw->n; k++) {
			if (strstr(raw->v[k].text, vm->qemu_args.v[i]) != NULL &&
				raw->v[k].line != 0)
				at.line = raw->v[k].line;
		}
		if (why != NULL)
			load_error(l, at.file, at.line, "qemu_args: %s would %s",
				quote(vm->qemu_args.v[i]), why);
	}
}

static void check_watchdog(struct load *l, const struct vm_config *vm)
{
	const struct config_key *machine = config_key_find(SECTION_VM, "machine");

	if (vm->watchdog != 0 && strcmp(machine->words[vm->machine], "microvm") == 0)
		check_key_error(
			l, &vm->s, "watchdog", "a microvm has no bus for a watchdog device");
}

/* Not there, or empty; one that is there but wrong was reported as that. */
static bool raw_is_missing(const struct raw_key *raw)
{
	return !raw->bad && (raw->n == 0 || raw->v[0].text[0] == '\0');
}

static void check_required(
	struct load *l, const struct config_section *s, const struct raw_key *raw)
{
	size_t i, n;
	const struct config_key *keys = section_keys(s->kind, &n);

	for (i = 0; i < n; i++)
		if (keys[i].required && raw_is_missing(&raw[i]))
			check_section_error(l, s, "needs '%s'", keys[i].name);
}

static void check_doubles(struct load *l)
{
	size_t k, i;

	for (k = SECTION_DROVER + 1; k < SECTION_KINDS; k++) {
		const struct config_array *a = &l->c->pub.by_kind[k];
		const struct by_name *v = l->c->by_name[k];

		for (i = 1; i < a->n; i++) {
			const struct config_section *s = a->v[v[i].at], *first = a->v[v[i - 1].at];

			if (strcmp(s->name, first->name) == 0)
				load_error(l, s->pos.file, s->pos.line,
					"[%s %.80s] is there a second time; the first is in %s:%u",
					section_kind_name((enum section_kind)k), s->name,
					first->pos.file, first->pos.line);
		}
	}
}

static void reference_loop(void *arg, size_t at, const char *path)
{
	struct load *l = arg;
	const struct config_section *s = l->c->pub.by_kind[SECTION_VM].v[at];

	load_error(
		l, s->pos.file, s->pos.line, "machines refer to one another in a loop: %s", path);
}

static void check_references(struct load *l)
{
	size_t *order = calloc(l->c->pub.by_kind[SECTION_VM].n + 1, sizeof(*order));

	if (order == NULL || config_vm_order(&l->c->pub, order, reference_loop, l) < 0)
		l->nomem = true;
	free(order);
}

void check_config(struct load *l)
{
	const struct config_array *kinds = l->c->pub.by_kind;
	size_t k, i;

	check_drover(l);
	check_doubles(l);
	for (k = 0; k < SECTION_KINDS; k++) {
		for (i = 0; i < kinds[k].n; i++) {
			struct config_section *s = kinds[k].v[i];

			if (!l->raw[k][i].misnamed)
				check_required(l, s, l->raw[k][i].keys);
			switch (s->kind) {
			case SECTION_NETWORK:
				check_network(l, (const void *)s, l->raw[k][i].misnamed);
				break;
			case SECTION_REGISTRY:
				check_registry(l, (void *)s);
				break;
			case SECTION_KEY:
				check_key(l, (const void *)s);
				break;
			case SECTION_IMAGE:
				check_image(l, (const void *)s);
				break;
			case SECTION_VM:
				if (!l->raw[k][i].misnamed)
					check_has_kernel(l, (const void *)s, l->raw[k][i].keys);
				check_qemu_args(l, (const void *)s, l->raw[k][i].keys);
				check_machine(l, (const void *)s);
				check_hardware(l, (void *)s, l->raw[k][i].keys);
				check_warm(l, (void *)s, l->raw[k][i].keys);
				check_health(l, (const void *)s, l->raw[k][i].keys);
				check_watchdog(l, (const void *)s);
				break;
			case SECTION_TEMPLATE:
				check_machine(l, (const void *)s);
				check_qemu_args(l, (const void *)s, l->raw[k][i].keys);
				check_hardware(l, (void *)s, l->raw[k][i].keys);
				check_health(l, (const void *)s, l->raw[k][i].keys);
				break;
			case SECTION_DROVER:
			case SECTION_KINDS:
				break;
			}
		}
	}
	check_networks(l);
	check_registries(l);
	check_vsocks(l);
	check_shared_volumes(l);
	check_references(l);
}
