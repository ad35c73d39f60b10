#include "ctl/print.h"

#include <stdio.h>
#include <stdlib.h>
#include "ctl/term.h"
#include "lib/json.h"

void print_json(const json_t *v)
{
	char *text = json_text(v);

	if (text != NULL)
		puts(text);
	else
		fputs("drover: out of memory\n", stderr);
	free(text);
}

void print_text(struct buf *text)
{
	fputs(buf_str(text), stdout);
	buf_finish(text);
}

void print_now(const char *data, size_t len)
{
	if (fwrite(data, 1, len, stdout) == len && fflush(stdout) == 0)
		return;
	term_restore();
	exit(1);
}
