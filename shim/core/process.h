/* SPDX-License-Identifier: BSD-2-Clause */
/* What there is once in a process: configuration, front end, tables, visible state. */
#ifndef SHIM_CORE_PROCESS_H
#define SHIM_CORE_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "shim/core/config.h"
#include "shim/core/nn.h"
#include "shim/core/state.h"

extern struct nn_config nn_config;
extern struct nn_front nn_front;
extern struct state *nn_state; /* NULL until the first connection */
extern _Atomic bool nn_spawned; /* a vfork, or the like, has been seen */
extern uint32_t nn_space;      /* of our ids: of the pid namespace as many bits as they leave */
extern int nn_pid;             /* of the process whose memory this is; differs from getpid() in a vfork child */

/* Zeroed memory of this process, page-granular, untouched pages cost nothing. NULL when there is none. */
void *process_memory(size_t bytes);
/* The same for a table of which little is ever used (arena_sparse_map), and which stays. */
void *process_table(size_t bytes);

/* How much address space tables may take, and memory shared with peers as much again: under RLIMIT_AS what is mapped here is taken from
 * the application, so a sixteenth of that; else UINT64_MAX. In bytes. */
uint64_t process_allowance(void);

/* Makes nn_state. -errno: no connection can be tracked. */
int process_show_state(void);
/* Around fork: nobody is in the middle of making it. */
void process_fork_prepare(void);
void process_fork_copy(void); /* the state as the child begins with it; the last step before fork */
void process_fork_parent(void);
/* After fork, in the child: a state of its own at the same address. */
void process_renew_state(void);

/* nn_fds. An entry of kind NN_NONE may carry a hint: the number was last seen as a TCP socket that socket() made, when nn_forks() was
 * the number beside it. What has the number now may be something else. */
#define FD_TCP_SOCKET 1u
#define FD_FORKS_SHIFT 1
#define FD_FORKS_MASK ((1u << (NN_KIND_SHIFT - FD_FORKS_SHIFT)) - 1)
static inline uint32_t fd_entry(int fd)
{
	if ((unsigned)fd >= NN_FD_MAX || !nn_fds)
		return 0;
	return atomic_load_explicit(&nn_fds[fd], memory_order_acquire);
}
void fd_set_entry(int fd, enum nn_kind kind, uint32_t index);
void fd_clear(int fd);
int fd_top(void); /* no entry is set at this number or above */

/* Names the calling thread among all that share an end: its thread id, and what tells our pid namespace from others, which give the same
 * ids. Numbers below 2^22 are ids (the kernel's PID_MAX_LIMIT). */
#define ID_BITS 22
static inline uint32_t nn_self(void)
{
	return nn_front.self() | nn_space;
}

/* The process itself, likewise. */
static inline uint32_t nn_own(void)
{
	return (uint32_t)nn_pid | nn_space;
}

/* The pid namespace (an inode), 0 when the kernel does not tell. */
uint64_t process_namespace(void);

#define COUNT(field, n) \
	atomic_store_explicit(&(field), atomic_load_explicit(&(field), memory_order_relaxed) + (n), memory_order_relaxed)
#define COUNT_SHARED(field, n) atomic_fetch_add_explicit(&(field), (n), memory_order_relaxed)

#endif
