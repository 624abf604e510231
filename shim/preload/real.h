/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real calls: what the next library in the search order (libc, or another preloaded one) has under the names of
 * calls.x. Until the constructor has run, and where libc lacks a call, an entry points to a stand-in that makes the
 * system call itself, so that a call which comes early (malloc's own start-up, other libraries' constructors) neither
 * finds a NULL nor runs dlsym, which may allocate.
 */
#ifndef SHIM_PRELOAD_REAL_H
#define SHIM_PRELOAD_REAL_H

#include <aio.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

struct real {
#define CALL(type, name, parameters, arguments, raw) type(*name) parameters;
#define LIBC(type, name, parameters, arguments) type(*name) parameters;
#define EXPORT_ONLY(name)
#include "shim/preload/calls.x"
#undef CALL
#undef LIBC
#undef EXPORT_ONLY
};

extern struct real real;

/* Fills the table. Called once, by the constructor. 0, or -ENOSYS: this is no libc we know. */
int real_load(void);

/* Looks up one name behind this library; NULL when there is none. */
void *real_symbol(const char *name);

#endif
