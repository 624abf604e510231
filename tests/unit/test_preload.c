/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The wrappers over a core that only takes notes. Linked into this program they stand before libc's functions just as
 * they do when preloaded. The fake serves bytes on tracked descriptors itself (mode SERVE) or sends the wrapper to the
 * kernel (mode RAW); both must look the same to the caller, errno included.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/core/hidden.h"
#include "shim/core/nn.h"
#include "shim/core/process.h"
#include "shim/core/signals.h"
#include "shim/core/sys.h"

extern char **environ;
extern ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
extern int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room);

/* ---- the fake core -------------------------------------------------------------------------------------------------- */

static _Atomic uint32_t table[NN_FD_MAX];
_Atomic uint32_t *nn_fds;
struct nn_config nn_config;
static struct nn_front front;
static int own_pid;
static bool serve;

static struct {
	int raw, raw_done, last_outcome, recv, send, appeared, let_go, duplicated, close, close_range, stay, passing;
	int prepare, parent, failed, child, exec, exec_failed, spawning, inheriting, finish, left, abandoned, waits;
	int signals, confine;
} notes;

static void track(int fd, enum nn_kind kind)
{
	table[fd] = (uint32_t)kind << NN_KIND_SHIFT;
}

static int raw(struct nn_io *io)
{
	notes.raw++;
	io->stream = (struct nn_stream *)&notes;
	return NN_RAW;
}

static int done(struct nn_io *io, long result)
{
	io->result = result;
	return NN_DONE;
}

int nn_start(const struct nn_config *config, const struct nn_front *asked)
{
	(void)config;
	front = *asked;
	own_pid = (int)sys_call0(SYS_getpid);
	nn_fds = table;
	return 0;
}

void nn_finish(void)
{
	notes.finish++;
}

void nn_guard_undo(void *data)
{
	struct nn_guard *guard = data;
	if (!atomic_exchange(&guard->done, true))
		guard->undo(guard->data);
}

static void note_left(void *data)
{
	(void)data;
	notes.left++;
}

void nn_abandon(void *io)
{
	notes.abandoned += ((struct nn_io *)io)->stream != NULL;
}

static long sleep_guarded(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	struct nn_guard guard = {.undo = note_left};
	front.guard(&guard);
	long outcome = front.ppoll(fds, count, timeout, mask, &guard);
	front.unguard(&guard);
	return outcome;
}

long nn_raw_done(struct nn_io *io, long outcome)
{
	assert_ptr_equal(io->stream, &notes);
	notes.raw_done++;
	notes.last_outcome = (int)outcome;
	return outcome;
}

int nn_recv(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	notes.recv++;
	if (!serve)
		return raw(io);
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	if (!(flags & MSG_DONTWAIT)) {
		long outcome = sleep_guarded(&entry, 1, NULL, NULL);
		notes.waits++;
		if (outcome < 0)
			return done(io, outcome);
	}
	return done(io, sys_call3(SYS_recvmsg, fd, &msg, flags));
}

int nn_send(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	notes.send++;
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	return serve ? done(io, sys_call3(SYS_sendmsg, fd, &msg, flags)) : raw(io);
}

int nn_recvmsg(struct nn_io *io, int fd, struct msghdr *msg, int flags)
{
	notes.recv++;
	return serve ? done(io, sys_call3(SYS_recvmsg, fd, msg, flags)) : raw(io);
}

int nn_sendmsg(struct nn_io *io, int fd, const struct msghdr *msg, int flags)
{
	notes.send++;
	return serve ? done(io, sys_call3(SYS_sendmsg, fd, msg, flags)) : raw(io);
}

int nn_sendfile(struct nn_io *io, int out, int in, off_t *offset, size_t count)
{
	return serve ? done(io, sys_call4(SYS_sendfile, out, in, offset, count)) : raw(io);
}

int nn_splice(struct nn_io *io, int in, off_t *in_offset, int out, off_t *out_offset, size_t count, unsigned flags)
{
	(void)in, (void)in_offset, (void)out, (void)out_offset, (void)count, (void)flags;
	return raw(io);
}

int nn_inq(struct nn_io *io, int fd, int *value)
{
	(void)fd;
	*value = 4711;
	return done(io, 0);
}

int nn_outq(struct nn_io *io, int fd, int *value)
{
	return nn_inq(io, fd, value);
}

bool nn_connections(void)
{
	return true;
}

uint32_t nn_forks(void)
{
	return 0;
}

void nn_made_socket(int fd, int domain, int type, int protocol, uint32_t forks)
{
	(void)domain, (void)type, (void)protocol, (void)forks;
	if (fd >= 0 && nn_kind_of(fd) != NN_NONE)
		nn_appeared(fd);
}

void nn_listening(int fd)
{
	(void)fd;
}

