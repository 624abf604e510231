/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Start-up and the process-wide tables. nn_start runs in the front end's constructor and only reserves address space: a
 * program that never opens a TCP connection gets no descriptor and no page touched.
 */
#include "shim/core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "shim/core/hidden.h"
#include "shim/core/lock.h"
#include "shim/core/report.h"
#include "shim/core/stream.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"

#define TABLES (256u << 20) /* about what all tables reserve, those made later included */

struct nn_config nn_config = {.log_fd = -1};
struct nn_front nn_front;
struct state *nn_state;
int nn_pid;
_Atomic uint32_t *nn_fds;
_Atomic bool nn_spawned;

static _Atomic int top_fd;
static int state_fd = -1;
static _Atomic uint32_t finished;
static _Atomic uint32_t state_lock;

void *process_memory(size_t bytes)
{
	void *memory = (void *)sys_call6(
		SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return sys_failed(memory) ? NULL : memory;
}

void *process_table(size_t bytes)
{
	void *memory;
	return arena_sparse_map(&memory, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) < 0 ? NULL : memory;
}

bool nn_reserved(uintptr_t address, uintptr_t *begin, uintptr_t *end)
{
	return arena_sparse_next(address, begin, end);
}

void nn_locks_future(void)
{
	atomic_store(&arena_sparse_locking, true);
}

uint64_t process_allowance(void)
{
	struct rlimit limit;
	if (sys_call4(SYS_prlimit64, 0, RLIMIT_AS, NULL, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur / 16;
}

uint64_t process_namespace(void)
{
	/* A call that every program makes when it starts: no filter forbids it. */
	struct stat facts;
	if (nn_confined || sys_call4(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &facts, 0) < 0)
		return 0;
	return facts.st_ino;
}

/* Who we are to the kernel and to those who share an end. */
static void know_oneself(void)
{
	nn_pid = (int)sys_call0(SYS_getpid);
	/* Where the kernel does not tell (no /proc), it is taken for our parent's. */
	uint64_t namespace = nn_confined ? 0 : process_namespace();
	if (namespace)
		nn_space = (uint32_t)namespace << ID_BITS;
}

static uint64_t now_by_call(void)
{
	struct timespec now;
	sys_call2(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int nn_start(const struct nn_config *config, const struct nn_front *front)
{
	nn_config = *config;
	nn_front = *front;
	if (!nn_front.now)
		nn_front.now = now_by_call;
	know_oneself();
	if (process_allowance() < TABLES)
		return -ENOMEM;
	arena_handlers = (struct arena_handlers){front->keep_handlers, front->let_handlers};
	int outcome = streams_start();
	if (outcome < 0)
		return outcome;
	void *table = process_table(NN_FD_MAX * sizeof *nn_fds);
	if (!table)
		return -ENOMEM;
	nn_fds = table; /* from here on descriptors are tracked */
	return 0;
}

void fd_set_entry(int fd, enum nn_kind kind, uint32_t index)
{
	if ((unsigned)fd >= NN_FD_MAX || !nn_fds)
		return;
	atomic_store_explicit(&nn_fds[fd], (uint32_t)kind << NN_KIND_SHIFT | index, memory_order_release);
	if (kind == NN_HIDDEN)
		return; /* hidden.c keeps its own list: they sit at the very top */
	int top = atomic_load(&top_fd);
	while (fd >= top && !atomic_compare_exchange_weak(&top_fd, &top, fd + 1))
		;
}

void fd_clear(int fd)
{
	if ((unsigned)fd < NN_FD_MAX && nn_fds)
		atomic_store_explicit(&nn_fds[fd], 0, memory_order_release);
}

int fd_top(void)
{
	return atomic_load(&top_fd);
}

static void name_program(char *name, size_t size)
{
	memset(name, 0, size);
	long fd = sys_call4(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	long length = sys_call3(SYS_read, fd, name, size - 1);
	sys_call1(SYS_close, fd);
	for (long i = 0; i < length; i++)
		if (name[i] == '\n')
			name[i] = 0;
}

/* A fresh memfd mapped at `where` (NULL: anywhere). */
static int map_state(void *where, struct state **state)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	sys_call4(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit);
	if (limit.rlim_cur < sizeof **state)
		return -EFBIG; /* ftruncate would raise SIGXFSZ */
	int fd = (int)sys_call2(SYS_memfd_create, STATE_NAME, MFD_CLOEXEC);
	if (fd < 0)
		return fd;
	fd = hidden_take(fd);
	if (fd < 0)
		return fd;
	long outcome = sys_call2(SYS_ftruncate, fd, sizeof **state);
	if (outcome >= 0) {
		void *at = where;
		if (where) {
			outcome = sys_call6(SYS_mmap, where, sizeof **state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
			outcome = sys_failed((void *)outcome) ? outcome : 0;
		} else {
			outcome = arena_sparse_map(&at, sizeof **state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
		}
		if (outcome == 0) {
			*state = at;
			return fd;
		}
	}
	hidden_close(fd);
	return (int)outcome;
}

int process_show_state(void)
{
	if (nn_state)
		return 0;
	/* A thread that is at it takes a few system calls; a signal handler that interrupted the very thread does not wait for
	 * itself for ever: its connection goes untracked. */
	enum lock_outcome lock = lock_take(&state_lock, nn_self());
	if (lock == LOCK_NESTED)
		return -EAGAIN;
	int outcome = 0;
	if (!nn_state) {
		struct state *state = NULL;
		outcome = map_state(NULL, &state);
		if (state) {
			state_fd = outcome;
			state->version = STATE_VERSION;
			state->pid = (uint32_t)nn_pid;
			state->stream_size = sizeof(struct state_stream);
			name_program(state->program, sizeof state->program);
			atomic_store_explicit(&state->magic, STATE_MAGIC, memory_order_release);
			nn_state = state;
			outcome = 0;
		}
	}
	lock_drop(&state_lock, lock);
	return outcome;
}

bool nn_connections(void)
{
	return nn_state;
}

static bool state_interrupted; /* under state_lock: it was our thread's before fork */
static struct {
	struct state *state; /* for the child: the parent goes on writing to the pages that both have at first */
	size_t used;
} copy;

void process_fork_prepare(void)
{
	state_interrupted = lock_take(&state_lock, nn_self()) == LOCK_NESTED;
}

void process_fork_copy(void)
{
	if (!nn_state)
		return;
	uint32_t top = atomic_load(&nn_state->stream_top);
	copy.used = offsetof(struct state, streams) + (top < STATE_STREAMS ? top : STATE_STREAMS) * sizeof(struct state_stream);
	copy.state = process_memory(copy.used);
	if (copy.state)
		memcpy(copy.state, nn_state, copy.used);
}

static void drop_copy(void)
{
	if (copy.state)
		sys_call2(SYS_munmap, copy.state, copy.used);
	copy.state = NULL;
}

void process_fork_parent(void)
{
	drop_copy();
	lock_drop(&state_lock, state_interrupted ? LOCK_NESTED : LOCK_TAKEN);
}

void process_renew_state(void)
{
	lock_drop(&state_lock, state_interrupted ? LOCK_NESTED : LOCK_TAKEN);
	atomic_store(&state_lock, 0);
	atomic_store(&finished, 0);
	know_oneself();
	if (!nn_state)
		return;
	hidden_close(state_fd);
	state_fd = -1;
	struct state *state;
	int fd = map_state(nn_state, &state);
	if (fd < 0) {
		void *memory = (void *)sys_call6(SYS_mmap, nn_state, sizeof *state, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		if (sys_failed(memory)) {
			drop_copy();
			return; /* the old mapping is gone with it or still there; nothing better can be done */
		}
		fd = -1;
	}
	state_fd = fd;
	if (copy.state)
		memcpy(nn_state, copy.state, copy.used);
	drop_copy();
	nn_state->pid = (uint32_t)nn_pid;
	/* What was counted so far is the parent's. */
	memset(&nn_state->totals, 0, sizeof nn_state->totals);
	uint32_t top = atomic_load(&nn_state->stream_top);
	for (uint32_t i = 0; i < top && i < STATE_STREAMS; i++) {
		struct state_direction *directions[] = {&nn_state->streams[i].tx, &nn_state->streams[i].rx};
		for (int d = 0; d < 2; d++) {
			atomic_store(&directions[d]->ring_bytes, 0);
			atomic_store(&directions[d]->tcp_bytes, 0);
			atomic_store(&directions[d]->calls, 0);
		}
	}
}

/* The line of a process that has had no connection. */
static void report_nothing(void)
{
	size_t bytes = offsetof(struct state, streams); /* it has used none of them */
	struct state *state = process_memory(bytes);
	if (!state)
		return;
	state->pid = (uint32_t)nn_pid;
	name_program(state->program, sizeof state->program);
	report_write(nn_config.report, state);
	sys_call2(SYS_munmap, state, bytes);
}

void nn_finish(void)
{
	if (!nn_fds || nn_in_vfork_child())
		return;
	close_pay_all();
	if (!nn_config.report || atomic_exchange(&finished, 1))
		return;
	if (nn_state)
		report_write(nn_config.report, nn_state);
	else
		report_nothing();
}

bool nn_in_vfork_child(void)
{
	/* There is none before the first spawn, and most programs never do: a system call saved at every close. */
	return atomic_load_explicit(&nn_spawned, memory_order_relaxed) && (int)sys_call0(SYS_getpid) != nn_pid;
}
