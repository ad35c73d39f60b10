/* ctl/table.h - text for people: tables, "key: value" lists, bars, foreign text made harmless. */
#ifndef DROVER_CTL_TABLE_H
#define DROVER_CTL_TABLE_H

#include <jansson.h>
#include "lib/str.h"

/* Rows of cells; the first row is the heading. Columns are as wide as their widest cell. */
struct table {
	unsigned columns;
	struct strv cells;
};

/* NULL and "" become "-". What would move a terminal's cursor is escaped. */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *fmt, ...) PRINTF(2, 3);
/* Two spaces between columns, none at a line's end; the cells are freed. */
void table_format(struct table *t, struct buf *out);
/* net-graph.c: of what GET /networks has; neither of the two is text. */
void net_graph(struct buf *out, const json_t *all, bool dot, bool svg);
/* Like a table without heading: "key:   value". */
void table_print(struct table *t);

/* Control characters as \xNN, and what is not UTF-8. */
void add_clean(struct buf *out, const char *text);
/* Characters that a terminal shows; one column each. */
size_t text_width(const char *text);

/*
 * "[=====>    ]  50%": a bar of width characters in all (at least 10). An unknown total (0) gives
 * an empty bar without a percentage.
 */
void format_bar(struct buf *out, unsigned width, uint64_t done, uint64_t total);
/* "ghcr.io/x/y@sha256:0123456789ab": the digest cut to twelve digits. */
void format_image(struct buf *out, const char *reference);
/* A JSON value in one cell: strings as they are, arrays joined by ", ", null as "". */
void format_value(struct buf *out, const json_t *v);
/* "3s" for 3; "-" for a negative number. */
const char *format_uptime(int64_t seconds);

#endif
