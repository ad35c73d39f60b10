/* What `drover doctor --fix` would do, step by step, and what takes it back: supervisor/examine.h. */
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/examine-private.h"

#define NEST_FILE "/etc/modprobe.d/drover-nested.conf"
#define LOAD_FILE "/etc/modules-load.d/drover-%s.conf"

/* Those that --fix may load, and so --undo may find. */
static const char *const loadable[] = { "tun", "vhost_net", "vhost_vsock", "bridge", "nf_tables",
	"kvm_intel", "kvm_amd" };
static const char *const nesting[] = { "kvm_intel", "kvm_amd" };

static void add_step(json_t *steps, json_t *step)
{
	/* Without memory the array stays shorter, and examine_change() is told so by its size. */
	json_array_append_new(steps, step);
}

void step_write(json_t *steps, const struct examination *x, const char *path, const char *text)
{
	json_t *j = json_object();

	json_put_str(j, "do", "write");
	json_put_str(j, "path", examine_path(x, "%s", path));
	json_put_str(j, "text", text);
	add_step(steps, j);
}

void step_remove(json_t *steps, const struct examination *x, const char *path)
{
	json_t *j = json_object();

	json_put_str(j, "do", "remove");
	json_put_str(j, "path", examine_path(x, "%s", path));
	add_step(steps, j);
}

void step_run(json_t *steps, const struct examination *x, bool may_fail, const char *const *argv)
{
	json_t *j, *words;

	if (x->o.root != NULL)
		return;
	j = json_object();
	words = json_array();
	for (size_t i = 0; argv[i] != NULL; i++)
		json_array_append_new(words, json_string(argv[i]));
	json_put_str(j, "do", "run");
	json_object_set_new(j, "argv", words);
	json_put_bool(j, "may_fail", may_fail);
	add_step(steps, j);
}

static json_t *change(const char *check, const char *title, const char *refused, json_t *steps)
{
	json_t *j = json_object();

	json_put_str(j, "check", check);
	json_put_str(j, "title", title);
	json_put_str(j, "refused", refused);
	json_object_set_new(j, "steps", steps);
	return j;
}

void examine_change(struct examination *x, const char *check, const char *title,
	const char *refused, json_t *steps, json_t *back)
{
	json_t *j = change(check, title, refused, steps);

	json_object_set_new(j, "back", back);
	if (json_object_size(j) != 5 || json_array_append_new(x->changes, j) < 0)
		x->bad = true;
}

#define RUN(steps, x, may_fail, ...)                                                               \
	step_run(steps, x, may_fail, (const char *const[]){ __VA_ARGS__, NULL })

static void back_from_load(json_t *back, const struct examination *x, const char *module)
{
	char path[96];

	snprintf(path, sizeof(path), LOAD_FILE, module);
	step_remove(back, x, path);
	/* Somebody may have it in use by now, and then it stays. */
	RUN(back, x, true, "modprobe", "-r", module);
}

void examine_load(struct examination *x, const char *check, const char *module)
{
	json_t *steps = json_array(), *back = json_array();
	char title[128], path[96], text[256];

	snprintf(path, sizeof(path), LOAD_FILE, module);
	snprintf(text, sizeof(text), EXAMINE_MARK "%s\n", module);
	snprintf(title, sizeof(title), "load the module %s%s", module,
		x->o.root != NULL ? " at each boot" : ", now and at each boot");
	RUN(steps, x, false, "modprobe", module);
	step_write(steps, x, path, text);
	back_from_load(back, x, module);
	examine_change(x, check, title, NULL, steps, back);
}

static void reload(json_t *steps, const struct examination *x, const char *module)
{
	RUN(steps, x, false, "modprobe", "-r", module);
	RUN(steps, x, false, "modprobe", module);
}

/* modprobe -r refuses what is in use; whatever happens, KVM shall be there again at the end. */
static void back_from_nest(json_t *back, const struct examination *x, const char *module)
{
	step_remove(back, x, NEST_FILE);
	RUN(back, x, true, "modprobe", "-r", module);
	RUN(back, x, false, "modprobe", module);
}

void examine_nest(struct examination *x, const char *module, const char *refused)
{
	json_t *steps = json_array(), *back = json_array();
	char title[160], text[256];

	snprintf(text, sizeof(text), EXAMINE_MARK "options %s nested=1\n", module);
	snprintf(title, sizeof(title), "turn on nested virtualization (%s)%s", module,
		x->o.root != NULL ? " from the next boot on" : ", now and at each boot");
	step_write(steps, x, NEST_FILE, text);
	reload(steps, x, module);
	back_from_nest(back, x, module);
	examine_change(x, "nested", title, refused, steps, back);
}

/* Whether a file is there and was written by --fix. */
static bool is_marked(const struct examination *x, const char *path, struct buf *text)
{
	return examine_file(x, path, text) && str_starts(buf_str(text), EXAMINE_MARK);
}

static void undo(struct examination *x, const char *check, const char *title, const char *refused,
	json_t *steps)
{
	if (json_array_append_new(x->undo, change(check, title, refused, steps)) < 0)
		x->bad = true;
}

static void undo_nesting(struct examination *x, const struct buf *text)
{
	struct buf running = { 0 };
	char refused[512], wanted[64];

	for (size_t i = 0; i < ARRAY_LEN(nesting); i++) {
		json_t *steps;

		snprintf(wanted, sizeof(wanted), "options %s ", nesting[i]);
		if (strstr(buf_str(text), wanted) == NULL)
			continue;
		steps = json_array();
		if (x->o.root == NULL && examine_hypervisors(x, &running))
			snprintf(refused, sizeof(refused), "machines are running: %s",
				buf_str(&running));
		else
			refused[0] = '\0';
		back_from_nest(steps, x, nesting[i]);
		undo(x, "nested", "leave nested virtualization as the host has it by itself",
			refused[0] != '\0' ? refused : NULL, steps);
	}
	buf_finish(&running);
}

void examine_undo(struct examination *x)
{
	struct buf text = { 0 };
	char path[96], title[128];

	if (is_marked(x, NEST_FILE, &text))
		undo_nesting(x, &text);
	for (size_t i = 0; i < ARRAY_LEN(loadable); i++) {
		json_t *steps;

		snprintf(path, sizeof(path), LOAD_FILE, loadable[i]);
		if (!is_marked(x, path, &text))
			continue;
		steps = json_array();
		snprintf(title, sizeof(title), "no longer load the module %s", loadable[i]);
		back_from_load(steps, x, loadable[i]);
		undo(x, loadable[i], title, NULL, steps);
	}
	buf_finish(&text);
}
