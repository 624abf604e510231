/* SPDX-License-Identifier: BSD-2-Clause */
/* See device_table.h. */
#include "device_table.h"

#include <errno.h>
#include <string.h>

/* The end of an entry that overlaps [start, start + length), or 0. Entries are input: a wild one cannot overflow. */
static uint64_t overlap(const struct device_slot *slot, uint64_t device_length, uint64_t start, uint64_t length)
{
	if (slot->length == 0 || slot->start >= device_length || slot->length > device_length - slot->start)
		return 0;
	return slot->start < start + length && start < slot->start + slot->length ? slot->start + slot->length : 0;
}

/* Start of the lowest gap of `length` bytes, or 0. Each round passes one entry for good, so rounds are few. */
static uint64_t gap(const struct device_table *table, uint64_t device_length, uint64_t length)
{
	uint64_t start = DEVICE_TABLE_BYTES;

	for (unsigned round = 0; round <= DEVICE_SLOTS; round++) {
		uint64_t next = start;

		if (start >= device_length || length > device_length - start)
			return 0;
		for (unsigned i = 0; i < DEVICE_SLOTS; i++) {
			uint64_t end = overlap(&table->slots[i], device_length, start, length);

			if (end > next)
				next = end;
		}
		if (next == start)
			return start;
		start = (next + DEVICE_TABLE_BYTES - 1) & ~(DEVICE_TABLE_BYTES - 1);
	}
	return 0;
}

int device_table_take(struct device_table *table, uint64_t device_length, uint64_t length, uint64_t pid, uint64_t born,
		      device_alive *alive)
{
	int free_slot = -1;
	uint64_t start;

	if (length == 0 || length % DEVICE_TABLE_BYTES)
		return -EINVAL;
	if (table->magic != DEVICE_MAGIC) {
		memset(table, 0, sizeof *table);
		table->magic = DEVICE_MAGIC;
		table->device_length = device_length;
	}
	if (table->device_length != device_length)
		return -EPROTO;
	for (unsigned i = DEVICE_SLOTS; i-- > 0;) {
		struct device_slot *slot = &table->slots[i];

		if (slot->length && !alive(slot->pid, slot->born))
			*slot = (struct device_slot){0};
		if (slot->length == 0)
			free_slot = (int)i;
	}
	start = gap(table, device_length, length);
	if (free_slot < 0 || start == 0)
		return -ENOSPC;
	table->slots[free_slot] = (struct device_slot){.start = start, .length = length, .pid = pid, .born = born};
	return free_slot;
}
