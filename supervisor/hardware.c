#include "supervisor/hardware.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"

#define MIB ((uint64_t)1 << 20)

/* The words of text, in which white space cannot be quoted. */
static int split(const char *text, struct strv *out, struct err *err)
{
	char *copy = strdup(text), *save, *word;

	if (copy == NULL)
		return err_nomem(err);
	for (word = strtok_r(copy, " \t", &save); word != NULL; word = strtok_r(NULL, " \t", &save))
		strv_add(out, word);
	free(copy);
	if (out->bad)
		return err_nomem(err);
	return out->n > 0 ? 0 : err_set(err, -EINVAL, "a value is missing");
}

/* ---- volumes ---- */

static int parse_format(const char *text, enum hv_disk_format *out, struct err *err)
{
	if (strcmp(text, "raw") == 0)
		*out = HV_DISK_RAW;
	else if (strcmp(text, "qcow2") == 0)
		*out = HV_DISK_QCOW2;
	else
		return err_set(err, -EINVAL, "format: %s is neither raw nor qcow2", quote(text));
	return 0;
}

static int parse_serial(const char *text, char out[SERIAL_MAX + 1], struct err *err)
{
	if (*text == '\0' || strlen(text) > SERIAL_MAX)
		return err_set(err, -EINVAL, "serial: %s does not have 1 to %d bytes", quote(text),
			SERIAL_MAX);
	for (const char *p = text; *p != '\0'; p++) {
		if (!isgraph((unsigned char)*p))
			return err_set(
				err, -EINVAL, "serial: %s is not all printable", quote(text));
	}
	snprintf(out, SERIAL_MAX + 1, "%s", text);
	return 0;
}

static int parse_volume_size(const char *text, uint64_t *out, struct err *err)
{
	int r = parse_size(text, out, err);

	if (r == 0 && (*out < MIB || *out % 512 != 0))
		r = err_set(err, -EINVAL, "%s is less than 1M or not whole sectors", quote(text));
	return r < 0 ? err_wrap(err, "size") : 0;
}

static int parse_volume_word(struct volume *v, const char *word, struct err *err)
{
	static const char *const words[] = { "size=", "format=", "ro", "serial=" };

	if (str_starts(word, "size="))
		return parse_volume_size(word + 5, &v->size, err);
	if (str_starts(word, "format="))
		return parse_format(word + 7, &v->format, err);
	if (str_starts(word, "serial="))
		return parse_serial(word + 7, v->serial, err);
	if (strcmp(word, "ro") != 0) {
		const char *near = str_nearest(word, words, ARRAY_LEN(words));

		return err_set(err, -EINVAL, "%s is none of size=, format=, ro, serial=%s%s%s",
			quote(word), near != NULL ? "; did you mean '" : "",
			near != NULL ? near : "", near != NULL ? "'?" : "");
	}
	v->readonly = true;
	return 0;
}

/* NAME or /PATH, with what follows from it alone. */
static int parse_volume_first(struct volume *v, const char *word, struct err *err)
{
	const char *dot = strrchr(word, '.');
	int r;

	if (word[0] == '/') {
		v->path = strdup(word);
		if (str_eq(dot, ".qcow2"))
			v->format = HV_DISK_QCOW2;
		return v->path == NULL ? err_nomem(err) : 0;
	}
	r = name_check(word, "volume", err);
	if (r < 0)
		return err_set(err, r, "%s is neither a name nor an absolute path", quote(word));
	v->name = strdup(word);
	if (strlen(word) <= SERIAL_MAX)
		strcpy(v->serial, word);
	return v->name == NULL ? err_nomem(err) : 0;
}

static int check_volume(const struct volume *v, struct err *err)
{
	if (v->name != NULL && v->size == 0)
		return err_set(err, -EINVAL, "%s: size= is missing (a path begins with '/')",
			quote(v->name));
	if (v->name != NULL && v->readonly)
		return err_set(err, -EINVAL,
			"%s: an empty disk that cannot be written to is of no use", quote(v->name));
	if (v->path != NULL && v->size != 0)
		return err_set(
			err, -EINVAL, "%s: a disk that is there has its size", quote(v->path));
	return 0;
}

