/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * set [SECONDS]: two threads wait in one epoll set, and echo what comes; each client sends a number, waits for it, and pauses for a random
 * time, so that the threads fall asleep, wake, and leave the set at every moment relative to each other. Now and then one of them
 * comes back only when the other has served somebody. A client that waits five seconds has found a lost wake-up. One set is
 * level-triggered, one edge-triggered with EPOLLONESHOT.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAITERS = 2, CLIENTS = 3, PATIENCE_S = 5 };

static int sets[2];
static _Atomic uint64_t *served; /* by each set, in memory of both processes */
static pthread_mutex_t busy[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

/* One thread at a time may be elsewhere until the other has got something done. */
static void be_elsewhere(int which)
{
	if (pthread_mutex_trylock(&busy[which]))
		return;
	for (uint64_t before = served[which]; served[which] < before + 3;)
		usleep(50);
	pthread_mutex_unlock(&busy[which]);
}

/* Each word that is there goes back. False: the end. */
static bool echo(int fd)
{
	uint64_t word;
	for (;;) {
		ssize_t count = recv(fd, &word, sizeof word, MSG_DONTWAIT);
		if (count == (ssize_t)sizeof word && send(fd, &word, sizeof word, MSG_NOSIGNAL) == (ssize_t)sizeof word)
			continue;
		return count < 0 && errno == EAGAIN;
	}
}

static void *waiter(void *data)
{
	int which = (int)(intptr_t)data;
	for (unsigned turn = 0;; turn++) {
		struct epoll_event events[2];
		int count = epoll_wait(sets[which], events, 2, -1);
		if (count == 2 && events[0].data.fd == events[1].data.fd) {
			fprintf(stderr, "set: one stream twice in one answer\n");
			_exit(6);
		}
		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;
			struct epoll_event again = {.events = EPOLLIN | EPOLLET | EPOLLONESHOT, .data.fd = fd};
			if (!echo(fd))
				epoll_ctl(sets[which], EPOLL_CTL_DEL, fd, NULL);
			else if (which)
				epoll_ctl(sets[which], EPOLL_CTL_MOD, fd, &again);
		}
		if (turn % 4 == 0)
			be_elsewhere(which);
	}
	return NULL;
}

static void server(int listener)
{
	pthread_t thread;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int which = 0; which < 2; which++) {
		sets[which] = epoll_create1(EPOLL_CLOEXEC);
		/* Something that only the kernel knows, so that it is asked while threads spin. */
		struct epoll_event never = {.events = EPOLLIN, .data.fd = -1};
		epoll_ctl(sets[which], EPOLL_CTL_ADD, eventfd(0, EFD_CLOEXEC), &never);
		for (int i = 0; i < WAITERS; i++)
			pthread_create(&thread, NULL, waiter, (void *)(intptr_t)which);
	}
	for (int n = 0;; n++) {
		int fd = accept(listener, NULL, NULL);
		struct epoll_event event = {.events = EPOLLIN | (n % 2 ? (uint32_t)(EPOLLET | EPOLLONESHOT) : 0), .data.fd = fd};
		if (fd < 0 || epoll_ctl(sets[n % 2], EPOLL_CTL_ADD, fd, &event))
			_exit(5);
	}
}

static struct sockaddr_in address = {.sin_family = AF_INET};
static time_t end;
static _Atomic uint64_t errors;
static _Atomic int connected;

static void *client(void *data)
{
	uint64_t state = (uint64_t)(uintptr_t)data, word = 0, back = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = {.tv_sec = PATIENCE_S};
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&one); /* in the order of accept: even ones are in the first set */
	int which = connected++ % 2;
	if (connect(fd, (struct sockaddr *)&address, sizeof address))
		_exit(5);
	pthread_mutex_unlock(&one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	while (time(NULL) < end) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		word = state ^ word;
		errno = 0;
		if (send(fd, &word, sizeof word, MSG_NOSIGNAL) != (ssize_t)sizeof word ||
			recv(fd, &back, sizeof back, MSG_WAITALL) != (ssize_t)sizeof back || back != word) {
			fprintf(stderr, "set: client %d after %llu rounds of its set: %s\n", (int)(uintptr_t)data, (unsigned long long)served[which],
				errno == EAGAIN ? "no answer: a wake-up was lost" : "wrong answer");
			errors++;
			break;
		}
		served[which]++;
		struct timespec pause = {0, (long)(state >> 33) % 300000};
		if (state >> 62)
			nanosleep(&pause, NULL);
	}
	served[which] += 1000; /* nobody waits for us any more */
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 64) ||
		getsockname(listener, (struct sockaddr *)&address, &length))
		return 5;
	const char *seed = getenv("SEED");
	uintptr_t first = seed ? strtoul(seed, NULL, 10) : (uintptr_t)time(NULL);
	end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
	served = mmap(NULL, sizeof *served * 2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (served == MAP_FAILED)
		return 5;
	pid_t pid = fork();
	if (!pid)
		server(listener);
	close(listener);
	pthread_t threads[2 * CLIENTS];
	for (uintptr_t i = 0; i < 2 * CLIENTS; i++)
		pthread_create(&threads[i], NULL, client, (void *)(first * 100 + i));
	for (int i = 0; i < 2 * CLIENTS; i++)
		pthread_join(threads[i], NULL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unsigned long long rounds = served[0];
	rounds += served[1];
	printf("# seed %llu: %llu rounds, %llu errors\n", (unsigned long long)first, rounds,
		(unsigned long long)errors);
	return errors ? 1 : 0;
}
