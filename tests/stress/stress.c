/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stress [SECONDS]: servers and clients in processes of their own send each other bytes that can be checked, in every
 * way that sockets offer, while this parent kills one of them now and then and starts it anew. Exit status 0 when no
 * byte was wrong, none missing that had to come, and nothing hung. SEED is in the environment.
 *
 * Slots 0..2 are servers (threads; one epoll set; a child for each connection), the others clients.
 */
#include "tests/stress/ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <execinfo.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS = 3, CLIENTS = 3, CLIENT_THREADS = 6, END_MS = 30000 };

static uint64_t seed;

/* ---- servers ---------------------------------------------------------------------------------------------------- */

static void *serve_one(void *data)
{
	struct end *end = data;
	server_warms(end->fd); /* what becomes of it the run tells */
	end_run(end, (enum driver)rng_below(&end->rng, DRIVERS));
	free(end);
	return NULL;
}

static void *serve_set(void *data)
{
	struct end *none[1];
	int more = ((int *)data)[0], edge = ((int *)data)[1];
	ends_run_set(none, 0, more, edge, 0);
	return NULL;
}

static void server(uint32_t slot, uint64_t rng)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof address;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 64) ||
		getsockname(listener, (struct sockaddr *)&address, &length))
		_exit(5);
	atomic_store(&shared->port[slot], ntohs(address.sin_port));

	int pipes[2][2], edge_set[2], level_set[2];
	pthread_t thread;
	if (slot == 1) {
		if (pipe(pipes[0]) || pipe(pipes[1]))
			_exit(5);
		edge_set[0] = pipes[0][0], edge_set[1] = 1;
		level_set[0] = pipes[1][0], level_set[1] = 0;
		pthread_create(&thread, NULL, serve_set, edge_set);
		pthread_create(&thread, NULL, serve_set, level_set);
	}
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		while (slot == 2 && waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (fd < 0)
			continue;
		if (slot == 1) {
			server_warms(fd);
			if (write(pipes[rng_below(&rng, 2)][1], &fd, sizeof fd) != sizeof fd)
				_exit(5);
			continue;
		}
		struct end *end = malloc(sizeof *end);
		end_init(end, fd, false, rng_next(&rng));
		if (slot == 2) {
			if (!fork()) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				close(listener);
				serve_one(end);
				exit(0);
			}
			close(fd);
			free(end);
		} else if (pthread_create(&thread, NULL, serve_one, end) || pthread_detach(thread))
			_exit(5);
	}
}

/* ---- clients ---------------------------------------------------------------------------------------------------- */

static uint32_t client_slot, client_generation;

static struct end *open_stream(uint64_t *rng, uint32_t thread)
{
	uint32_t to = (uint32_t)rng_below(rng, SERVERS), generation = atomic_load(&shared->generation[to]);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atomic_load(&shared->port[to]))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!address.sin_port || connect(fd, (struct sockaddr *)&address, sizeof address)) {
		close(fd);
		usleep(5000);
		return NULL;
	}
	bool warm = client_warms(fd, rng_below(rng, 4) ? (unsigned)rng_below(rng, 40) : 0);
	if (atomic_load(&shared->generation[to]) != generation) {
		close(fd);
		return NULL;
	}
	if (!warm) {
		fprintf(stderr, "stress: a connection ended in its first bytes: %s\n", strerror(errno));
		atomic_fetch_add(&shared->errors, 1);
	}
	struct end *end = malloc(sizeof *end);
	end_init(end, fd, true, rng_next(rng));
	end->server_slot = to;
	end->server_generation = generation;
	struct hello *hello = &end->hello;
	*hello = (struct hello){.magic = HELLO_MAGIC, .slot = client_slot, .thread = thread,
		.generation = client_generation, .id = rng_next(rng), .abandon_at = UINT64_MAX};
	uint64_t big = 1ull << (8 + rng_below(rng, 16));
	hello->up = rng_below(rng, big);
	hello->down = rng_below(rng, 3) ? rng_below(rng, big) : 0;
	if (!rng_below(rng, 8)) {
		/* One of the two gives up on the way; both know that this is allowed. */
		hello->abandon_at = rng_below(rng, hello->up + hello->down + 1);
		if (rng_below(rng, 2))
			end->abandon_at = rng_below(rng, hello->up + hello->down + 1);
	}
	end->to_send = hello->up;
	end->to_receive = hello->down;
	atomic_store(&shared->progress[client_slot][thread].sent, 0);
	atomic_store(&shared->progress[client_slot][thread].id, hello->id);
	return end;
}

static void *client_thread(void *data)
{
	uint32_t thread = (uint32_t)(uintptr_t)data;
	uint64_t rng = seed + client_slot * 1000 + thread * 17 + client_generation * 77777;
	while (!atomic_load(&shared->stop)) {
		if (rng_below(&rng, 4)) {
			struct end *end = open_stream(&rng, thread);
			if (end)
				end_run(end, (enum driver)rng_below(&rng, DRIVERS));
			free(end);
			continue;
		}
		struct end *ends[6];
		int count = 0;
		for (uint32_t i = 0; i < 6; i++)
			if ((ends[count] = open_stream(&rng, CLIENT_THREADS + thread * 6 + i)))
				count++;
		ends_run_set(ends, count, -1, rng_below(&rng, 2), client_slot);
	}
	return NULL;
}