void nn_accepted(int listener, int fd, uint32_t forks)
{
	(void)listener, (void)fd, (void)forks;
}

void nn_connecting(int fd, const struct sockaddr *address, socklen_t length)
{
	(void)fd, (void)address, (void)length;
}

bool nn_reserved(uintptr_t address, uintptr_t *begin, uintptr_t *end)
{
	(void)address, (void)begin, (void)end;
	return false;
}

void nn_locks_future(void)
{
}

void nn_dissolved(int fd)
{
	(void)fd;
}

void nn_connected(int fd, long outcome)
{
	(void)fd, (void)outcome;
}

long nn_shutdown(int fd, int how)
{
	return sys_call2(SYS_shutdown, fd, how);
}

long nn_close(int fd)
{
	notes.close++;
	if (nn_kind_of(fd) == NN_HIDDEN)
		return -EBADF;
	track(fd, NN_NONE);
	return sys_call1(SYS_close, fd);
}

long nn_close_range(unsigned first, unsigned last, unsigned flags)
{
	notes.close_range++;
	return sys_call3(SYS_close_range, first, last, flags);
}

void nn_let_go(int fd)
{
	notes.let_go++;
	track(fd, NN_NONE);
}

void nn_duplicated(int old, int fd)
{
	notes.duplicated++;
	table[fd] = table[old];
}

void nn_appeared(int fd)
{
	notes.appeared++;
	track(fd, NN_NONE);
}

void nn_taken(int fd)
{
	nn_appeared(fd);
}

void nn_stay_tcp(int fd, int reason)
{
	(void)fd, (void)reason;
	notes.stay++;
}

void nn_unseen(int fd, bool sends)
{
	(void)fd, (void)sends;
	notes.stay++;
}

void nn_passing(int fd)
{
	(void)fd;
	notes.passing++;
}

void nn_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	(void)fd, (void)level, (void)option, (void)value, (void)length;
}

_Atomic bool nn_spawned, nn_confined;

void nn_confine(void)
{
	notes.confine++;
}

void nn_flags_changed(int fd)
{
	(void)fd;
}

int nn_getsockopt(struct nn_io *io, int fd, int level, int option, void *value, socklen_t *length)
{
	(void)fd, (void)level, (void)option, (void)value, (void)length;
	return raw(io);
}

void nn_fork_prepare(void)
{
	notes.prepare++;
}

void nn_fork_parent(bool failed)
{
	notes.parent++;
	notes.failed += failed;
}

void nn_fork_child(void)
{
	notes.child++;
	own_pid = (int)sys_call0(SYS_getpid);
}

bool nn_in_vfork_child(void)
{
	return sys_call0(SYS_getpid) != own_pid;
}

void nn_exec(void)
{
	notes.exec++;
}

void nn_exec_failed(void)
{
	notes.exec_failed++;
}

void nn_spawning(void)
{
	notes.spawning++;
}

void nn_inheriting(int fd)
{
	(void)fd;
	notes.inheriting++;
}

void nn_inheriting_any(void)
{
	notes.inheriting += 100;
}

static uint64_t silent, real_time;
_Atomic uint64_t signals_changes = 1;

struct signals signals_caught(void)
{
	return (struct signals){.silent = silent, .interrupting = real_time};
}

void nn_signals_changed(void)
{
	notes.signals++;
}

int nn_poll(struct nn_io *io, struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	return serve ? done(io, sleep_guarded(fds, count, timeout, mask)) : raw(io);
}

int nn_select(struct nn_io *io, int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
	const sigset_t *mask)
{
	struct timespec copy = timeout ? *timeout : (struct timespec){0, 0};
	(void)mask;
	if (!serve)
		return raw(io);
	return done(io, sys_call6(SYS_pselect6, count, in, out, except, timeout ? &copy : NULL, NULL));
}

void nn_epoll_created(int epfd)
{
	track(epfd, NN_SET);
}

long nn_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	return sys_call4(SYS_epoll_ctl, epfd, op, fd, event);
}

int nn_epoll_wait(struct nn_io *io, int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
	const sigset_t *mask)
{
	return serve ? done(io, front.epoll_pwait2(epfd, events, max, timeout, mask, NULL)) : raw(io);
}

int hidden_take(int fd)
{
	return fd;
}

void hidden_close(int fd)
{
	(void)fd;
}

int hidden_watch(int *holder)
{
	(void)holder;
	return 0;
}

int arena_backend_parse(const char *text, struct arena_backend *backend)
{
	(void)text, (void)backend;
	return 0;
}

/* ---- a tracked pair of sockets -------------------------------------------------------------------------------------- */

static int here, there; /* `here` is tracked */

