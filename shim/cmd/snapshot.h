/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy of what another process shows of itself (struct state). That process is not trusted: everything is copied once
 * by pread, which cannot fault when the memfd shrinks, then checked, then used.
 */
#ifndef SHIM_CMD_SNAPSHOT_H
#define SHIM_CMD_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "shim/core/state.h"

struct snapshot {
	uint32_t pid; /* as the process itself knows it, in its PID namespace */
	char program[sizeof(((struct state *)0)->program) + 1]; /* terminated; any bytes */
	struct state_totals totals;
	struct state_stream *streams; /* those in use only */
	size_t count;
};

enum {
	SNAPSHOT_TAKEN = 0,
	SNAPSHOT_FOREIGN = 1, /* not a state at all, or not filled in yet */
	SNAPSHOT_VERSION = 2, /* of another version of the shim */
	SNAPSHOT_BROKEN = 3,  /* sizes that cannot be */
};

/* SNAPSHOT_* or -errno. The snapshot is set only with SNAPSHOT_TAKEN; snapshot_free releases it. */
int snapshot_take(struct snapshot *snapshot, int fd);
void snapshot_free(struct snapshot *snapshot);

#endif
