/* The [registry] sections, without a docker-registry: waiting, telling, files, the relay. */
#include "tests/unit/drover-rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/registry-private.h"
#include "tests/unit/netns.h"

static struct world {
	struct drover_rig r;
	struct registry a, b;
	struct registry_relay *relay;
	unsigned lost;
	bool stopped;
} w;

static void add(struct registry *r, const char *name, const char *host, const char *listen)
{
	struct service_spec spec = {
		.kind = "registry", .name = name, .owner = "registry/x", .log_path = "/dev/null"
	};

	*r = (struct registry){ .d = &w.r.d,
		.name = strdup(name),
		.listen = strdup(listen),
		.upstream = str_printf("https://%s", host),
		.storage = str_printf("%s/storage-%s", w.r.dir, name),
		.applied = json_pack("{s:s}", "listen", listen),
		.usage = registry_usage_create(w.r.dir, name) };
	strv_add(&r->hosts, host);
	list_init(&r->waiters);
	deadline_init(&r->wait_timer, w.r.d.loop, NULL, NULL);
	assert_int_equal(service_create(&r->service, &w.r.d, &spec, NULL, NULL), 0);
	list_append(&w.r.d.registries, &r->entry);
}

static void drop(struct registry *r)
{
	list_remove(&r->entry);
	deadline_close(&r->wait_timer, NULL);
	service_destroy(r->service);
	strv_finish(&r->hosts);
	json_decref(r->applied);
	registry_usage_release(r->usage);
	free(r->name);
	free(r->listen);
	free(r->upstream);
	free(r->storage);
}

static int setup(void **state)
{
	w = (struct world){ 0 };
	drover_rig_init(&w.r, "");
	add(&w.a, "ghcr", "ghcr.io", "127.0.0.1:5000");
	add(&w.b, "hub", "registry-1.docker.io", "[::1]:5001");
	strv_add(&w.b.hosts, "docker.io");
	return 0;
}

static int teardown(void **state)
{
	drop(&w.a);
	drop(&w.b);
	drover_rig_finish(&w.r);
	return 0;
}

/* ---- of all registries ---- */

static void test_find(void **state)
{
	struct strv names = { 0 }, args = { 0 };
	struct drover *d = &w.r.d;

	assert_ptr_equal(registry_find(d, "ghcr"), &w.a);
	assert_null(registry_find(d, "quay"));
	assert_ptr_equal(registry_applied(d, "hub"), w.b.applied);
	assert_null(registry_applied(d, "quay"));
	registries_mirror_args(d, &args);
	assert_int_equal(args.n, 6);
	assert_string_equal(args.v[0], "--mirror");
	assert_string_equal(args.v[1], "ghcr.io=http://127.0.0.1:5000");
	assert_string_equal(args.v[3], "registry-1.docker.io=http://[::1]:5001");
	assert_string_equal(args.v[5], "docker.io=http://[::1]:5001");
	strv_finish(&args);
	/* One that is being stopped is no longer there. */
	w.a.stopping = true;
	assert_null(registry_find(d, "ghcr"));
	registries_names(d, &names);
	assert_int_equal(names.n, 1);
	assert_string_equal(names.v[0], "hub");
	registries_mirror_args(d, &args);
	assert_int_equal(args.n, 4);
	strv_finish(&names);
	strv_finish(&args);
}

static void test_json(void **state)
{
	json_t *j;
	char *text;

	w.a.state = REGISTRY_UP;
	w.a.proxy = true;
	w.a.size = 5000000000;
	j = registries_json(&w.r.d);
	text = json_text(j);
	assert_string_equal(text,
		"[{\"name\":\"ghcr\",\"upstream\":\"https://ghcr.io\",\"listen\":\"127.0.0.1:5000\","
		"\"state\":\"up\",\"mode\":\"proxy\",\"pid\":null,\"size\":5000000000,\"blobs\":null},"
		"{\"name\":\"hub\",\"upstream\":\"https://registry-1.docker.io\","
		"\"listen\":\"[::1]:5001\",\"state\":\"down\",\"mode\":\"offline\",\"pid\":null,"
		"\"size\":null,\"blobs\":null}]");
	free(text);
	json_decref(j);
}

