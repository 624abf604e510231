/* SPDX-License-Identifier: BSD-2-Clause */
/* Columns for people: each as wide as its widest cell. Cells are printed as they are, without what a terminal would obey. */
#ifndef SHIM_CMD_TABLE_H
#define SHIM_CMD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_COLUMNS 16

struct table_column {
	const char *name;
	bool right; /* aligned */
	size_t width;
};

struct table {
	struct table_column columns[TABLE_COLUMNS];
	size_t column_count;
	char **cells; /* row by row */
	size_t count;
	bool failed;  /* out of memory */
};

void table_begin(struct table *table, const struct table_column *columns, size_t count);
void table_text(struct table *table, const char *cell); /* "" and NULL appear as "-" */
void table_number(struct table *table, uint64_t cell);
void table_print(const struct table *table);
void table_free(struct table *table);

#endif