static int setup(void **state)
{
	int fds[2];
	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		return -1;
	here = fds[0];
	there = fds[1];
	track(here, NN_STREAM);
	memset(&notes, 0, sizeof notes);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	track(here, NN_NONE);
	close(here);
	close(there);
	return 0;
}

/* Runs a check with the kernel serving and with the core serving. */
#define BOTH_WAYS(check) \
	static void check##_raw(void **state) \
	{ \
		serve = false; \
		check(state); \
		assert_int_equal(notes.raw, notes.raw_done + notes.abandoned); \
	} \
	static void check##_served(void **state) \
	{ \
		serve = true; \
		check(state); \
		assert_int_equal(notes.raw, notes.raw_done + notes.abandoned); \
	}

static void bytes_move(void **state)
{
	char got[16] = "";
	struct iovec halves[2] = {{got, 2}, {got + 2, 2}};
	struct sockaddr_storage address;
	socklen_t length = sizeof address;
	(void)state;
	errno = 77;
	assert_int_equal(write(here, "abcd", 4), 4);
	assert_int_equal(write(there, "efghijklmnop", 12), 12);
	assert_int_equal(readv(here, halves, 2), 4);
	assert_memory_equal(got, "efgh", 4);
	assert_int_equal(recvfrom(here, got, 2, 0, (struct sockaddr *)&address, &length), 2);
	assert_int_equal(length, 0);
	assert_int_equal(preadv2(here, halves, 1, -1, 0), 2);
	assert_memory_equal(got, "kl", 2);
	assert_int_equal(__read_chk(here, got, 2, sizeof got), 2);
	assert_int_equal(syscall(SYS_read, here, got, 2), 2);
	assert_memory_equal(got, "op", 2);
	assert_int_equal(errno, 77);
	assert_int_equal(recv(here, got, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(notes.recv, 6);
	assert_int_equal(notes.send, 1);
}
BOTH_WAYS(bytes_move)

static void many_messages(void **state)
{
	char got[3][4];
	struct iovec iov[3] = {{got[0], 2}, {got[1], 2}, {got[2], 2}};
	struct mmsghdr msgs[3];
	(void)state;
	for (int i = 0; i < 3; i++)
		msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
	assert_int_equal(write(there, "abc", 3), 3);
	errno = 77;
	assert_int_equal(recvmmsg(here, msgs, 3, MSG_WAITFORONE, NULL), 2);
	assert_int_equal(errno, 77);
	assert_int_equal(msgs[0].msg_len, 2);
	assert_int_equal(msgs[1].msg_len, 1);
	assert_int_equal(recvmmsg(here, msgs, 3, MSG_DONTWAIT, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(sendmmsg(here, msgs, 3, 0), 3);
	struct timespec none = {0, 0};
	assert_int_equal(write(there, "abcdef", 6), 6);
	assert_int_equal(recvmmsg(here, msgs, 3, 0, &none), 1);
}
BOTH_WAYS(many_messages)

static void on_alarm(int number)
{
	(void)number;
}

static void interrupted(void **state)
{
	char got;
	struct sigaction action = {.sa_handler = on_alarm};
	(void)state;
	sigaction(SIGALRM, &action, NULL);
	ualarm(20000, 0);
	assert_int_equal(recv(here, &got, 1, 0), -1);
	assert_int_equal(errno, EINTR);
}
BOTH_WAYS(interrupted)

static void *receive_for_ever(void *argument)
{
	char got;
	recv(here, &got, 1, 0);
	return argument;
}

static void cancelled(void **state)
{
	pthread_t thread;
	void *result;
	(void)state;
	pthread_create(&thread, NULL, receive_for_ever, NULL);
	usleep(20000);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_int_equal(notes.left, serve);
	assert_int_equal(notes.abandoned, !serve);
}
BOTH_WAYS(cancelled)

static sigjmp_buf out_of_call;

static void jump_out(int number)
{
	(void)number;
	siglongjmp(out_of_call, 1);
}

/* The idiom of a time limit by SIGALRM. */
static void left_by_a_jump(void **state)
{
	struct sigaction action = {.sa_handler = jump_out};
	char got;
	(void)state;
	sigaction(SIGALRM, &action, NULL);
	if (!sigsetjmp(out_of_call, 1)) {
		ualarm(20000, 0);
		recv(here, &got, 1, 0);
		fail();
	}
	signal(SIGALRM, SIG_DFL);
	assert_int_equal(notes.left, serve);
	assert_int_equal(notes.abandoned, !serve);
}
BOTH_WAYS(left_by_a_jump)

static void readiness(void **state)
{
	struct pollfd entry = {.fd = here, .events = POLLIN};
	struct timeval span = {0, 20000};
	struct epoll_event event = {.events = EPOLLIN};
	fd_set set;
	(void)state;
	assert_int_equal(__poll_chk(&entry, 1, 0, sizeof entry), 0);
	FD_ZERO(&set);
	FD_SET(here, &set);
	assert_int_equal(select(here + 1, &set, NULL, NULL, &span), 0);
	assert_int_equal(span.tv_sec, 0);
	assert_int_equal(span.tv_usec, 0);
	span.tv_sec = 5;
	assert_int_equal(write(there, "a", 1), 1);
	FD_SET(here, &set);
	assert_int_equal(select(here + 1, &set, NULL, NULL, &span), 1);
	assert_true(span.tv_sec == 4 || (span.tv_sec == 5 && span.tv_usec == 0));
	assert_int_equal(poll(&entry, 1, -1), 1);
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(nn_kind_of(epfd), NN_SET);
	assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_ADD, here, &event), 0);
	assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_ADD, here, &event), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(epoll_wait(epfd, &event, 1, -1), 1);
	uint64_t kernel_mask = 0;
	assert_int_equal(syscall(SYS_epoll_pwait, epfd, &event, 1, 0, &kernel_mask, 8), 1);
	close(epfd);
}
BOTH_WAYS(readiness)

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static void copies(void **state)
{
	(void)state;
	int copy = dup(here);
	assert_int_equal(nn_kind_of(copy), NN_STREAM);
	int other = open("/dev/null", O_RDONLY);
	assert_int_equal(dup2(-1, copy), -1); /* fails: the target stays */
	assert_int_equal(errno, EBADF);
	assert_int_equal(notes.let_go, 0);
	assert_int_equal(dup2(copy, copy), copy);
	assert_int_equal(dup3(copy, copy, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(notes.let_go, 0);
	assert_int_equal(dup2(other, copy), copy);
	assert_int_equal(notes.let_go, 1);
	assert_int_equal(nn_kind_of(copy), NN_NONE);
	int high = fcntl(here, F_DUPFD_CLOEXEC, 100);
	assert_true(high >= 100);
	assert_int_equal(nn_kind_of(high), NN_STREAM);
	assert_int_equal(fcntl(high, F_GETFD), FD_CLOEXEC);
	assert_int_equal(close(high), 0);
	assert_int_equal(syscall(SYS_close, copy), 0);
	assert_int_equal(close(other), 0);
	assert_int_equal(notes.close, 1);
}

static void stale_number(void **state)
{
	(void)state;
	int fd = open("/dev/null", O_RDONLY);
	track(fd, NN_STREAM);
	sys_call1(SYS_close, fd);
	assert_int_equal(open("/dev/null", O_RDONLY), fd);
	assert_int_equal(notes.appeared, 1);
	assert_int_equal(nn_kind_of(fd), NN_NONE);
	close(fd);
}

static void control(void **state)
{
	int value = 0;
	(void)state;
	assert_int_equal(ioctl(here, FIONREAD, &value), 0);
	assert_int_equal(value, 4711);
	assert_int_equal(fcntl(here, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(here, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(notes.stay, 0);
}

/* A FILE of a stream goes through the wrappers and closes through the core, and is as true as libc's. */
static void files(void **state)
{
	(void)state;
	errno = 0;
	assert_null(fdopen(here, "x"));
	assert_int_equal(errno, EINVAL);
	FILE *file = fdopen(here, "rb+");
	assert_non_null(file);
	assert_int_equal(notes.stay, 0);
	assert_int_equal(fileno(file), here);
	assert_int_equal(fprintf(file, "%d\n", 42), 3);
	assert_int_equal(notes.send, 0);
	assert_int_equal(fflush(file), 0);
	assert_int_equal(notes.send, 1);
	char line[8];
	assert_int_equal(read(there, line, sizeof line), 3);
	assert_int_equal(write(there, "ab\ncd\n", 6), 6);
	assert_string_equal(fgets(line, sizeof line, file), "ab\n");
	assert_int_equal(ungetc('x', file), 'x');
	assert_string_equal(fgets(line, sizeof line, file), "xcd\n");
	assert_int_equal(ftell(file), -1);
	assert_int_equal(errno, ESPIPE);
	assert_int_equal(fputs("x", file), 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(notes.close, 1);
	assert_int_equal(notes.let_go, 0);
	assert_int_equal(read(there, line, 2), 1);
	assert_int_equal(read(there, line, 2), 0);
}

static void files_are_reopened(void **state)
{
	(void)state;
	FILE *file = fdopen(here, "w");
	fputs("x", file);
	assert_ptr_equal(freopen("/dev/null", "r", file), file);
	assert_int_equal(fileno(file), here);
	assert_int_equal(notes.let_go, 1);
	char got[2];
	assert_int_equal(read(there, got, 2), 1);
	assert_int_equal(read(there, got, 2), 0);
	assert_int_equal(fgetc(file), EOF);
	assert_int_equal(fclose(file), 0);
}

static void printing(void **state)
{
	char got[4096];
	(void)state;
	assert_int_equal(dprintf(here, "%s %d", "text", 7), 6);
	assert_int_equal(read(there, got, sizeof got), 6);
	assert_memory_equal(got, "text 7", 6);
	assert_int_equal(dprintf(here, "%3000d", 7), 3000);
	assert_int_equal(read(there, got, sizeof got), 3000);
	assert_int_equal(notes.stay, 0);
}

static void handlers(void **state)
{
	struct sigaction action = {.sa_handler = SIG_IGN};
	(void)state;
	notes.signals = 0; /* cmocka sets some itself */
	assert_int_equal(sigaction(SIGUSR1, NULL, &action), 0);
	assert_int_equal(sigaction(SIGKILL, &action, NULL), -1);
	assert_int_equal(notes.signals, 0);
	action.sa_handler = SIG_IGN;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	int before = notes.signals;
	assert_int_not_equal(before, 0);
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), SIG_IGN);
	assert_true(notes.signals > before);
}

static siginfo_t got_info;
static volatile sig_atomic_t got_number;

static void on_signal(int number)
{
	got_number = number;
}

static void on_signal_too(int number, siginfo_t *info, void *context)
{
	got_number = context ? number : 0;
	got_info = *info;
}

/* The thread sanitizer has handlers of its own in the kernel, and hands signals on when it sees fit. */
#if defined(__SANITIZE_THREAD__)
#define needs_own_signals() skip()
#else
#define needs_own_signals() ((void)0)
#endif

/* What the program sets is what it is told; what the kernel has is ours, which counts and goes on to it. */
static void handlers_are_counted(void **state)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
	struct {
		void (*handler)(int, siginfo_t *, void *);
		unsigned long flags;
		void *more[2];
	} kernel = {0};
	struct nn_ran began = front.ran();
	(void)state;
	needs_own_signals();
	assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_DFL);
	sys_call4(SYS_rt_sigaction, SIGUSR1, NULL, &kernel, 8);
	assert_ptr_equal(kernel.handler, front.counting);
	assert_int_equal(sigaction(SIGUSR1, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, on_signal);
	assert_true(old.sa_flags & SA_RESTART);
	raise(SIGUSR1);
	assert_int_equal(got_number, SIGUSR1);
	assert_int_equal(front.ran().restarting, began.restarting + 1);
	assert_int_equal(front.ran().interrupting, began.interrupting);

	/* The first that runs ends the sleep that has been announced, and no other. */
	struct timespec limit = {1, 1};
	front.sleeps(&limit);
	raise(SIGUSR1);
	assert_true(!limit.tv_sec && !limit.tv_nsec);
	limit.tv_sec = 1;
	raise(SIGUSR1);
	assert_int_equal(limit.tv_sec, 1);
	began.restarting += 2;

	action = (struct sigaction){.sa_sigaction = on_signal_too, .sa_flags = SA_SIGINFO};
	assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
	assert_ptr_equal(old.sa_handler, on_signal);
	assert_int_equal(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42}), 0);
	assert_int_equal(got_info.si_value.sival_int, 42);
	assert_int_equal(front.ran().interrupting, began.interrupting + 1);

	assert_ptr_equal(signal(SIGUSR1, on_signal), on_signal_too);
	raise(SIGUSR1);
	assert_int_equal(front.ran().restarting, began.restarting + 2);
	assert_ptr_equal(sysv_signal(SIGUSR1, on_signal), on_signal);
	raise(SIGUSR1);
	assert_int_equal(front.ran().interrupting, began.interrupting + 2);
	assert_ptr_equal(signal(SIGUSR1, on_signal), SIG_DFL); /* as the first run leaves it there */

	/* What the program did not ask for it does not see. */
	for (int siginfo = 0; siginfo <= SA_SIGINFO; siginfo += SA_SIGINFO) {
		action = (struct sigaction){.sa_sigaction = on_signal_too, .sa_flags = siginfo | SA_NODEFER};
		assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
		siginterrupt(SIGUSR1, 0);
#pragma GCC diagnostic pop
		assert_int_equal(sigaction(SIGUSR1, NULL, &old), 0);
		assert_int_equal(old.sa_flags & ~0x04000000, siginfo | SA_NODEFER | SA_RESTART); /* without SA_RESTORER */
		assert_int_equal(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &kernel, 8), 0);
		assert_int_equal(kernel.flags & SA_SIGINFO, siginfo);
	}
	assert_ptr_equal(signal(SIGUSR1, on_signal), on_signal_too);

	/* One that fails changes nothing. */
	assert_ptr_equal(signal(SIGKILL, on_signal), SIG_ERR);
	assert_int_equal(errno, EINVAL);
	assert_ptr_equal(signal(65, on_signal), SIG_ERR);
	assert_int_equal(sigaction(-1, &action, NULL), -1);

	/* A child of vfork writes into its parent's memory, but has handlers of its own. */
	pid_t child = vfork();
	if (child == 0)
		_exit(signal(SIGUSR1, SIG_DFL) != on_signal);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	got_number = 0;
	raise(SIGUSR1);
	assert_int_equal(got_number, SIGUSR1);

	/* The system call tells no more than libc does. */
	assert_int_equal(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &kernel, 8), 0);
	assert_ptr_equal(kernel.handler, on_signal);

	/* One that the program sets past us is answered as it is. */
	kernel.handler = (void *)on_signal_too;
	kernel.flags |= SA_SIGINFO;
	assert_int_equal(sys_call4(SYS_rt_sigaction, SIGUSR1, &kernel, NULL, 8), 0);
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), on_signal_too);
	assert_ptr_equal(signal(SIGUSR1, SIG_IGN), SIG_DFL);
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), SIG_IGN);
	sigset_t mask;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
}

