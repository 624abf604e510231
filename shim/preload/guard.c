/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread may leave a call without returning from it: cancelled, ended by pthread_exit, or by a handler's siglongjmp. What it holds of the
 * core's must be given back then. The C library keeps a list of what is to be cleaned up for each thread, goes through it in all of these
 * cases, and still exports the functions for it that its headers have given up in favour of the compiler's own way, which a jump
 * does not take. C++ exceptions that a handler throws take only that.
 */
#include "shim/preload/preload.h"

extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *data);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int run);

_Static_assert(sizeof(struct _pthread_cleanup_buffer) <= sizeof(((struct nn_guard *)0)->room), "struct nn_guard");

void guard_set(struct nn_guard *guard)
{
	_pthread_cleanup_push((struct _pthread_cleanup_buffer *)guard->room, nn_guard_undo, guard);
}

void guard_unset(struct nn_guard *guard)
{
	_pthread_cleanup_pop((struct _pthread_cleanup_buffer *)guard->room, 0);
}

void guard_left(void *guard)
{
	nn_guard_undo(guard);
	guard_unset(guard);
}
