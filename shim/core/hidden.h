/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors of our own in the application's table: high, close-on-exec, and not to be closed by it. */
#ifndef SHIM_CORE_HIDDEN_H
#define SHIM_CORE_HIDDEN_H

/* Moves `fd` to a high number and remembers it as ours. Returns the new number; on failure -errno, and `fd` is closed.
 * A negative `fd` is returned as it is, so that the result of the call that made it can be passed on. */
int hidden_take(int fd);
int hidden_copy(int fd); /* the same, and `fd` stays what it is */
void hidden_close(int fd);

unsigned hidden_top(void); /* no hidden descriptor has this number or a higher one */

/* The application wants the number: moves ours away. Who keeps a hidden number beyond a call tells where. */
int hidden_watch(int *holder); /* *holder holds a hidden number; keep it right when it moves. 0; -ENOMEM: it is not kept right */
void hidden_unwatch(int *holder);
void hidden_evict(int fd);

/* Around fork, before anything else of ours that may hide a descriptor afterwards; _done in parent and child. */
void hidden_fork_prepare(void);
void hidden_fork_done(void);

#endif