/* In a stretch without handlers none runs, and none goes to another thread; at its end all do, with all that came with them. */
static void handlers_wait(void **state)
{
	struct sigaction action = {.sa_sigaction = on_signal_too, .sa_flags = SA_SIGINFO};
	sigset_t mask;
	(void)state;
	needs_own_signals();
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	action = (struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
	assert_int_equal(sigaction(SIGUSR2, &action, NULL), 0);
	got_number = 0;
	got_info.si_value.sival_int = 0;
	front.keep_handlers();
	front.keep_handlers();
	assert_int_equal(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42}), 0);
	assert_int_equal(kill(getpid(), SIGUSR2), 0);
	front.let_handlers();
	assert_int_equal(got_number, 0);
	front.let_handlers();
	assert_int_not_equal(got_number, 0);
	assert_int_equal(got_info.si_value.sival_int, 42);
	assert_int_equal(got_info.si_pid, getpid());
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
	assert_ptr_equal(signal(SIGUSR2, SIG_DFL), SIG_DFL); /* it has run, once */

	front.keep_handlers();
	got_number = 0;
	raise(SIGUSR1);
	front.let_handlers();
	assert_int_equal(got_number, SIGUSR1);
	silent = 1; /* handlers that nobody counts: signals are blocked, */
	signals_changes++;
	front.keep_handlers();
	got_number = 0;
	raise(SIGUSR1);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigismember(&mask, SIGUSR1));
	assert_false(sigismember(&mask, SIGSEGV));
	front.keep_handlers();
	front.let_handlers();
	assert_int_equal(got_number, 0);
	front.let_handlers();
	assert_int_equal(got_number, SIGUSR1);
	silent = 1ull << (SIGSEGV - 1); /* but for faults */
	signals_changes++;
	front.keep_handlers();
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
	front.let_handlers();
	silent = 0;
	signals_changes++;
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), on_signal_too);
}

