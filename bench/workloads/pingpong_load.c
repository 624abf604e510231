// SPDX-License-Identifier: BSD-2-Clause
/* The load's side of pingpong, one function per mode. */
#include "bench/workloads/pingpong.h"
#include "bench/workloads/latency.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct latency latency;

static void load_blocking(uint64_t start, uint64_t end)
{
	uint64_t done = 0, now = start;
	int fd = open_socket(false);

	while (now < end) {
		uint64_t before = now;

		for (int i = 0; i < SAMPLE; i++) {
			if (!write_all(fd, opt.size) || !read_all(fd, opt.size))
				die("echo");
			if (i == 0)
				latency_note(&latency, now_ns() - before);
		}
		done += SAMPLE;
		now = now_ns();
	}
	latency_print(&latency, done, done * opt.size, now - start);
}

/* Opens the idle ones; each talks long enough to be worth a ring. Returns how long that took. */
static uint64_t open_idle(int set)
{
	uint64_t begun = now_ns();

	for (int i = 0; i < opt.idle; i++) {
		struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = MAX_CONNECTIONS};
		int fd = open_socket(false);

		for (int round = 0; round < 24; round++)
			if (!write_all(fd, opt.size) || !read_all(fd, opt.size))
				die("idle echo");
		fcntl(fd, F_SETFL, O_NONBLOCK);
		epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	}
	return now_ns() - begun;
}

static void load_epoll(uint64_t start, uint64_t end)
{
	static uint64_t sent[MAX_CONNECTIONS];
	static size_t got[MAX_CONNECTIONS];
	static int fds[MAX_CONNECTIONS];
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event, events[64];
	uint64_t done = 0, opening = open_idle(set), now;

	now = start += opening;
	end += opening;
	for (int i = 0; i < opt.connections; i++) {
		fds[i] = open_socket(false);
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
		event = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u32 = (uint32_t)i};
		epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event);
		sent[i] = now_ns();
		write_all(fds[i], opt.size);
	}
	while (now < end) {
		int count = epoll_wait(set, events, 64, 1000);

		for (int i = 0; i < count; i++) {
			uint32_t c = events[i].data.u32;
			ssize_t n;

			if (c == MAX_CONNECTIONS)
				continue; /* idle since: the edge of its being added */

			while ((n = recv(fds[c], buffer, opt.size - got[c], 0)) > 0) {
				got[c] += (size_t)n;
				if (got[c] < opt.size)
					continue;
				got[c] = 0;
				if (sent[c])
					latency_note(&latency, now_ns() - sent[c]);
				sent[c] = ++done % SAMPLE == 0 ? now_ns() : 0;
				write_all(fds[c], opt.size);
			}
			if (n == 0)
				die("server closed");
		}
		if (done % SAMPLE == 0 || count <= 0)
			now = now_ns();
	}
	latency_print(&latency, done, done * opt.size, now - start);
}

static void load_stream(uint64_t start, uint64_t end)
{
	/* A clock read per 64 B message would be a good part of its cost, one per 64 MiB would overrun the end. */
	int batch = opt.size >= 65536 ? 1 : 64;
	uint64_t done = 0;
	int fd = open_socket(false);

	while (now_ns() < end) {
		for (int i = 0; i < batch; i++)
			if (!write_all(fd, opt.size))
				die("send");
		done += (uint64_t)batch;
	}
	shutdown(fd, SHUT_WR);
	if (!read_all(fd, 1))
		die("recv");
	latency_print(NULL, done, done * opt.size, now_ns() - start);
}

static void load_short(uint64_t start, uint64_t end)
{
	uint64_t done = 0, now = start;

	while (now < end) {
		uint64_t before = now;
		int fd = open_socket(false);

		if (!write_all(fd, opt.size) || !read_all(fd, opt.size))
			die("echo");
		close(fd);
		now = now_ns();
		latency_note(&latency, now - before);
		done++;
	}
	latency_print(&latency, done, done * opt.size, now - start);
}

void load(uint64_t start, uint64_t end)
{
	if (mode_is("epoll"))
		load_epoll(start, end);
	else if (mode_is("stream"))
		load_stream(start, end);
	else if (mode_is("short"))
		load_short(start, end);
	else
		load_blocking(start, end);
}
