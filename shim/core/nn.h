/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a front end may ask of the core. A front end (shim/preload for libc symbols) catches the application's calls
 * and hands those on tracked descriptors to the functions below; everything else goes straight to the kernel.
 *
 * The core takes what the system call takes and returns what it returns, -errno included. It touches no errno, no
 * stdio, no malloc and no thread-local storage. Functions of type `int` that take a `struct nn_io` answer:
 *
 *   NN_DONE  the core has served the call; io->result is what the system call would return (or -errno)
 *   NN_RAW   the caller makes the real call with the application's own arguments, and hands the outcome (count or
 *            -errno) to nn_raw_done(io, outcome), also when it fails. Between the two the core knows that a real
 *            call is in flight on that direction and will not move it.
 *
 * Signal handlers may call all of this at any point.
 */
#ifndef SHIM_CORE_NN_H
#define SHIM_CORE_NN_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "shim/core/config.h"

enum { NN_DONE = 0, NN_RAW = 1 };

struct nn_stream;

struct nn_io {
	struct nn_stream *stream;
	long result;
	bool sending;
	bool counted; /* a raw call in flight is counted */
};

/* Handlers that have run on a thread, by what they do to its system call: let it go on (SA_RESTART), or end it. */
struct nn_ran {
	uint32_t restarting;
	uint32_t interrupting;
};

/* What is to be undone where the calling thread leaves a call by a jump out of a signal handler, or ends in it. In the frame of the call. */
struct nn_guard {
	void *room[4]; /* the front end's */
	void (*undo)(void *data);
	void *data;
	_Atomic bool done; /* undo has run */
};

/* What the core asks of its front end. */
struct nn_front {
	/* Sleeps as the system calls of the same name do, -errno on failure; may be a cancellation point: then `guard`, which the core has
	 * begun, is undone. */
	long (*ppoll)(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, struct nn_guard *guard);
	long (*epoll_pwait2)(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		const sigset_t *mask, struct nn_guard *guard);
	/* A number of the calling thread, stable, and unique in its PID namespace: its kernel thread id. */
	uint32_t (*self)(void);
	/* CLOCK_MONOTONIC in nanoseconds, without a system call where that is possible. */
	uint64_t (*now)(void);
	/* What the kernel has as the handler of a signal whose runs the front end counts before the program's own handler
	 * runs; and the counts of the calling thread. NULL: it counts none. */
	void (*counting)(int number, siginfo_t *info, void *context);
	struct nn_ran (*ran)(void);
	/* The calling thread is about to sleep for *limit, or no more (NULL): the next handler sets it to 0 before it runs. */
	void (*sleeps)(struct timespec *limit);
	/* Between the two, which may nest, no handler runs on the calling thread, but those of faults of its own; what comes meanwhile
	 * runs at the end. Unlike blocked signals those of the process are not left to other threads. NULL, both: not to be had. */
	void (*keep_handlers)(void);
	void (*let_handlers)(void);
	/* From the one to the other, which nest, guard->undo is called, once, if the thread leaves. NULL, both: not to be had. */
	void (*guard)(struct nn_guard *guard);
	void (*unguard)(struct nn_guard *guard);
};

/* ---- start and end ---------------------------------------------------------------------------------------------- */

/* Makes the tables. Opens no descriptor and starts no thread. -errno: the program must run on plain TCP. */
int nn_start(const struct nn_config *config, const struct nn_front *front);

/* Writes the report, when one is asked for. Nothing is said to peers, nor to other holders of our sockets: until the process
 * has really come to its end other threads use them. Idempotent; called by the front end from its destructor and before
 * _exit, and by nothing else. */
void nn_finish(void);

void nn_guard_undo(void *guard);

/* Address space that the core reserves and mostly never uses: the bounds of the first such range that ends beyond `address`; false: there is none.
 * nn_locks_future: the process locks what is mapped from here on (MCL_FUTURE), but for such ranges. */
bool nn_reserved(uintptr_t address, uintptr_t *begin, uintptr_t *end);
void nn_locks_future(void);

/* ---- look-up ---------------------------------------------------------------------------------------------------- */

enum nn_kind { NN_NONE = 0, NN_STREAM = 1, NN_LISTENER = 2, NN_SET = 3, NN_HIDDEN = 4 };

#define NN_FD_MAX (1u << 20)
#define NN_KIND_SHIFT 28
extern _Atomic uint32_t *nn_fds; /* NN_FD_MAX entries; kind << NN_KIND_SHIFT | index. NULL before nn_start. */

