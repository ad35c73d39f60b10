/* hv/ch-error.c - what cloud-hypervisor's HTTP statuses and error arrays mean here. */
#include <errno.h>
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

/*
 * The first row that fits counts: the status (0: any) and a text that one of the messages holds
 * (NULL: any). The texts are of vmm/src/vm.rs (enum Error) and of the C library: 500 covers every
 * error but four kinds (vmm/src/api/http/mod.rs, api_error_status_code), so that the text must tell
 * a wrong state from a fault. 405 is in the API's description only.
 */
static const struct {
	int status;
	const char *text;
	int code;
} meanings[] = {
	{ 0, "No space left on device", -ENOSPC },
	{ 0, "Cannot allocate memory", -ENOMEM },
	{ 0, "Permission denied", -EACCES },
	{ 400, NULL, -EINVAL },
	{ 404, "VM is not created", -EBADFD },
	{ 404, "VM config is missing", -EBADFD },
	{ 404, "VM is not booted", -EBADFD },
	{ 404, NULL, -ENOENT },
	{ 405, NULL, -EBADFD },
	{ 409, NULL, -EEXIST },
	{ 413, NULL, -EFBIG },
	{ 429, NULL, -EBUSY },
	/* v50 to v53 answer these with 500, later ones with 409, 404 and 400. */
	{ 500, "is not unique", -EEXIST },
	{ 500, "No device with id", -ENOENT },
	{ 500, "corresponding to the given identifier", -ENOENT },
	{ 500, "Failed to validate config", -EINVAL },
	{ 500, "VM is not running", -EBADFD },
	{ 500, "VM is not created", -EBADFD },
	{ 500, "VM is not booted", -EBADFD },
	{ 500, "VM is already created", -EBADFD },
	{ 500, "while VM is running", -EBADFD },
	{ 500, "nvalid VM state transition", -EBADFD },
	{ 500, "InvalidStateTransition", -EBADFD },
	{ 500, "nvalid transition", -EBADFD },
	{ 500, "VM is currently migrating", -EBUSY },
	{ 500, "There is already an ongoing migration", -EBUSY },
	{ 500, "memory restore is still in progress", -EBUSY },
	{ 501, NULL, -ENOTSUP },
	/* micro_http has no room for a further connection. */
	{ 503, NULL, -EAGAIN },
};

static int code_of(int status, const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
		if ((meanings[i].status == 0 || meanings[i].status == status) &&
			(meanings[i].text == NULL || strcasestr(text, meanings[i].text) != NULL))
			return meanings[i].code;
	return -EIO;
}

/* The strings in one line, each once: what is outside is often the same sentence again. */
static void join(const json_t *array, struct buf *out)
{
	const char *before = NULL;
	const json_t *e;
	size_t i;

	json_array_foreach (array, i, e) {
		const char *s = json_string_value(e);

		if (s == NULL || *s == '\0' || str_eq(s, before))
			continue;
		if (out->len > 0)
			buf_adds(out, ": ");
		buf_adds(out, s);
		before = s;
	}
}

int ch_error(int status, const char *body, size_t len, struct err *err)
{
	struct buf text = { 0 };
	json_t *v = NULL;
	int r;

	if (status >= 200 && status < 300)
		return 0;
	if (len > 0 && json_parse(body, len, &v, NULL) == 0 && json_is_array(v))
		join(v, &text);
	else if (len > 0 && v == NULL)
		buf_add(&text, body, MIN(len, (size_t)300));
	json_decref(v);
	if (text.data != NULL)
		hv_clean_text(text.data);
	r = code_of(status, buf_str(&text));
	if (text.len > 0)
		err_set(err, r, "%s (HTTP status %d)", buf_str(&text), status);
	else
		err_set(err, r, "the API answered with HTTP status %d", status);
	buf_finish(&text);
	return r;
}

json_t *ch_parse(const char *text, size_t len)
{
	json_t *v = json_loadb(text, len, JSON_DECODE_ANY, NULL);

	return v != NULL ? v
			 : json_loadb(text, len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
}
