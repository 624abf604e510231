/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each step moves one random amount of bytes by one of the calls that can; the drivers differ in how they wait. An end
 * that makes no progress for STALL_MS though its peer lives is reported as a hang.
 */
#include "tests/stress/ends.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 17, STALL_MS = 15000, SET_MAX = 64 };

struct shared *shared;

uint64_t rng_next(uint64_t *rng)
{
	uint64_t z = *rng += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t rng_below(uint64_t *rng, uint64_t limit)
{
	return limit ? rng_next(rng) % limit : 0;
}

/* Mostly small, sometimes huge. */
static uint64_t rng_size(uint64_t *rng, uint64_t max)
{
	uint64_t bits = rng_below(rng, 18), n = 1 + rng_below(rng, 1ull << bits);
	return n < max ? n : max;
}

uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* ---- the bytes -------------------------------------------------------------------------------------------------- */

static uint8_t byte_at(uint64_t key, uint64_t offset, uint64_t *word, uint64_t *index)
{
	if (offset / 8 != *index) {
		uint64_t state = key + offset / 8 * 0x632be59bd9b4e019ull;
		*index = offset / 8;
		*word = rng_next(&state);
	}
	return (uint8_t)(*word >> offset % 8 * 8);
}

static void make_bytes(uint64_t key, uint64_t offset, uint8_t *to, size_t length)
{
	uint64_t word = 0, index = UINT64_MAX;
	for (size_t i = 0; i < length; i++)
		to[i] = byte_at(key, offset + i, &word, &index);
}

/* The offset of the first byte that is wrong, or UINT64_MAX. */
static uint64_t check_bytes(uint64_t key, uint64_t offset, const uint8_t *from, size_t length)
{
	uint64_t word = 0, index = UINT64_MAX;
	for (size_t i = 0; i < length; i++)
		if (from[i] != byte_at(key, offset + i, &word, &index))
			return offset + i;
	return UINT64_MAX;
}

static uint64_t key_of(const struct end *end, bool up)
{
	return end->hello.id * 2 + up;
}

/* ---- verdicts --------------------------------------------------------------------------------------------------- */

static void fail(struct end *end, const char *what, uint64_t a, uint64_t b)
{
	if (end->failed)
		return;
	end->failed = true;
	atomic_fetch_add(&shared->errors, 1);
	fprintf(stderr, "stress: pid %d %s fd %d, stream %llx up %llu down %llu, sent %llu received %llu: %s (%llu, %llu)\n",
		(int)getpid(), end->client ? "client" : "server", end->fd, (unsigned long long)end->hello.id,
		(unsigned long long)end->hello.up, (unsigned long long)end->hello.down, (unsigned long long)end->sent,
		(unsigned long long)end->received, what, (unsigned long long)a, (unsigned long long)b);
}

/* Whether the other end may have gone before its time. */
static bool may_end_early(const struct end *end)
{
	if (end->hello.abandon_at != UINT64_MAX)
		return true;
	for (int i = 0; i < 20; i++) {
		if (end->client ? atomic_load(&shared->generation[end->server_slot]) != end->server_generation
				: atomic_load(&shared->generation[end->hello.slot]) != end->hello.generation)
			return true;
		usleep(1000);
	}
	return false;
}

/* A one-way client that was killed has left nothing unread: all it has sent must arrive. */
static void judge_one_way(struct end *end, int error)
{
	if (end->client || end->hello.down || end->hello.abandon_at != UINT64_MAX || error)
		return;
	uint64_t sent = atomic_load(&shared->progress[end->hello.slot][end->hello.thread].sent);
	if (atomic_load(&shared->progress[end->hello.slot][end->hello.thread].id) != end->hello.id)
		return;
	atomic_fetch_add(&shared->one_way, 1);
	if (end->received < sent)
		fail(end, "bytes that a killed process had sent are lost: sent, received", sent, end->received);
}

/* The receiving direction has ended with EOF (error 0) or an error. */
static void rx_ended(struct end *end, int error)
{
	end->rx_done = true;
	if (end->received == end->to_receive && (!error || may_end_early(end)))
		return;
	if (!end->client && end->hello_done < sizeof end->hello)
		return; /* killed before it said who it was */
	if (!may_end_early(end)) {
		fail(end, error ? strerror(error) : "end of stream too early", end->received, end->to_receive);
		return;
	}
	atomic_fetch_add(&shared->early, 1);
	judge_one_way(end, error);
}

static void tx_failed(struct end *end, int error)
{
	end->tx_done = true;
	if (error != EPIPE && error != ECONNRESET)
		fail(end, strerror(error), end->sent, end->to_send);
	else if (!may_end_early(end))
		fail(end, "the peer has gone too early", end->sent, end->to_send);
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

void end_init(struct end *end, int fd, bool client, uint64_t seed)
{
	memset(end, 0, sizeof *end);
	end->fd = fd;
	end->client = client;
	end->rng = seed;
	end->abandon_at = UINT64_MAX;
	end->hello.abandon_at = UINT64_MAX;
	end->progress_ms = now_ms();
	end->doing = "starting";
	if (!client) {
		end->to_send = UINT64_MAX; /* until the hello is there */
		end->to_receive = UINT64_MAX;
	}
}

enum { WARM = 'w', WARM_ENOUGH = 'h' };

bool client_warms(int fd, unsigned rounds)
{
	char byte = WARM;
	while (rounds--)
		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1 || byte != WARM)
			return false;
	byte = WARM_ENOUGH;
	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1;
}

bool server_warms(int fd)
{
	char byte;
	for (;;) {
		if (recv(fd, &byte, 1, 0) != 1)
			return false;
		if (byte == WARM_ENOUGH)
			return true;
		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
			return false;
	}
}

static void progressed(struct end *end)
{
	__atomic_store_n(&end->progress_ms, now_ms(), __ATOMIC_RELAXED);
}

/* True when the direction has nothing more to do or has to wait (EAGAIN). */
static bool send_step(struct end *end, uint8_t *buffer)
{
	if (end->tx_done)
		return true;
	struct hello *hello = &end->hello;
	if (end->client && end->hello_done < sizeof *hello) {
		ssize_t n = send(end->fd, (char *)hello + end->hello_done, sizeof *hello - end->hello_done, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return errno == EAGAIN;
			tx_failed(end, errno);
			return true;
		}
		end->hello_done += (uint32_t)n;
		return false;
	}
	if (end->to_send == UINT64_MAX)
		return true;
	if (end->sent == end->to_send) {
		end->tx_done = true;
		if (shutdown(end->fd, SHUT_WR) && errno != ENOTCONN)
			fail(end, strerror(errno), 0, 0);
		return true;
	}
	size_t length = rng_size(&end->rng, end->to_send - end->sent);
	make_bytes(key_of(end, end->client), end->sent, buffer, length);
	struct iovec iov[2] = {{buffer, length / 2}, {buffer + length / 2, length - length / 2}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;
	switch (rng_below(&end->rng, 4)) {
	case 0:
		n = write(end->fd, buffer, length);
		break;
	case 1:
		n = writev(end->fd, iov, 2);
		break;
	case 2:
		n = sendmsg(end->fd, &msg, MSG_NOSIGNAL);
		break;
	default:
		n = send(end->fd, buffer, length, MSG_NOSIGNAL);
	}
	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return errno == EAGAIN;
		tx_failed(end, errno);
		return true;
	}
	end->sent += (uint64_t)n;
	if (end->client)
		atomic_store(&shared->progress[hello->slot][hello->thread].sent, end->sent);
	progressed(end);
	return false;
}

static void take_hello(struct end *end)
{
	const struct hello *hello = &end->hello;
	if (hello->magic != HELLO_MAGIC || hello->slot >= SLOTS || hello->thread >= THREADS) {
		fail(end, "no hello", hello->magic, hello->slot);
		end->rx_done = end->tx_done = true;
		return;
	}
	end->to_receive = hello->up;
	end->to_send = hello->down;
	if (!hello->down)
		end->tx_done = true;
	end->abandon_at = hello->abandon_at;
}

static bool recv_step(struct end *end, uint8_t *buffer)
{
	if (end->rx_done)
		return true;
	if (!end->client && end->hello_done < sizeof end->hello) {
		ssize_t n = recv(end->fd, (char *)&end->hello + end->hello_done, sizeof end->hello - end->hello_done, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return errno == EAGAIN;
		if (n <= 0) {
			end->rx_done = end->tx_done = true;
			return true;
		}
		end->hello_done += (uint32_t)n;
		if (end->hello_done == sizeof end->hello)
			take_hello(end);
		return end->rx_done;
	}
	size_t length = rng_size(&end->rng, CHUNK);
	struct iovec iov[2] = {{buffer, length / 2}, {buffer + length / 2, length - length / 2}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	uint8_t peeked[64];
	ssize_t n, peek = -1;
	switch (rng_below(&end->rng, 5)) {
	case 0:
		n = read(end->fd, buffer, length);
		break;
	case 1:
		n = readv(end->fd, iov, 2);
		break;
	case 2:
		n = recvmsg(end->fd, &msg, 0);
		break;
	case 3:
		peek = recv(end->fd, peeked, sizeof peeked, MSG_PEEK | MSG_DONTWAIT);
		n = recv(end->fd, buffer, length, 0);
		if (peek > 0 && n > 0 && memcmp(peeked, buffer, (size_t)(peek < n ? peek : n)))
			fail(end, "MSG_PEEK showed other bytes", (uint64_t)peek, (uint64_t)n);
		break;
	default:
		n = recv(end->fd, buffer, length, 0);
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EAGAIN;
	if (n <= 0) {
		rx_ended(end, n ? errno : 0);
		return true;
	}
	uint64_t wrong = check_bytes(key_of(end, !end->client), end->received, buffer, (size_t)n);
	if (wrong != UINT64_MAX)
		fail(end, "wrong byte at offset, in a read of", wrong, (uint64_t)n);
	end->received += (uint64_t)n;
	if (end->received > end->to_receive)
		fail(end, "more bytes than were sent", end->received, end->to_receive);
	atomic_fetch_add(&shared->bytes, (uint64_t)n);
	progressed(end);
	return false;
}

static bool finished(struct end *end)
{
	if (end->failed || (end->rx_done && end->tx_done))
		return true;
	if (end->sent + end->received < end->abandon_at)
		return false;
	atomic_fetch_add(&shared->abandoned, 1);
	return true;
}

static bool stalled(struct end *end)
{
	if (now_ms() - __atomic_load_n(&end->progress_ms, __ATOMIC_RELAXED) < STALL_MS)
		return false;
	fail(end, end->doing, end->tx_done, end->rx_done);
	return true;
}

static void maybe_pause(struct end *end)
{
	if (!rng_below(&end->rng, 200))
		usleep((useconds_t)rng_below(&end->rng, 3000));
}

/* ---- drivers ---------------------------------------------------------------------------------------------------- */

static void *blocking_sender(void *data)
{
	struct end *end = data;
	uint64_t rng = end->rng; /* the receiver has a generator of its own */
	struct end mine = *end;
	uint8_t *buffer = malloc(CHUNK);
	mine.rng = rng + 1;
	while (!mine.tx_done && mine.sent < mine.abandon_at) {
		send_step(&mine, buffer);
		maybe_pause(&mine);
		progressed(end);
	}
	if (mine.sent >= mine.abandon_at && !mine.tx_done)
		shutdown(end->fd, SHUT_RDWR);
	end->sent = mine.sent;
	end->hello_done = mine.hello_done;
	end->failed |= mine.failed;
	free(buffer);
	return NULL;
}

/* Two threads, one for each direction. */
static void run_blocking(struct end *end)
{
	uint8_t *buffer = malloc(CHUNK);
	pthread_t sender;
	while (!end->client && end->hello_done < sizeof end->hello && !end->rx_done)
		recv_step(end, buffer);
	if (!end->tx_done) {
		if (pthread_create(&sender, NULL, blocking_sender, end))
			abort();
		while (!end->rx_done && end->received < end->abandon_at) {
			recv_step(end, buffer);
			maybe_pause(end);
		}
		if (!end->rx_done)
			shutdown(end->fd, SHUT_RDWR);
		pthread_join(sender, NULL);
	} else {
		while (!end->rx_done && end->received < end->abandon_at) {
			recv_step(end, buffer);
			maybe_pause(end);
		}
	}
	free(buffer);
}

static void run_polling(struct end *end, bool with_select)
{
	uint8_t *buffer = malloc(CHUNK);
	end->doing = with_select ? "hang in select" : "hang in poll";
	while (!finished(end) && !stalled(end)) {
		bool in = !end->rx_done, out = !end->tx_done && end->to_send != UINT64_MAX;
		bool can_read, can_write;
		if (with_select) {
			fd_set ins, outs;
			FD_ZERO(&ins);
			FD_ZERO(&outs);
			if (in)
				FD_SET(end->fd, &ins);
			if (out)
				FD_SET(end->fd, &outs);
			struct timeval second = {1, 0};
			int n = select(end->fd + 1, &ins, &outs, NULL, &second);
			can_read = n > 0 && FD_ISSET(end->fd, &ins);
			can_write = n > 0 && FD_ISSET(end->fd, &outs);
		} else {
			struct pollfd p = {end->fd, (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)), 0};
			int n = poll(&p, 1, 1000);
			can_read = n > 0 && p.revents & (POLLIN | POLLHUP | POLLERR);
			can_write = n > 0 && p.revents & (POLLOUT | POLLHUP | POLLERR);
		}
		if (can_read)
			recv_step(end, buffer);
		if (can_write)
			send_step(end, buffer);
		maybe_pause(end);
	}
	free(buffer);
}

static void close_end(struct end *end)
{
	if (end->client)
		atomic_store(&shared->progress[end->hello.slot][end->hello.thread].id, 0);
	close(end->fd);
	atomic_fetch_add(&shared->connections, 1);
}

static void set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void set_add(int epfd, struct end *end, bool edge)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (edge ? (uint32_t)EPOLLET : 0), .data.ptr = end};
	end->doing = edge ? "hang in epoll, edge" : "hang in epoll, level";
	if (!edge && end->to_send == UINT64_MAX)
		event.events &= ~(uint32_t)EPOLLOUT;
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, end->fd, &event))
		fail(end, "epoll_ctl", (uint64_t)errno, 0);
}