static inline enum nn_kind nn_kind_of(int fd)
{
	if ((unsigned)fd >= NN_FD_MAX || !nn_fds)
		return NN_NONE;
	return (enum nn_kind)(__atomic_load_n((uint32_t *)&nn_fds[fd], __ATOMIC_ACQUIRE) >> NN_KIND_SHIFT);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

/* For descriptors of kind NN_STREAM (for others: NN_RAW at once). `flags` as of recv/send; for read/write 0. */
int nn_recv(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags);
int nn_send(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags);

/* As recvmsg/sendmsg: fill msg_namelen, msg_flags and control data (TCP_INQ). A message with SCM_RIGHTS is the front end's
 * business (see nn_passing) and goes to the kernel. */
int nn_recvmsg(struct nn_io *io, int fd, struct msghdr *msg, int flags);
int nn_sendmsg(struct nn_io *io, int fd, const struct msghdr *msg, int flags);

/* sendfile(2) and splice(2), from or to a stream. */
int nn_sendfile(struct nn_io *io, int out, int in, off_t *offset, size_t count);
int nn_splice(struct nn_io *io, int in, off_t *in_offset, int out, off_t *out_offset, size_t count, unsigned flags);

/* For a guard around any of these calls, and the real call after NN_RAW: `io`, whose stream was NULL before, is left in their midst. */
void nn_abandon(void *io);

/* NN_RAW: the real call has been made; `outcome` is its return value or -errno. Returns what the application gets for it. */
long nn_raw_done(struct nn_io *io, long outcome);

/* ioctl FIONREAD / SIOCOUTQ / SIOCOUTQNSD. NN_DONE: *value set. */
int nn_inq(struct nn_io *io, int fd, int *value);
int nn_outq(struct nn_io *io, int fd, int *value);

/* ---- life of a connection --------------------------------------------------------------------------------------- */

/* Forks begun and ended so far, to be asked before a call that makes a socket: a fork of another thread at that moment gives the
 * socket to its child, whether we know it by then or not. */
uint32_t nn_forks(void);
void nn_made_socket(int fd, int domain, int type, int protocol, uint32_t forks); /* after socket() returned fd */
void nn_listening(int fd);                   /* after listen() succeeded */
void nn_accepted(int listener, int fd, uint32_t forks); /* after accept() returned fd */
void nn_connecting(int fd, const struct sockaddr *address, socklen_t length); /* before connect() */
void nn_dissolved(int fd);                   /* after a connect() to AF_UNSPEC that succeeded */
void nn_connected(int fd, long outcome);     /* after connect(): 0 or -errno (EINPROGRESS counts as begun) */

/* Has there been a connection in this process, or the one that it was forked from? */
bool nn_connections(void);

/* shutdown(2) and close(2), made by the core: returns 0 or -errno. For every kind of descriptor. Closing a hidden one is
 * -EBADF. */
long nn_shutdown(int fd, int how);
long nn_close(int fd);
long nn_close_range(unsigned first, unsigned last, unsigned flags);

/* `fd` is about to be closed or replaced by a call the front end makes itself (dup2 onto it, fclose, ...): the core lets
 * go of it now, telling the peer if this was the last. A hidden descriptor in the way moves elsewhere. */
void nn_let_go(int fd);

void nn_duplicated(int old, int fd); /* after dup, dup2, dup3, F_DUPFD*: both name the same thing now */
void nn_appeared(int fd); /* a number came back from a call that makes descriptors (open, socket, pipe, eventfd, epoll_create,
			   * recvmsg with SCM_RIGHTS...): whatever we knew under it is gone */

void nn_taken(int fd); /* after pidfd_getfd, from any process: it may name what another number of this one does */

/* The connection must stay on, or return to, TCP for good. `reason` from enum nn_reason (state.h). Waits briefly for the
 * peer when unread bytes must come again. */
void nn_stay_tcp(int fd, int reason);

/* Somebody whom no wrapper sees will read from the connection, or send: the direction must be on TCP when this returns, or else the
 * connection is reset. Waits for the peer as long as for a descriptor that is passed away (half a second). */
void nn_unseen(int fd, bool sends);
void nn_flags_changed(int fd); /* after F_SETFL, FIONBIO, FIOASYNC */
void nn_passing(int fd); /* fd is about to be passed by SCM_RIGHTS or shown to another process */

/* After a successful setsockopt, and around getsockopt. nn_getsockopt answers NN_DONE with *value for what the kernel
 * cannot know (SO_ERROR of a reset stream). */
void nn_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int nn_getsockopt(struct nn_io *io, int fd, int level, int option, void *value, socklen_t *length);

/* ---- processes -------------------------------------------------------------------------------------------------- */

void nn_fork_prepare(void);
void nn_fork_parent(bool failed);
void nn_fork_child(void);
bool nn_in_vfork_child(void); /* the address space belongs to a parent that waits: change none of its state but by nn_inheriting */

/* Before exec: streams whose descriptor survives it go down. nn_exec_failed when exec returned. */
void nn_exec(void);
void nn_exec_failed(void);

/* A program that is about to start gets the socket that `fd` names, by a copy or because the number stays: back to TCP, unread
 * bytes included. In the child of vfork, or in its parent before. */
void nn_inheriting(int fd);
void nn_inheriting_any(void); /* nobody knows which */

/* Before posix_spawn, popen, system...: the same for what the new program would inherit while this one lives on. */
void nn_spawning(void);

/* Before the process gives up system calls (seccomp): everything goes back to TCP, and nothing is tracked from here on, so that the calls that
 * are still made are the application's. Not in the child of vfork. */
void nn_confine(void);
extern _Atomic bool nn_confined;
extern _Atomic bool nn_filtered; /* all of that is done, the filter may be in force */

/* A signal's handler has been set or taken away: what blocking calls do after it may be different now. */
void nn_signals_changed(void);

/* ---- readiness -------------------------------------------------------------------------------------------------- */

/* NN_RAW when no descriptor needs the core. `timeout` NULL: for ever. It is not modified. */
int nn_poll(struct nn_io *io, struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
int nn_select(struct nn_io *io, int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
	const sigset_t *mask);

void nn_epoll_created(int epfd);
long nn_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event); /* makes the call; 0 or -errno */
int nn_epoll_wait(struct nn_io *io, int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
	const sigset_t *mask);

#endif
