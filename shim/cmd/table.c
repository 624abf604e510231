/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/cmd/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_begin(struct table *table, const struct table_column *columns, size_t count)
{
	*table = (struct table){.column_count = count};
	for (size_t i = 0; i < count; i++) {
		table->columns[i] = columns[i];
		table->columns[i].width = strlen(columns[i].name);
	}
}

void table_text(struct table *table, const char *cell)
{
	struct table_column *column = &table->columns[table->count % table->column_count];
	char *copy = strdup(cell && *cell ? cell : "-");
	char **grown = table->cells;

	/* Room doubles whenever the count reaches a power of two. */
	if (copy && (table->count & (table->count - 1)) == 0)
		grown = reallocarray(table->cells, table->count ? table->count * 2 : 1, sizeof(*grown));
	if (!copy || !grown) {
		free(copy);
		table->failed = true;
		return;
	}
	for (char *c = copy; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			*c = '?';
	table->cells = grown;
	table->cells[table->count++] = copy;
	if (strlen(copy) > column->width)
		column->width = strlen(copy);
}

void table_number(struct table *table, uint64_t cell)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, cell);
	table_text(table, text);
}

static void print_cell(const struct table *table, size_t index, const char *cell)
{
	const struct table_column *column = &table->columns[index];
	bool last = index + 1 == table->column_count;

	if (column->right)
		printf("%*s", (int)column->width, cell);
	else
		printf("%-*s", last ? 0 : (int)column->width, cell);
	putchar(last ? '\n' : ' ');
}

void table_print(const struct table *table)
{
	for (size_t i = 0; i < table->column_count; i++)
		print_cell(table, i, table->columns[i].name);
	for (size_t i = 0, column = 0; i < table->count; i++, column = column + 1 < table->column_count ? column + 1 : 0)
		print_cell(table, column, table->cells[i]);
}

void table_free(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){0};
}