static void was_counted(void *arg)
{
	*(bool *)arg = true;
}

/* What registry_usage_json() says then, {asked, served_bytes, fetched, rate in percent, since}. */
struct usage {
	int64_t asked, served_bytes, fetched;
	int percent, bytes_percent; /* -1: null */
	char since[40];
};

static int percent(const json_t *rate)
{
	return json_is_null(rate) ? -1 : (int)(json_real_value(rate) * 100);
}

static struct usage count(void)
{
	struct usage u;
	bool done = false;
	json_t *j;

	assert_int_equal(registries_count(&w.r.d, was_counted, &done), 0);
	assert_false(done);
	rig_run_until(w.r.d.loop, &done);
	j = registry_usage_json(w.a.usage);
	u = (struct usage){ .asked = json_int(j, "asked", -1),
		.served_bytes = json_int(j, "served_bytes", -1),
		.fetched = json_int(j, "fetched", -1),
		.percent = percent(json_object_get(j, "hit_rate")),
		.bytes_percent = percent(json_object_get(j, "byte_hit_rate")) };
	snprintf(u.since, sizeof(u.since), "%s", json_str(j, "since"));
	json_decref(j);
	return u;
}

static void log_add(const char *name, const char *line)
{
	char *path = str_printf("%s/log/registry-ghcr%s.log", w.r.dir, name);
	FILE *f = fopen(path, "ae");

	assert_non_null(f);
	fputs(line, f);
	fclose(f);
	free(path);
}

#define BLOB                                                                                       \
	"/v2/x/blobs/"                                                                             \
	"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ASKED "::1 - - [21/Nov/2026:10:00:00 +0000] \"GET " BLOB " HTTP/1.1\" 200 100 \"\" \"go\"\n"

static void test_usage(void **state)
{
	char *logs = path_join(w.r.dir, "log");
	struct usage u, first;

	assert_int_equal(mkdir_p(logs, 0700, NULL), 0);
	free(logs);
	/* What is there before the count begins does not count. */
	log_add("", ASKED);
	first = count();
	assert_int_equal(first.asked, 0);
	assert_int_equal(first.percent, -1);
	log_add("", ASKED ASKED);
	log_add("-relay", "fetched 150 " BLOB "\n");
	u = count();
	assert_int_equal(u.asked, 2);
	assert_int_equal(u.served_bytes, 200);
	assert_int_equal(u.fetched, 1);
	assert_int_equal(u.percent, 50);
	assert_int_equal(u.bytes_percent, 25);
	/* The next daemon goes on where this one was. */
	registry_usage_release(w.a.usage);
	w.a.usage = registry_usage_create(w.r.dir, "ghcr");
	log_add("", ASKED);
	u = count();
	assert_int_equal(u.asked, 3);
	assert_int_equal(u.fetched, 1);
	assert_string_equal(u.since, first.since);
}

struct waiter {
	struct registry_wait wait;
	unsigned told;
	int code;
	struct registry_wait *victim;
	bool again; /* waits anew, from within */
};

static void ready(void *arg, const struct err *err)
{
	struct waiter *x = arg;

	x->told++;
	x->code = err != NULL ? err->code : 0;
	if (x->victim != NULL)
		registry_unwait(x->victim);
	if (x->again)
		assert_true(registry_wait(&w.r.d, "ghcr.io", &x->wait));
}

static bool wait_for(struct waiter *x, const char *host)
{
	*x = (struct waiter){ .wait = { .ready = ready, .arg = x } };
	list_init(&x->wait.entry);
	return registry_wait(&w.r.d, host, &x->wait);
}

