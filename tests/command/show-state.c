/* SPDX-License-Identifier: BSD-2-Clause */
/* A process that shows a state made up for the test, says "ready", and waits for the end of its input. With the argument
 * "hostile" the state tells lies; with "child" a forked child says ready and has its parent's state still open. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shim/core/state.h"

static struct sockaddr_in6 address(const char *text, unsigned port)
{
	struct sockaddr_in6 result = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};

	inet_pton(AF_INET6, text, &result.sin6_addr);
	return result;
}

static void fill(struct state *state)
{
	struct state_stream *up = &state->streams[0], *tcp = &state->streams[2];

	state->totals.connections = 3;
	state->totals.streams = 1;
	state->totals.doorbells_rung = 4;
	state->totals.spins = 6;
	state->totals.sleeps = 5;
	state->totals.tx_tcp = 100;
	up->fd = 9;
	up->peer_pid = 4711;
	up->connector = 1;
	up->local = address("::ffff:127.0.0.1", 40000);
	up->remote = address("::ffff:127.0.0.1", 80);
	up->tx.up = 1;
	up->tx.ring_bytes = 123456;
	up->tx.ring_size = 65536;
	up->rx.reason = NN_REASON_CALL;
	up->in_use = 1;
	tcp->fd = 10;
	tcp->local = address("::1", 443);
	tcp->remote = address("::1", 50000);
	tcp->tx.reason = tcp->rx.reason = NN_REASON_NO_PEER;
	tcp->in_use = 1;
	state->stream_top = 3;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int fd = memfd_create(STATE_NAME, MFD_CLOEXEC);
	struct state *state = MAP_FAILED;
	char byte;

	if (fd >= 0 && ftruncate(fd, sizeof(*state)) == 0)
		state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (state == MAP_FAILED)
		return 1;
	state->version = STATE_VERSION;
	state->pid = (uint32_t)getpid();
	state->stream_size = sizeof(struct state_stream);
	strcpy(state->program, "shower");
	fill(state);
	if (strcmp(how, "hostile") == 0) {
		memset(state->program, 0x1b, sizeof(state->program));
		state->streams[0].tx.up = 0;
		state->streams[0].tx.reason = 0xffffffff;
		state->streams[0].local.sin6_family = 0xffff;
	}
	atomic_store_explicit(&state->magic, STATE_MAGIC, memory_order_release);
	/* The child shows nothing of its own. */
	if (strcmp(how, "child") == 0 && fork() > 0) {
		pause();
		return 0;
	}
	printf("%d\n", (int)getpid());
	fflush(stdout);
	prctl(PR_SET_NAME, "other");
	return read(STDIN_FILENO, &byte, 1) != 0;
}
