/* SPDX-License-Identifier: BSD-2-Clause */
/* What the user may choose; parsed by the front end from the environment (see libnotnets_shim(7)). */
#ifndef SHIM_CORE_CONFIG_H
#define SHIM_CORE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "arena/arena.h"

struct nn_config {
	struct arena_backend backend; /* NOTNETS_ARENA */
	uint64_t ring_min;            /* NOTNETS_RING_MIN, bytes, power of two, 4 KiB .. 64 MiB; default 64 KiB */
	uint64_t ring_max;            /* NOTNETS_RING_MAX, as above, >= ring_min; default 1 MiB */
	uint32_t spin_ns;             /* NOTNETS_SPIN in microseconds, 0 .. 1000; default 200 us */
	uint32_t after_calls;         /* NOTNETS_AFTER_CALLS, 0 .. 1000000: calls on a connection before it may switch; default 6 */
	uint64_t after_bytes;         /* NOTNETS_AFTER_BYTES: or so many bytes; default 64 KiB */
	uint32_t log_level;           /* NOTNETS_LOG: 0 off, 1 warnings, 2 info, 3 debug */
	int log_fd;                   /* a hidden copy of stderr or of the file named; -1: none */
	const char *report;           /* NOTNETS_REPORT: path, or NULL; lives as long as the process */
	uint32_t chaos;               /* NOTNETS_CHAOS: 0, or 1 in so many calls moves a direction up or down at random (tests) */
};

#endif
