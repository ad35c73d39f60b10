#include "hv/jail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/backend.h"
#include "lib/file.h"
#include "lib/json.h"

#define EXIT_FILE     "exit"
#define EXIT_FILE_MAX 4096

int jail_arguments(const char *jail, const char *run_dir, int status_fd,
	const struct hv_command *cmd, struct strv *out, struct err *err)
{
	struct strv v = { 0 };

	strv_add(&v, jail);
	strv_add(&v, "--run-dir");
	strv_add(&v, run_dir);
	strv_add(&v, "--status-fd");
	strv_addf(&v, "%d", status_fd);
	strv_add(&v, "--");
	for (size_t i = 0; i < cmd->argv.n; i++)
		strv_add(&v, cmd->argv.v[i]);
	if (v.bad) {
		strv_finish(&v);
		return err_nomem(err);
	}
	*out = v;
	return 0;
}

int jail_parse_line(const char *line, pid_t *pid, uint64_t *starttime, struct err *err)
{
	unsigned long long start;
	int p, end = 0;

	if (str_starts(line, "error: ")) {
		err_set(err, -EIO, "%s", line + strlen("error: "));
		if (err != NULL)
			hv_clean_text(err->msg);
		return -EIO;
	}
	if (sscanf(line, "%d %llu%n", &p, &start, &end) != 2 || line[end] != '\0' || p <= 0)
		return err_set(err, -EBADMSG, "drover-jail said %s", quote(line));
	*pid = p;
	*starttime = start;
	return 0;
}

int jail_read_exit(const char *run_dir, pid_t pid, uint64_t starttime, struct child_status *out,
	struct err *err)
{
	char *path = path_join(run_dir, EXIT_FILE);
	struct child_status st = { .known = true };
	struct buf text = { 0 };
	json_t *v = NULL;
	int64_t code;
	int r;

	if (path == NULL)
		return err_nomem(err);
	r = file_read(path, EXIT_FILE_MAX, &text, err);
	if (r < 0)
		goto out;
	if (json_parse(text.data, text.len, &v, err) < 0) {
		r = -EBADMSG;
		goto out;
	}
	st.signaled = json_object_get(v, "signal") != NULL;
	code = json_int(v, st.signaled ? "signal" : "status", -1);
	if (code < 0 || code > 255) {
		r = err_set(err, -EBADMSG, "%s is not an exit file", quote(path));
		goto out;
	}
	if (json_int(v, "pid", 0) != pid || (uint64_t)json_int(v, "starttime", 0) != starttime) {
		r = err_set(err, -ESTALE, "%s is of another process", quote(path));
		goto out;
	}
	st.code = (int)code;
	*out = st;
out:
	json_decref(v);
	buf_finish(&text);
	free(path);
	return r;
}

void jail_remove_exit(const char *run_dir)
{
	char *path = path_join(run_dir, EXIT_FILE);

	if (path != NULL)
		unlink(path);
	free(path);
}