int volume_parse(struct volume *out, const char *text, struct err *err)
{
	struct volume v = { 0 };
	struct strv words = { 0 };
	int r = split(text, &words, err);

	if (r == 0)
		r = parse_volume_first(&v, words.v[0], err);
	for (size_t i = 1; i < words.n && r == 0; i++)
		r = parse_volume_word(&v, words.v[i], err);
	if (r == 0)
		r = check_volume(&v, err);
	strv_finish(&words);
	if (r < 0)
		volume_finish(&v);
	else
		*out = v;
	return r;
}

void volume_finish(struct volume *v)
{
	free(v->name);
	free(v->path);
	*v = (struct volume){ 0 };
}

const char *disk_format_name(enum hv_disk_format f)
{
	return f == HV_DISK_QCOW2 ? "qcow2" : "raw";
}

/* ---- shares ---- */

static int take_share(struct share *s, const struct strv *words, struct err *err)
{
	if (words->n < 2 || words->n > 3 || words->v[1][0] != '/' ||
		(words->n == 3 && strcmp(words->v[2], "ro") != 0))
		return err_set(err, -EINVAL, "must be TAG /PATH or TAG /PATH ro");
	if (strlen(words->v[0]) > TAG_MAX)
		return err_set(err, -EINVAL, "a tag has at most %d bytes", TAG_MAX);
	for (const char *p = words->v[0]; *p != '\0'; p++) {
		if (!isgraph((unsigned char)*p) || *p == ',')
			return err_set(err, -EINVAL, "%s: a tag has no such character",
				quote(words->v[0]));
	}
	s->tag = strdup(words->v[0]);
	s->path = strdup(words->v[1]);
	s->readonly = words->n == 3;
	return s->tag == NULL || s->path == NULL ? err_nomem(err) : 0;
}

int share_parse(struct share *out, const char *text, struct err *err)
{
	struct share s = { 0 };
	struct strv words = { 0 };
	int r = split(text, &words, err);

	if (r == 0)
		r = take_share(&s, &words, err);
	strv_finish(&words);
	if (r < 0)
		share_finish(&s);
	else
		*out = s;
	return r;
}

void share_finish(struct share *s)
{
	free(s->tag);
	free(s->path);
	*s = (struct share){ 0 };
}

/* ---- boot order ---- */

static const char *const boot_words[BOOT_DEVICES] = {
	[BOOT_DISK] = "disk",
	[BOOT_CDROM] = "cdrom",
	[BOOT_NETWORK] = "network",
};

bool boot_order_has(const struct boot_order *o, enum boot_device device)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i] == device)
			return true;
	return false;
}

static int add_boot_word(struct boot_order *o, const char *word, size_t len, struct err *err)
{
	size_t i = 0;

	while (i < BOOT_DEVICES &&
		(strlen(boot_words[i]) != len || strncmp(boot_words[i], word, len) != 0))
		i++;
	if (i == BOOT_DEVICES)
		return err_set(err, -EINVAL, "'%.*s' is not one of: disk, cdrom, network",
			(int)MIN(len, 40), word);
	if (boot_order_has(o, (enum boot_device)i))
		return err_set(err, -EINVAL, "'%s' is there a second time", boot_words[i]);
	o->v[o->n++] = (enum boot_device)i;
	return 0;
}

int boot_order_parse(struct boot_order *out, const char *text, struct err *err)
{
	struct boot_order o = { .n = 0 };
	int r = 0;

	for (const char *p = text + strspn(text, ", \t"); *p != '\0' && r == 0;) {
		size_t len = strcspn(p, ", \t");

		r = add_boot_word(&o, p, len, err);
		p += len;
		p += strspn(p, ", \t");
	}
	if (r == 0 && o.n == 0)
		r = err_set(err, -EINVAL, "a device is missing");
	if (r == 0)
		*out = o;
	return r;
}

/* ---- vsock ---- */

int vsock_parse(const char *text, bool *is_auto, uint32_t *cid, struct err *err)
{
	uint64_t n = 0;

	*is_auto = strcmp(text, "auto") == 0;
	*cid = 0;
	if (*is_auto || strcmp(text, "none") == 0)
		return 0;
	if (parse_u64(text, VSOCK_CID_MIN, VSOCK_CID_MAX, &n, NULL) < 0)
		return err_set(err, -EINVAL, "%s is not none, auto or a number from %d to %u",
			quote(text), VSOCK_CID_MIN, (unsigned)VSOCK_CID_MAX);
	*cid = (uint32_t)n;
	return 0;
}
