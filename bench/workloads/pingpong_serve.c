// SPDX-License-Identifier: BSD-2-Clause
/* The server's side of pingpong: echo, or read everything and say so. */
#include "bench/workloads/pingpong.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void serve_blocking(int listener)
{
	while (!ended) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (mode_is("stream")) {
			while (recv_some(fd, buffer, opt.size) > 0)
				continue;
			write_all(fd, 1);
		} else {
			while (read_all(fd, opt.size) && write_all(fd, opt.size))
				continue;
		}
		close(fd);
	}
}

static void serve_epoll(int listener)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];

	epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
	while (!ended) {
		int count = epoll_wait(set, events, 64, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;
			ssize_t n;

			if (fd == listener) {
				fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				event = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.fd = fd};
				epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
				continue;
			}
			while ((n = recv(fd, buffer, opt.size, 0)) > 0)
				write_all(fd, (size_t)n);
			if (n == 0)
				close(fd);
		}
	}
}

void serve(int listener)
{
	if (mode_is("epoll"))
		serve_epoll(listener);
	else
		serve_blocking(listener);
}