static void client(uint32_t slot, uint32_t generation)
{
	pthread_t threads[CLIENT_THREADS];
	client_slot = slot;
	client_generation = generation;
	for (uintptr_t i = 0; i < CLIENT_THREADS; i++)
		if (pthread_create(&threads[i], NULL, client_thread, (void *)i))
			_exit(5);
	for (int i = 0; i < CLIENT_THREADS; i++)
		pthread_join(threads[i], NULL);
	exit(0);
}

/* A crash is the finding, not the streams that end with it: says where, and tells the peers that they may end early. */
static uint32_t own_slot;

static void on_crash(int number)
{
	void *frames[32];
	static const char text[] = "stress: crash at\n";
	atomic_fetch_add(&shared->generation[own_slot], 1);
	/* The process dies anyway: a trace that may fail is better than none. */
	if (write(2, text, sizeof text - 1) > 0)
		backtrace_symbols_fd(frames, backtrace(frames, 32), 2); // NOLINT(bugprone-signal-handler)
	signal(number, SIG_DFL);
	raise(number);
}

/* ---- the parent ------------------------------------------------------------------------------------------------- */

static pid_t start(uint32_t slot, uint64_t *rng)
{
	uint64_t own = rng_next(rng);
	uint32_t generation = atomic_load(&shared->generation[slot]);
	pid_t pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own_slot = slot;
	for (int i = 0; i < 4; i++)
		signal((int[]){SIGSEGV, SIGBUS, SIGABRT, SIGFPE}[i], on_crash);
	if (slot < SERVERS)
		server(slot, own);
	client(slot, generation);
	_exit(0);
}

int main(int argc, char **argv)
{
	uint64_t seconds = argc > 1 ? strtoul(argv[1], NULL, 0) : 10, kills = 0;
	const char *text = getenv("SEED");
	seed = text ? strtoull(text, NULL, 0) : (uint64_t)getpid();
	uint64_t rng = seed;
	pid_t pids[SERVERS + CLIENTS];
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (uint32_t i = 0; i < SERVERS + CLIENTS; i++)
		pids[i] = start(i, &rng);

	uint64_t begun = now_ms();
	int failed = 0;
	while (now_ms() - begun < seconds * 1000 && !atomic_load(&shared->errors)) {
		usleep((useconds_t)(50000 + rng_below(&rng, 300000)));
		int status;
		for (uint32_t i = 0; i < SERVERS + CLIENTS; i++)
			if (waitpid(pids[i], &status, WNOHANG) == pids[i]) {
				fprintf(stderr, "stress: process of slot %u ended by itself, status %x\n", i, (unsigned)status);
				failed = 1;
				atomic_fetch_add(&shared->generation[i], 1);
				pids[i] = start(i, &rng);
			}
		if (!rng_below(&rng, 3))
			continue;
		uint32_t victim = (uint32_t)rng_below(&rng, SERVERS + CLIENTS);
		/* Before it is killed everybody can know: who connects from here on finds no port, or its generation is over. */
		if (victim < SERVERS)
			atomic_store(&shared->port[victim], 0);
		atomic_fetch_add(&shared->generation[victim], 1);
		kill(pids[victim], rng_below(&rng, 3) ? SIGKILL : SIGTERM);
		waitpid(pids[victim], NULL, 0);
		pids[victim] = start(victim, &rng);
		kills++;
	}

	atomic_store(&shared->stop, 1);
	for (int left = CLIENTS; left && now_ms() - begun < seconds * 1000 + END_MS;) {
		usleep(20000);
		for (int i = SERVERS; i < SERVERS + CLIENTS; i++)
			if (pids[i] && waitpid(pids[i], NULL, WNOHANG) == pids[i]) {
				pids[i] = 0;
				left--;
			}
	}
	for (int i = 0; i < SERVERS + CLIENTS; i++)
		if (pids[i]) {
			if (i >= SERVERS) {
				fprintf(stderr, "stress: client process %d does not come to an end\n", (int)pids[i]);
				failed = 1;
			}
			kill(pids[i], i >= SERVERS ? SIGABRT : SIGTERM);
			waitpid(pids[i], NULL, 0);
		}
	printf("# seed %llu: %llu streams, %llu MB, %llu kills, %llu abandoned, %llu ended early (%llu judged by what was sent), "
	       "%llu errors\n",
		(unsigned long long)seed, (unsigned long long)shared->connections, (unsigned long long)shared->bytes >> 20,
		(unsigned long long)kills, (unsigned long long)shared->abandoned, (unsigned long long)shared->early,
		(unsigned long long)shared->one_way, (unsigned long long)shared->errors);
	return failed || shared->errors || !shared->connections;
}
