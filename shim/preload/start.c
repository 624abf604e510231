/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Start and end. The steps of the start stand in a table, in order; the first that fails ends it, and the process runs on
 * plain TCP: nn_fds stays NULL and every wrapper makes the real call.
 */
#include "shim/preload/preload.h"

#include <linux/auxvec.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "shim/core/hidden.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"
#include "shim/preload/config.h"

/* ---- what the core asks of us --------------------------------------------------------------------------------------- */

static __thread uint32_t self_cached __attribute__((tls_model("initial-exec")));

static uint32_t self(void)
{
	if (!self_cached)
		self_cached = (uint32_t)sys_call0(SYS_gettid);
	return self_cached;
}

void front_forked(void)
{
	self_cached = 0;
}

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* libc's functions, because a thread can be cancelled in them. A caller that succeeds leaves errno as it was. */
#define WAIT(guard, call) \
	({ \
		int saved_ = errno; \
		long outcome_; \
		pthread_cleanup_push(guard_left, guard); \
		outcome_ = (call); \
		pthread_cleanup_pop(0); \
		if (outcome_ < 0) \
			outcome_ = -errno; \
		errno = saved_; \
		outcome_; \
	})

static long wait_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
	struct nn_guard *guard)
{
	return WAIT(guard, real.ppoll(fds, count, timeout, mask));
}

/* In milliseconds, rounded up: a wait may last longer than asked for, never shorter. */
static int to_ms(const struct timespec *timeout)
{
	if (!timeout)
		return -1;
	if (timeout->tv_sec >= INT32_MAX / 1000 - 1)
		return INT32_MAX;
	return (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
}

static long wait_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
	const sigset_t *mask, struct nn_guard *guard)
{
	static _Atomic bool missing; /* older kernels, and sandboxes that have not heard of it */
	if (!missing) {
		long outcome = WAIT(guard, real.epoll_pwait2(epfd, events, max, timeout, mask));
		if (outcome != -ENOSYS && outcome != -EPERM)
			return outcome;
		missing = true;
	}
	return WAIT(guard, real.epoll_pwait(epfd, events, max, to_ms(timeout), mask));
}

static const struct nn_front front = {
	.ppoll = wait_ppoll,
	.epoll_pwait2 = wait_epoll_pwait2,
	.self = self,
	.now = now,
	.counting = signals_counting,
	.ran = signals_of_thread,
	.sleeps = signals_sleeps,
	.keep_handlers = signals_keep,
	.let_handlers = signals_let,
	.guard = guard_set,
	.unguard = guard_unset,
};

/* ---- fork by libc --------------------------------------------------------------------------------------------------- */

/*
 * Handlers run in the parent also when the fork has failed, and are not told. So `prepare`, the last step before the
 * system call, clears errno, and `parent`, the first after it, finds there what the kernel said.
 */
static __thread int fork_errno __attribute__((tls_model("initial-exec")));

static void fork_prepare(void)
{
	nn_fork_prepare();
	fork_errno = errno;
	errno = 0;
}

static void fork_parent(void)
{
	int said = errno;
	nn_fork_parent(said == EAGAIN || said == ENOMEM || said == ENOSYS || said == EPERM);
	if (!said)
		errno = fork_errno;
}

static void fork_child(void)
{
	errno = fork_errno;
	front_forked();
	nn_fork_child();
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

static struct front_config config;

static int refuse_secure(void)
{
	return getauxval(AT_SECURE) ? -EPERM : 0;
}

static int ask_whether(void)
{
	return config_disabled() ? -ECANCELED : 0;
}

static int configure(void)
{
	return config_read(&config, "; staying on TCP");
}

static int start_core(void)
{
	return nn_start(&config.core, &front);
}

#define APPEND (O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

/* The user hears now, not never, of a report that cannot be written. */
static int try_report(void)
{
	if (!config.core.report)
		return 0;
	/* What is there is not opened: who reads from a pipe would see its end when we close it. */
	long outcome = sys_call3(SYS_faccessat, AT_FDCWD, config.core.report, W_OK);
	if (outcome == -ENOENT) {
		outcome = sys_call4(SYS_openat, AT_FDCWD, config.core.report, APPEND, 0666);
		if (outcome >= 0)
			sys_call1(SYS_close, outcome);
	}
	if (outcome < 0)
		config_complain("NOTNETS_REPORT", config.core.report, "cannot be written", "; no report");
	return 0;
}

/* After the core's start: only then are there hidden descriptors. Without the file the log is lost, no more. */
static int open_log(void)
{
	long fd;
	if (config.core.log_level == 0)
		return 0;
	if (config.log_path)
		fd = sys_call4(SYS_openat, AT_FDCWD, config.log_path, APPEND, 0666);
	else
		fd = sys_call3(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0 && config.log_path)
		config_complain("NOTNETS_LOG", getenv("NOTNETS_LOG"), "the file cannot be opened", "; no log");
	nn_config.log_fd = hidden_take((int)fd);
	if (hidden_watch(&nn_config.log_fd) < 0) {
		hidden_close(nn_config.log_fd);
		nn_config.log_fd = -1;
	}
	return 0;
}

/*
 * Handlers of all libraries run between ours, which hold locks that their calls want: so ours are registered before any other. The
 * constructors of the program's libraries run before ours.
 */
static int watch_forks(void)
{
	static _Atomic bool done;
	return atomic_exchange(&done, true) ? 0 : -pthread_atfork(fork_prepare, fork_parent, fork_child);
}

#if !defined(__SANITIZE_THREAD__) /* which calls it before code of its own making can run */
/* What pthread_atfork, a part of each library, calls. */
EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library);
EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library)
{
	watch_forks();
	return real.__register_atfork(prepare, parent, child, library);
}
#endif

static int (*const steps[])(void) = {
	real_load,     /* before anything below can call a wrapper; dlsym may allocate */
	refuse_secure, /* no environment variable steers a program with more rights than its caller */
	ask_whether,
	configure,
	watch_forks,   /* the earlier, the closer to the system call; without nn_fds they do nothing */
	try_report,
	start_core,
	open_log,
};

__attribute__((constructor(101))) static void start(void)
{
	int saved = errno;
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (steps[i]() < 0)
			break;
	errno = saved;
}

__attribute__((destructor(101))) static void end(void)
{
	int saved = errno;
	if (nn_fds && !nn_in_vfork_child())
		nn_finish();
	errno = saved;
}