static int queued[8], queued_count;

static void on_queued(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	if (queued_count < 8)
		queued[queued_count++] = info->si_value.sival_int;
}

/* Real-time signals queue: each comes, in its order. The number of a fault that somebody sends is no fault, and spoils no mask. */
static void more_handlers_wait(void **state)
{
	struct sigaction action = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO};
	sigset_t mask;
	(void)state;
	needs_own_signals();
	assert_int_equal(sigaction(SIGRTMIN, &action, NULL), 0);
	real_time = 1ull << (SIGRTMIN - 1);
	signals_changes++;
	queued_count = 0;
	front.keep_handlers();
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_sigqueue(pthread_self(), SIGRTMIN, (union sigval){.sival_int = i}), 0);
	assert_int_equal(queued_count, 0);
	front.let_handlers();
	assert_int_equal(queued_count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(queued[i], i);
	real_time = 0;
	signals_changes++;
	signal(SIGRTMIN, SIG_DFL);

	signal(SIGUSR1, on_signal);
	signal(SIGTRAP, on_signal);
	front.keep_handlers();
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGTRAP);
	got_number = 0;
	front.let_handlers();
	assert_int_not_equal(got_number, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
	signal(SIGUSR1, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
}

static sigjmp_buf after_fault;
static volatile sig_atomic_t leave_by_jump;
static void *faulty;

static void on_fault(int number)
{
	(void)number;
	raise(SIGUSR1); /* runs at once: who knows whether the stretch goes on */
	mprotect(faulty, 1, PROT_READ | PROT_WRITE);
	if (leave_by_jump)
		siglongjmp(after_fault, 1);
}

/* A copy of the program's memory may meet a fault. Its handler is no part of the stretch, and may never return to it. */
static void faults_in_a_stretch(void **state)
{
	struct sigaction action = {.sa_sigaction = on_signal_too, .sa_flags = SA_SIGINFO};
	sigset_t mask;
	(void)state;
	needs_own_signals();
	faulty = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	action = (struct sigaction){.sa_handler = on_fault};
	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
	for (int held = 0; held < 2; held++) { /* with a signal that has come before, and without */
		leave_by_jump = 0;
		got_number = 0;
		front.keep_handlers();
		if (held)
			raise(SIGUSR1);
		assert_int_equal(got_number, 0);
		mprotect(faulty, 1, PROT_NONE);
		*(volatile char *)faulty = 1;
		assert_int_equal(got_number, SIGUSR1);
		got_number = 0;
		raise(SIGUSR1);
		assert_int_equal(got_number, 0); /* again in the stretch */
		front.let_handlers();
		assert_int_equal(got_number, SIGUSR1);

		leave_by_jump = 1;
		front.keep_handlers();
		if (held)
			raise(SIGUSR1);
		mprotect(faulty, 1, PROT_NONE);
		if (!sigsetjmp(after_fault, 0))
			*(volatile char *)faulty = 1;
		got_number = 0;
		raise(SIGUSR1);
		assert_int_equal(got_number, SIGUSR1); /* not any more */
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		assert_false(sigismember(&mask, SIGUSR1));
		sigemptyset(&mask);
		sigaddset(&mask, SIGSEGV); /* left by a jump that restores no mask */
		pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	}
	munmap(faulty, 4096);
	signal(SIGSEGV, SIG_DFL);
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), on_signal_too);
}