static void test_wait(void **state)
{
	struct err no = { -EIO, "broken" };
	struct waiter x[4];

	assert_false(wait_for(&x[0], "quay.io"));
	w.a.state = REGISTRY_UP;
	assert_false(wait_for(&x[0], "ghcr.io"));
	w.a.state = REGISTRY_STARTING;
	for (size_t i = 0; i < 4; i++)
		assert_true(wait_for(&x[i], "ghcr.io"));
	assert_true(deadline_armed(&w.a.wait_timer));
	registry_unwait(&x[0].wait);
	registry_unwait(&x[0].wait);
	x[1].victim = &x[2].wait;
	x[3].again = true;
	registry_tell_waiters(&w.a, &no);
	assert_int_equal(x[0].told, 0);
	assert_int_equal(x[1].told, 1);
	assert_int_equal(x[1].code, -EIO);
	assert_int_equal(x[2].told, 0);
	/* Who asks again from within waits for the next answer. */
	assert_int_equal(x[3].told, 1);
	assert_true(deadline_armed(&w.a.wait_timer));
	x[3].again = false;
	registry_tell_waiters(&w.a, NULL);
	assert_int_equal(x[3].told, 2);
	assert_int_equal(x[3].code, 0);
	assert_false(deadline_armed(&w.a.wait_timer));
	/* By any of its names. */
	assert_true(wait_for(&x[0], "docker.io"));
	registry_unwait(&x[0].wait);
	w.a.stopping = true;
	assert_false(wait_for(&x[0], "ghcr.io"));
}

/* ---- files ---- */

static void test_address(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd;
	char text[64], want[128];
	struct err err;

	netns_enter();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&sa, &len);
	snprintf(text, sizeof(text), "127.0.0.1:%u", (unsigned)ntohs(sa.sin_port));
	assert_int_equal(registry_address_free(text, &err), -EADDRINUSE);
	snprintf(want, sizeof(want), "%s is taken by another program", text);
	assert_string_equal(err.msg, want);
	close(fd);
	assert_int_equal(registry_address_free(text, &err), 0);
	assert_int_equal(registry_address_free("localhost:5000", &err), -EINVAL);
	assert_int_equal(registry_address_free("127.0.0.1", &err), -EINVAL);
	assert_int_equal(registry_address_free("127.0.0.1:http", &err), -EINVAL);
	assert_int_equal(registry_address_free("192.0.2.1:5000", &err), -EADDRNOTAVAIL);
}

static void test_save(void **state)
{
	char *dir = path_join(w.r.dir, "run/registry"), *text;
	uint16_t port = 7;
	struct err err;

	assert_false(registry_load(&w.a, &port));
	assert_int_equal(registry_save(&w.a, false, &err), -ENOENT);
	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	free(dir);
	assert_int_equal(registry_save(&w.a, false, NULL), 0);
	text = drover_rig_text(&w.r, "run/registry/ghcr.json");
	assert_string_equal(text, "{\"applied\":{\"listen\":\"127.0.0.1:5000\"},\"relay_port\":0}");
	free(text);
	assert_true(registry_load(&w.a, &port));
	assert_int_equal(port, 0);
	drover_rig_put(&w.r, "run/registry/ghcr.json",
		"{\"applied\":{\"listen\":\"127.0.0.1:5000\"},\"relay_port\":4711,\"x\":1}");
	assert_true(registry_load(&w.a, &port));
	assert_int_equal(port, 4711);
	/* Made from another section, half written, no longer there: not the same. */
	drover_rig_put(&w.r, "run/registry/ghcr.json",
		"{\"applied\":{\"listen\":\"127.0.0.1:5009\"},\"relay_port\":1}");
	port = 7;
	assert_false(registry_load(&w.a, &port));
	drover_rig_put(&w.r, "run/registry/ghcr.json", "{\"applied\":{\"listen\":\"127.0");
	assert_false(registry_load(&w.a, &port));
	drover_rig_put(&w.r, "run/registry/ghcr.json", "[]");
	assert_false(registry_load(&w.a, &port));
	assert_int_equal(port, 7);
	registry_remove_files(&w.a);
	registry_remove_files(&w.a);
	assert_null(drover_rig_text(&w.r, "run/registry/ghcr.json"));
}

