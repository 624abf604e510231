/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handler [SECONDS]: a timer's handler sends on the stream on which the thread that it interrupts is sending, in the first half of the time;
 * in the second half it leaves that send by siglongjmp instead. Both kinds of bytes must come whole and in their order, and a stream left
 * by a jump must go on for this thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 200000, PERIOD_US = 150, HANDLERS_BIT = 0x80 };

static int out;
static uint32_t by_handler;
static volatile sig_atomic_t jumps, in_send, jumping, mute;
static sigjmp_buf back;

/* The n-th byte of main, and of the handler, which has the high bit set. */
static uint8_t main_byte(uint64_t n)
{
	return (uint8_t)((n * 2654435761u >> 11) & 0x7f);
}

static uint8_t handler_byte(uint64_t n)
{
	return (uint8_t)((main_byte(n + 77) & 0x3f) | HANDLERS_BIT); /* never 0xff */
}

static void on_timer(int number)
{
	int saved = errno;
	uint8_t bytes[300];
	(void)number;
	if (jumping) {
		if (in_send && ++jumps)
			siglongjmp(back, 1);
		return;
	}
	if (mute)
		return;
	size_t length = 1 + by_handler * 7919u % sizeof bytes;
	for (size_t i = 0; i < length; i++)
		bytes[i] = handler_byte(by_handler + i);
	ssize_t sent = send(out, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent > 0)
		by_handler += (uint32_t)sent;
	errno = saved;
}

static void tick(long period)
{
	struct itimerval timer = {{0, period}, {0, period}};
	setitimer(ITIMER_REAL, &timer, NULL);
}

static uint64_t send_for(double seconds)
{
	static uint8_t chunk[CHUNK];
	static uint64_t sent;
	static struct timespec begin, now;
	static uint32_t dice = 12345;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		dice = dice * 1103515245u + 12345;
		size_t length = 1 + dice % CHUNK;
		for (size_t i = 0; i < length; i++)
			chunk[i] = main_byte(sent + i);
		if (!sigsetjmp(back, 1)) {
			in_send = 1;
			ssize_t count = send(out, chunk, length, MSG_NOSIGNAL);
			if (count > 0)
				sent += (uint64_t)count;
		}
		in_send = 0;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9 < seconds);
	return sent;
}

static int check(int in)
{
	static uint8_t buffer[1 << 16];
	uint64_t mains = 0, handlers = 0, jumped = 0;
	bool exact = true;
	ssize_t count;
	while ((count = recv(in, buffer, sizeof buffer, 0)) > 0)
		for (ssize_t i = 0; i < count; i++) {
			if (!exact) {
				jumped++;
			} else if (buffer[i] == 0xff) {
				exact = false; /* from here on sends are left by jumps: nobody knows how much of them was sent */
			} else if (buffer[i] & HANDLERS_BIT ? buffer[i] != handler_byte(handlers++) : buffer[i] != main_byte(mains++)) {
				fprintf(stderr, "handler: wrong byte after %llu and %llu\n", (unsigned long long)mains, (unsigned long long)handlers);
				return 1;
			}
		}
	printf("# %llu bytes, %llu by handlers, %llu after jumps\n", (unsigned long long)mains, (unsigned long long)handlers,
		(unsigned long long)jumped);
	fflush(stdout);
	return count < 0 || !handlers || !jumped;
}

static int receiver(int listener)
{
	struct timeval patience = {.tv_sec = 5};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int in = accept(listener, NULL, NULL);
	setsockopt(in, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (send(in, "go", 2, MSG_NOSIGNAL) != 2)
		return 5;
	return check(in);
}

int main(int argc, char **argv)
{
	double half = (argc > 1 ? atof(argv[1]) : 4) / 2;
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof address;
	char go[2];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4) ||
		getsockname(listener, (struct sockaddr *)&address, &length))
		return 5;
	pid_t pid = fork();
	if (!pid)
		_exit(receiver(listener));
	out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(out, (struct sockaddr *)&address, sizeof address) || recv(out, go, 2, MSG_WAITALL) != 2)
		return 5;
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_timer, .sa_flags = SA_RESTART}, NULL);
	tick(PERIOD_US);
	send_for(half);
	mute = 1;
	/* What no handler sends divides the halves. */
	if (send(out, "\xff", 1, MSG_NOSIGNAL) != 1)
		return 5;
	jumping = 1;
	send_for(half);
	jumping = 0;
	tick(0);
	if (send(out, "end", 3, MSG_NOSIGNAL) != 3 && fprintf(stderr, "handler: after %d jumps: %s\n", (int)jumps, strerror(errno)))
		return 5;
	shutdown(out, SHUT_WR);
	waitpid(pid, &status, 0);
	if (!jumps || status)
		fprintf(stderr, "handler: %d jumps, receiver's status %x\n", (int)jumps, (unsigned)status);
	return !jumps || status;
}