static void rights(void **state)
{
	int pair[2];
	union {
		char room[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr header;
	} control_data = {.header = {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control_data,
		.msg_controllen = sizeof control_data};
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	memcpy(CMSG_DATA(&control_data.header), (int[]){here, there}, 2 * sizeof(int));
	assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
	assert_int_equal(notes.passing, 1);
	track(pair[1] + 1, NN_STREAM); /* as if closed behind our back */
	assert_int_equal(recvmsg(pair[1], &msg, 0), 1);
	assert_int_equal(notes.appeared, 1);
	int got[2];
	memcpy(got, CMSG_DATA(&control_data.header), sizeof got);
	for (int i = 0; i < 2; i++) {
		close(got[i]);
		close(pair[i]);
	}
}

/* ---- processes ------------------------------------------------------------------------------------------------------ */

/* Ends a child: 0 when prepare and child ran once and the thread's number is its own. */
static void end_child(void)
{
	bool good = notes.prepare == 1 && notes.child == 1 && notes.parent == 0 && front.self() == (uint32_t)getpid();
	sys_call1(SYS_exit_group, good ? 0 : 1);
}

static void child_was_good(pid_t pid)
{
	int status = -1;
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(notes.prepare, 1);
	assert_int_equal(notes.parent, 1);
	assert_int_equal(notes.failed, 0);
	assert_int_equal(notes.child, 0);
	assert_int_equal(front.self(), gettid());
	memset(&notes, 0, sizeof notes);
}

static int cloned(void *argument)
{
	(void)argument;
	end_child();
	return 1;
}

static void every_fork_once(void **state)
{
	static _Alignas(16) char stack[65536];
	pid_t pid;
	(void)state;
	front.self();
	if ((pid = fork()) == 0)
		end_child();
	child_was_good(pid);
	if ((pid = _Fork()) == 0)
		end_child();
	child_was_good(pid);
	if ((pid = (pid_t)syscall(SYS_fork)) == 0)
		end_child();
	child_was_good(pid);
	if ((pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL)) == 0)
		end_child();
	child_was_good(pid);
	child_was_good(clone(cloned, stack + sizeof stack, SIGCHLD, NULL));
}

/* Root may fork beyond RLIMIT_NPROC: the child that tries gives that up. */
static void failed_fork(void **state)
{
	int status;
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};
		int bad = 0;
		memset(&notes, 0, sizeof notes);
		if (getuid() == 0 && setresuid(65534, 65534, 65534))
			bad = 77;
		setrlimit(RLIMIT_NPROC, &none);
		if (!bad && (fork() != -1 || errno != EAGAIN || notes.failed != 1 || notes.parent != 1))
			bad = 1;
		sys_call1(SYS_exit_group, bad);
	}
	waitpid(pid, &status, 0);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

