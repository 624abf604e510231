/* SPDX-License-Identifier: BSD-2-Clause */
/* Which processes carry the shim, as /proc tells. */
#ifndef SHIM_CMD_PROCESS_H
#define SHIM_CMD_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "shim/cmd/snapshot.h"

struct process {
	pid_t pid; /* as we know it */
	char program[sizeof(((struct snapshot *)0)->program)];
	bool shows; /* it has shown its state, and we can read it: the snapshot is set */
	bool alien; /* its state is of another version */
	bool disabled; /* NOTNETS_DISABLE was set when it started */
	struct snapshot snapshot;
};

struct process_list {
	struct process *processes;
	size_t count;
	size_t not_permitted; /* processes we may not look into */
};

/* Looks at one process, of whatever network namespace, and appends it if it carries the shim. 1: appended, 0: it carries no
 * shim, -errno: -ESRCH no such process, -EACCES not permitted... */
int process_add(struct process_list *list, pid_t pid);

/* Appends all processes of our network namespace that carry the shim, but ourselves, in order of PID. 0 or -errno. */
int process_add_all(struct process_list *list);

void process_list_free(struct process_list *list);

#endif
