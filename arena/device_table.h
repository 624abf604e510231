/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who has which part of a DAX device: a table in its first 2 MiB.
 *
 * Every process that uses the device writes the table, under flock on the device; it is the one place in shared
 * memory with several writers. A part belongs to a process, known by pid and start time; when that process is gone,
 * the part is free. Limits: all users must see one another's pids (one pid namespace, one host), and a peer that still
 * reads a part after its owner's death may see it used again.
 */
#ifndef ARENA_DEVICE_TABLE_H
#define ARENA_DEVICE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_MAGIC 0x3156454454454e4eull /* "NNETDEV1" */
#define DEVICE_TABLE_BYTES 0x200000ull
#define DEVICE_SLOTS 4096u

struct device_slot {
	uint64_t start;  /* byte offset in the device */
	uint64_t length; /* 0: free */
	uint64_t pid;
	uint64_t born; /* start time of pid, in clock ticks since boot; see proc(5) */
};

struct device_table {
	uint64_t magic;
	uint64_t device_length;
	uint64_t reserved[6];
	struct device_slot slots[DEVICE_SLOTS];
};

_Static_assert(offsetof(struct device_table, slots) + DEVICE_SLOTS * sizeof(struct device_slot) <= DEVICE_TABLE_BYTES,
	       "the table fits");

/* True when the process still runs. */
typedef bool device_alive(uint64_t pid, uint64_t born);

/* Finds the lowest free `length` bytes (a multiple of 2 MiB) of a device and enters them for pid. A table without
 * magic is made new. Slot number, -ENOSPC, or -EPROTO for a table of a device of another length. */
int device_table_take(struct device_table *table, uint64_t device_length, uint64_t length, uint64_t pid, uint64_t born,
		      device_alive *alive);

#endif