/* Level sets ask only for what is still to do. */
static void set_update(int epfd, struct end *end)
{
	bool out = !end->tx_done && end->to_send != UINT64_MAX;
	struct epoll_event event = {.events = (end->rx_done ? 0 : EPOLLIN) | (out ? EPOLLOUT : 0), .data.ptr = end};
	epoll_ctl(epfd, EPOLL_CTL_MOD, end->fd, &event);
}

static void serve_edge(struct end *end, uint8_t *buffer)
{
	while (!finished(end) && !recv_step(end, buffer))
		;
	while (!finished(end) && !send_step(end, buffer))
		;
}

void ends_run_set(struct end **ends, int count, int more, bool edge, uint32_t slot)
{
	uint8_t *buffer = malloc(CHUNK);
	struct end *all[SET_MAX];
	uint64_t seed = now_ms() * 31 + slot;
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	memcpy(all, ends, (size_t)count * sizeof *all);
	for (int i = 0; i < count; i++) {
		set_nonblocking(all[i]->fd);
		set_add(epfd, all[i], edge);
	}
	struct epoll_event on = {.events = EPOLLIN};
	if (more >= 0)
		epoll_ctl(epfd, EPOLL_CTL_ADD, more, &on);
	while (count || more >= 0) {
		struct epoll_event events[16];
		int n = epoll_wait(epfd, events, 16, 1000);
		for (int i = 0; i < n; i++) {
			struct end *end = events[i].data.ptr;
			if (!end) {
				int fd;
				if (count == SET_MAX) {
					usleep(1000);
					continue;
				}
				if (read(more, &fd, sizeof fd) != sizeof fd) {
					epoll_ctl(epfd, EPOLL_CTL_DEL, more, NULL);
					more = -1;
					continue;
				}
				all[count] = malloc(sizeof **all);
				end_init(all[count], fd, false, rng_next(&seed));
				set_nonblocking(fd);
				set_add(epfd, all[count++], edge);
				continue;
			}
			if (edge) {
				serve_edge(end, buffer);
				continue;
			}
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				recv_step(end, buffer);
			if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && !finished(end))
				send_step(end, buffer);
			set_update(epfd, end);
			maybe_pause(end);
		}
		for (int i = 0; i < count; i++)
			if (finished(all[i]) || stalled(all[i])) {
				close_end(all[i]);
				free(all[i]);
				all[i--] = all[--count];
			}
	}
	close(epfd);
	free(buffer);
}

void end_run(struct end *end, enum driver driver)
{
	if (driver == EDGE || driver == LEVEL) {
		struct end *copy = malloc(sizeof *copy);
		*copy = *end;
		ends_run_set(&copy, 1, -1, driver == EDGE, end->hello.slot);
		return;
	}
	if (driver == BLOCKING)
		run_blocking(end);
	else {
		set_nonblocking(end->fd);
		run_polling(end, driver == SELECTING);
	}
	close_end(end);
}