/* ---- the relay ---- */

static void relay_lost(void *arg)
{
	w.lost++;
}

static void relay_stopped(void *arg)
{
	w.stopped = true;
}

static void create_relay(void)
{
	struct registry_relay_spec spec = { .registry = "ghcr",
		.owner = "registry/ghcr",
		.upstream = "https://ghcr.io",
		.lost = relay_lost };
	char *logs = path_join(w.r.dir, "state/log"), *spool = path_join(w.r.dir, "spool");

	assert_int_equal(mkdir_p(logs, 0700, NULL), 0);
	free(logs);
	/* Its folder is there when it begins, and not when the cache makes it. */
	free(drover_rig_script(&w.r, "libexec/drover-image",
		"[ ! -d \"$7\" ] || echo \"$1 $2 $3 $4 $5 $6 folder\"; exec sleep 600"));
	spec.spool = spool;
	assert_int_equal(registry_relay_create(&w.relay, &w.r.d, &spec, NULL), 0);
	free(spool);
}

static void stop_relay(void)
{
	w.stopped = false;
	registry_relay_stop(w.relay, relay_stopped, NULL);
	assert_false(w.stopped);
	rig_run_until(w.r.d.loop, &w.stopped);
	registry_relay_destroy(w.relay);
	assert_false(ledger_has(w.r.d.ledger, "registry/ghcr"));
}

static bool has_said(void *arg)
{
	char *text = drover_rig_text(&w.r, "state/log/registry-ghcr-relay.log");
	bool there = text != NULL && strcmp(text, arg) == 0;

	free(text);
	return there;
}

/* Who connects before the relay accepts, or while it is down, waits. */
static bool connects(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool ok = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;

	close(fd);
	return ok;
}

static pid_t relay_pid(void)
{
	const struct object *o = ledger_find(
		w.r.d.ledger, "registry/ghcr", OBJECT_PROCESS, "ghcr-relay");

	return o != NULL ? (pid_t)json_int(o->data, "pid", 0) : 0;
}

static bool other_pid(void *arg)
{
	pid_t pid = relay_pid();

	return pid != 0 && pid != *(pid_t *)arg && proc_starttime(pid) != 0;
}

static void test_relay(void **state)
{
	uint16_t port;
	pid_t pid;

	netns_enter();
	create_relay();
	assert_false(registry_relay_up(w.relay));
	assert_int_equal(registry_relay_start(w.relay, 0, NULL), 0);
	assert_true(registry_relay_up(w.relay));
	port = registry_relay_port(w.relay);
	assert_int_not_equal(port, 0);
	assert_true(connects(port));
	drover_rig_until(
		&w.r, has_said, "relay --listen-fd 3 --upstream https://ghcr.io --spool folder\n");
	pid = relay_pid();
	assert_int_equal(registry_relay_start(w.relay, 0, NULL), 0);
	assert_int_equal(relay_pid(), pid);
	/* Dead: its port stays, and so does who connects; the next one listens there. */
	kill(pid, SIGKILL);
	while (proc_starttime(pid) != 0)
		usleep(1000);
	assert_true(connects(port));
	drover_rig_until(&w.r, other_pid, &pid);
	assert_int_equal(registry_relay_port(w.relay), port);
	assert_int_equal(w.lost, 0);
	stop_relay();
	assert_false(connects(port));
	registry_relay_destroy(NULL);
}

/* The next daemon has no socket: it binds the port anew when the relay dies; if another has it
 * then, that is told. */
