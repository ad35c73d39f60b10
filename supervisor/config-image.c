/* [image]: sections that stand for references (oci/image.h). */
#include <errno.h>
#include "oci/image.h"
#include "supervisor/config-priv.h"

void config_image_reference(const struct image_config_section *s, struct buf *out)
{
	const char *source = s->source != NULL ? s->source : "", *mark = "#";

	/* A path, of a disk in any format, is a file like others here: it has been resolved. */
	buf_printf(out, "%s%s", source[0] == '/' ? "file:" : "", source);
	if (s->sha256 != NULL) {
		buf_printf(out, "%ssha256=%s", mark, s->sha256);
		mark = "&";
	}
	if (s->format != FORMAT_BY_NAME) {
		buf_printf(
			out, "%sformat=%s", mark, image_format_name((enum image_format)s->format));
		mark = "&";
	}
	for (size_t i = 0; i < s->backing.n; i++) {
		buf_printf(out, "%sbacking=%s", mark, s->backing.v[i]);
		mark = "&";
	}
}

void check_image(struct load *l, const struct image_config_section *s)
{
	struct buf text = { 0 };
	struct image_ref ref;
	struct err err;

	/* What it lacks was reported. */
	if (s->source == NULL)
		return;
	config_image_reference(s, &text);
	if (text.bad) {
		l->nomem = true;
	} else if (strchr(s->source, '#') != NULL) {
		load_error(l, s->s.pos.file, s->s.pos.line,
			"[image %.80s] source has a '#': what would be behind it has keys of its own",
			s->s.name);
	} else if (image_ref_parse(buf_str(&text), &ref, &err) < 0) {
		l->nomem |= err.code == -ENOMEM;
		load_error(l, s->s.pos.file, s->s.pos.line, "[image %.80s] %s", s->s.name, err.msg);
	}
	buf_finish(&text);
}