/* The child of vfork changes its own descriptors, and nothing that its parent knows. */
static void vfork_child(void **state)
{
	int status;
#if defined(__SANITIZE_THREAD__)
	skip(); /* which makes a fork of it */
#endif
	(void)state;
	int low = dup(here);
	memset(&notes, 0, sizeof notes);
	pid_t pid = vfork();
	if (pid == 0) {
		close(low);
		dup2(here, 100);
		fcntl(here, F_SETFD, FD_CLOEXEC);
		fcntl(here, F_SETFD, 0);
		ioctl(here, FIONCLEX);
		dup2(there, here);
		open("/dev/null", O_RDONLY); /* takes the number `low` */
		execl("/nonexistent", "x", (char *)NULL);
		_exit(errno == ENOENT ? 5 : 6);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 5);
	assert_int_equal(notes.spawning, 1);
	assert_int_equal(notes.inheriting, 3 + (nn_kind_of(there) == NN_STREAM));
	assert_int_equal(notes.close + notes.let_go + notes.duplicated + notes.appeared + notes.exec + notes.finish, 0);
	assert_int_equal(nn_kind_of(low), NN_STREAM);
	assert_int_equal(nn_kind_of(here), NN_STREAM);
	assert_int_equal(close(low), 0);
}

static void other_programs(void **state)
{
	char *const argv[] = {(char *)"true", NULL};
	pid_t pid;
	int status;
	(void)state;
	assert_int_equal(execv("/nonexistent", argv), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(notes.exec, 1);
	assert_int_equal(notes.exec_failed, 1);
	assert_int_equal(posix_spawnp(&pid, "true", NULL, NULL, argv, environ), 0);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(system("exit 3"), 3 << 8);
	assert_int_equal(pclose(popen("true", "r")), 0);
	assert_int_equal(notes.spawning, 3);
	if ((pid = fork()) == 0)
		execl("/bin/sh", "sh", "-c", "exit $0", "9", (char *)NULL);
	waitpid(pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 9);
	assert_int_equal(syscall(SYS_io_uring_setup, 1, NULL), -1);
	assert_int_equal(errno, ENOSYS);
}

/* What file actions copy goes back to TCP before, as nobody sees them done. */
static void file_actions(void **state)
{
	char *const argv[] = {(char *)"true", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status;
	(void)state;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 100, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, 100, 101);
	assert_int_equal(posix_spawnp(&pid, "true", &actions, NULL, argv, environ), 0);
	waitpid(pid, &status, 0);
	assert_int_equal(notes.inheriting, 0);
	posix_spawn_file_actions_adddup2(&actions, here, 102);
	posix_spawn_file_actions_addclose(&actions, here);
	posix_spawn_file_actions_addopen(&actions, here, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, here, 103); /* something else by now */
	assert_int_equal(posix_spawn(&pid, "/bin/true", &actions, NULL, argv, environ), 0);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(notes.inheriting, 1);
	posix_spawn_file_actions_destroy(&actions);
}

/* Calls of a newer libc than this one may be. */
int pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
	char *const argv[], char *const envp[]);