static void test_relay_adopted(void **state)
{
	uint16_t port;
	pid_t pid;

	netns_enter();
	create_relay();
	assert_int_equal(registry_relay_adopt(w.relay, 1234, NULL), -ESRCH);
	assert_int_equal(registry_relay_start(w.relay, 0, NULL), 0);
	port = registry_relay_port(w.relay);
	pid = relay_pid();
	registry_relay_destroy(w.relay);
	create_relay();
	assert_int_equal(registry_relay_adopt(w.relay, port, NULL), 0);
	assert_int_equal(registry_relay_port(w.relay), port);
	assert_true(registry_relay_up(w.relay));
	kill(pid, SIGKILL);
	drover_rig_until(&w.r, other_pid, &pid);
	assert_int_equal(registry_relay_port(w.relay), port);
	assert_true(connects(port));
	assert_int_equal(w.lost, 0);
	stop_relay();
}

static bool is_lost(void *arg)
{
	return w.lost > 0;
}

static void test_relay_lost(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	pid_t pid;
	int fd;

	netns_enter();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&sa, &len);
	create_relay();
	assert_true(registry_relay_start(w.relay, ntohs(sa.sin_port), NULL) < 0);
	assert_false(registry_relay_up(w.relay));
	assert_int_equal(registry_relay_start(w.relay, 0, NULL), 0);
	pid = relay_pid();
	registry_relay_destroy(w.relay);
	create_relay();
	/* The port that it is said to have is another program's. */
	assert_int_equal(registry_relay_adopt(w.relay, ntohs(sa.sin_port), NULL), 0);
	kill(pid, SIGKILL);
	drover_rig_until(&w.r, is_lost, NULL);
	assert_false(registry_relay_up(w.relay));
	assert_int_equal(registry_relay_port(w.relay), 0);
	assert_int_equal(w.lost, 1);
	close(fd);
	stop_relay();
}

/* What a cache would do next is not what is looked at. */
static void no_more(void *arg)
{
}

static void was_closed(void *arg)
{
	*(bool *)arg = true;
}

/* What of a real one the other tests do without. */
static void finish_cache(void)
{
	bool closed = false;

	w.a.stopping = true;
	if (w.a.probe != NULL)
		http_cancel(w.a.probe);
	w.stopped = false;
	service_stop(w.a.service, relay_stopped, NULL);
	rig_run_until(w.r.d.loop, &w.stopped);
	http_client_destroy(w.r.d.http, was_closed, &closed);
	rig_run_until(w.r.d.loop, &closed);
	w.r.d.http = NULL;
	registry_relay_destroy(w.relay);
	deadline_close(&w.a.timer, NULL);
	deadline_close(&w.a.prune_timer, NULL);
}

static bool is_pruning(void *arg)
{
	return w.a.pruning != PRUNE_LOOKING && w.a.pruning != PRUNE_NOT;
}

static bool is_looked_at(void *arg)
{
	return w.a.pruning != PRUNE_LOOKING;
}

static bool is_begun_again(void *arg)
{
	return w.a.pruning == PRUNE_NOT && service_up(w.a.service);
}

static void was_pulled(void *arg, const json_t *result, const struct err *err)
{
	*(bool *)arg = true;
}