static void newer_calls(void **state)
{
	char *const argv[] = {(char *)"true", NULL};
	int fd = -1;
	(void)state;
	int error = pidfd_spawnp(&fd, "true", NULL, NULL, argv, environ);
	assert_int_equal(error, dlsym(RTLD_NEXT, "pidfd_spawnp") ? 0 : ENOSYS);
	assert_int_equal(notes.spawning, 1);
	if (!error) {
		waitid(P_PIDFD, (id_t)fd, NULL, WEXITED);
		close(fd);
	}
}

/* Asking what the kernel knows of filters is none. */
static void confining(void **state)
{
	struct {
		unsigned short length;
		void *filter;
	} empty = {0, NULL};
	(void)state;
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL), -1);
	assert_int_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(notes.confine, 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &empty), -1);
	assert_int_equal(notes.confine, 1);
	assert_int_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &empty), -1);
	assert_int_equal(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &empty), -1);
	assert_int_equal(notes.confine, 3);
	assert_int_equal(prctl(PR_GET_DUMPABLE), syscall(SYS_prctl, PR_GET_DUMPABLE));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_BOTH(name) TEST(name##_raw), TEST(name##_served)
	const struct CMUnitTest tests[] = {
		TEST_BOTH(bytes_move),
		TEST_BOTH(many_messages),
		TEST_BOTH(interrupted),
		TEST_BOTH(cancelled),
		TEST_BOTH(left_by_a_jump),
		TEST_BOTH(readiness),
		TEST(copies),
		TEST(stale_number),
		TEST(control),
		TEST(files),
		TEST(files_are_reopened),
		TEST(printing),
		TEST(handlers),
		TEST(handlers_are_counted),
		TEST(handlers_wait),
		TEST(more_handlers_wait),
		TEST(faults_in_a_stretch),
		TEST(rights),
		TEST(every_fork_once),
		TEST(failed_fork),
		TEST(vfork_child),
		TEST(other_programs),
		TEST(file_actions),
		TEST(newer_calls),
		TEST(confining),
	};
	return cmocka_run_group_tests_name("preload", tests, NULL, NULL);
}