/* Stopped under a pull, a cache would break it off: the prune of one comes later. */
static void test_prune_waits(void **state)
{
	struct image_sub pull = { .done = was_pulled };
	struct strv args = { 0 }, sleep = { 0 };
	char *bin, *path, *text;
	bool pulled = false;
	pid_t pid;

	netns_enter();
	assert_int_equal(http_client_create(&w.r.d.http, w.r.d.loop, NULL), 0);
	deadline_init(&w.a.timer, w.r.d.loop, no_more, NULL);
	deadline_init(&w.a.prune_timer, w.r.d.loop, registry_prune_due, &w.a);
	list_init(&w.a.prune_sub.entry);
	create_relay();
	w.a.relay = w.relay;
	text = str_printf("case $1 in pull) while [ ! -e %s/go ]; do sleep 0.02; done;;\n"
			  "cache-prune) echo \"$*\" >>%s/prunes;; esac\n"
			  "echo '{\"event\":\"done\",\"freed\":1000}'",
		w.r.dir, w.r.dir);
	free(drover_rig_script(&w.r, "libexec/drover-image", text));
	free(text);
	bin = drover_rig_script(&w.r, "docker-registry", "exec sleep 600");
	*strrchr(bin, '/') = '\0';
	path = str_printf("%s:%s", bin, getenv("PATH"));
	setenv("PATH", path, 1);
	/* As it is when it runs. */
	w.a.offline_wanted = true;
	strv_add(&sleep, "/bin/sleep");
	strv_add(&sleep, "600");
	assert_int_equal(service_start(w.a.service, &sleep, NULL), 0);
	w.a.state = REGISTRY_UP;
	pid = service_pid(w.a.service);
	strv_add(&args, "pull");
	pull.arg = &pulled;
	list_init(&pull.entry);
	assert_int_equal(image_job_args(&w.r.d, &args, &pull, NULL), 0);
	strv_finish(&args);
	registry_prune_due(&w.a);
	assert_int_equal(w.a.pruning, PRUNE_LOOKING);
	drover_rig_until(&w.r, is_looked_at, NULL);
	assert_int_equal(w.a.pruning, PRUNE_NOT);
	assert_int_equal(w.a.state, REGISTRY_UP);
	assert_int_equal(service_pid(w.a.service), pid);
	assert_true(deadline_armed(&w.a.prune_timer));
	/* The pull is over: at the next time it is pruned, and begun again. */
	drover_rig_put(&w.r, "go", "");
	rig_run_until(w.r.d.loop, &pulled);
	registry_prune_due(&w.a);
	drover_rig_until(&w.r, is_pruning, NULL);
	assert_int_equal(w.a.state, REGISTRY_STARTING);
	drover_rig_until(&w.r, is_begun_again, NULL);
	assert_int_not_equal(service_pid(w.a.service), pid);
	text = drover_rig_text(&w.r, "prunes");
	assert_non_null(strstr(text, "--dry-run\n"));
	assert_non_null(strstr(text, "storage-ghcr\n"));
	free(text);
	free(path);
	free(bin);
	finish_cache();
}

static bool no_probe(void *arg)
{
	return w.a.probe == NULL;
}

/* A question to the upstream that was under way when the cache was stopped for a prune. */
static void test_probe_ends_in_prune(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd;

	netns_enter();
	assert_int_equal(http_client_create(&w.r.d.http, w.r.d.loop, NULL), 0);
	deadline_init(&w.a.timer, w.r.d.loop, no_more, NULL);
	create_relay();
	w.a.relay = w.relay;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0); /* and never answers */
	getsockname(fd, (struct sockaddr *)&sa, &len);
	free(w.a.upstream);
	w.a.upstream = str_printf("http://127.0.0.1:%u", (unsigned)ntohs(sa.sin_port));
	registry_begin(&w.a);
	assert_non_null(w.a.probe);
	w.a.pruning = PRUNE_WORKING;
	http_cancel(w.a.probe);
	drover_rig_until(&w.r, no_probe, NULL);
	assert_int_equal(w.a.state, REGISTRY_STARTING);
	assert_false(service_up(w.a.service));
	assert_false(deadline_armed(&w.a.timer));
	/* Nor is it begun for any other reason, until the prune itself does. */
	registry_begin(&w.a);
	assert_null(w.a.probe);
	w.a.offline_wanted = true;
	registry_begin(&w.a);
	assert_false(service_up(w.a.service));
	assert_false(deadline_armed(&w.a.timer));
	close(fd);
	deadline_init(&w.a.prune_timer, w.r.d.loop, NULL, NULL);
	finish_cache();
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_find),
		T(test_usage),
		T(test_json),
		T(test_wait),
		T(test_address),
		T(test_save),
		T(test_relay),
		T(test_relay_adopted),
		T(test_relay_lost),
		T(test_prune_waits),
		T(test_probe_ends_in_prune),
	};

	return cmocka_run_group_tests_name("registry_cache", tests, NULL, NULL);
}
