/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that send. */
#include "tests/conformance/player.h"

#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <netinet/in.h>
#include <stdio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* send FD DATA [FLAGS] */
static void op_send(struct call *call)
{
	size_t length;
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	say_result(call, send(fd, data, length, arg_flags(call, 3)));
	free(data);
}

/* write FD DATA */
static void op_write(struct call *call)
{
	size_t length;
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	say_result(call, write(fd, data, length));
	free(data);
}

/* writev FD DATA [PIECES] */
static void op_writev(struct call *call)
{
	size_t length;
	struct iovec iov[PIECES];
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	int count = cut(iov, data, length, arg_number(call, 3, 0));
	say_result(call, writev(fd, iov, count));
	free(data);
}

/* sendmsg FD DATA [FLAGS] */
static void op_sendmsg(struct call *call)
{
	size_t length;
	struct iovec iov[PIECES];
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)cut(iov, data, length, 0)};
	say_result(call, sendmsg(fd, &msg, arg_flags(call, 3)));
	free(data);
}

/* sendto FD DATA [FLAGS]: with an address, which TCP ignores */
static void op_sendto(struct call *call)
{
	size_t length;
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	say_result(call, sendto(fd, data, length, arg_flags(call, 3), (struct sockaddr *)&address, sizeof address));
	free(data);
}

/* sendmmsg FD DATA [FLAGS]: three messages, each DATA */
static void op_sendmmsg(struct call *call)
{
	size_t length;
	struct iovec iov[PIECES];
	struct mmsghdr messages[3];
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	int count = cut(iov, data, length, 0);
	memset(messages, 0, sizeof messages);
	for (int i = 0; i < 3; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = iov, .msg_iovlen = (size_t)count};
	int sent = sendmmsg(fd, messages, 3, arg_flags(call, 3));
	say_result(call, sent);
	for (int i = 0; i < sent; i++)
		say(call, " %u", messages[i].msg_len);
	free(data);
}

/* sendall FD DATA: until all is written or an error comes */
static void op_sendall(struct call *call)
{
	size_t length, done = 0;
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	while (done < length) {
		ssize_t n = send(fd, data + done, length - done, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			say(call, "%s ", strerrorname_np(errno));
			break;
		}
		done += (size_t)n;
	}
	say(call, "%zu <%016llx>", done, (unsigned long long)hash_bytes(HASH_START, data, done));
	free(data);
}

/* pollsend, epollsend, selectsend FD DATA: all of it, waiting for room so */
static void send_by(struct call *call, void (*wait_for)(int fd))
{
	size_t length, done = 0;
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	while (done < length) {
		ssize_t n = send(fd, data + done, length - done, MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			break;
		if (n < 0)
			wait_for(fd);
		else
			done += (size_t)n;
	}
	say(call, "%zu", done);
	free(data);
}

static void by_poll(int fd)
{
	poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
}

static void by_epoll(int fd)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
	int set = epoll_create1(0);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	epoll_wait(set, &event, 1, -1);
	close(set);
}

static void by_select(int fd)
{
	fd_set room;
	FD_ZERO(&room);
	FD_SET(fd, &room);
	select(fd + 1, NULL, &room, NULL, NULL);
}

static void op_pollsend(struct call *call)
{
	send_by(call, by_poll);
}

static void op_epollsend(struct call *call)
{
	send_by(call, by_epoll);
}

static void op_selectsend(struct call *call)
{
	send_by(call, by_select);
}

/* fill FD: sends without blocking until there is no room. How much fits is the transport's business. */
static void op_fill(struct call *call)
{
	uint64_t total = 0, hash = HASH_START;
	int fd = arg_fd(call, 1);
	uint8_t chunk[3000];
	for (int idle = 0; idle < 50;) {
		for (size_t i = 0; i < sizeof chunk; i++)
			chunk[i] = (uint8_t)((total + i) * 31 >> 3);
		ssize_t n = send(fd, chunk, sizeof chunk, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			idle++; /* the window may just be growing, or a probe be due */
			usleep(5000);
			continue;
		}
		if (n < 0) {
			say_result(call, n);
			return;
		}
		idle = 0;
		hash = hash_bytes(hash, chunk, (size_t)n);
		total += (uint64_t)n;
	}
	say(call, "full #%llu:%016llx", (unsigned long long)total, (unsigned long long)hash);
}

/* sendfile FD SIZE[@SEED] [OFFSET]: from a file that holds just that */
static void op_sendfile(struct call *call)
{
	size_t length;
	int fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	FILE *file = tmpfile();
	off_t offset = arg_number(call, 3, 0);
	if (!file || fwrite(data, 1, length, file) != length || fflush(file))
		say_error(call, "tmpfile");
	else if (call->argc > 3) {
		say_result(call, sendfile(fd, fileno(file), &offset, length));
		say(call, " offset %ld", (long)offset);
	} else {
		lseek(fileno(file), 0, SEEK_SET);
		say_result(call, sendfile(fd, fileno(file), NULL, length));
		say(call, " position %ld", (long)lseek(fileno(file), 0, SEEK_CUR));
	}
	if (file)
		fclose(file);
	free(data);
}

/* aiowrite FD DATA: by a thread of libc */
static void op_aiowrite(struct call *call)
{
	size_t length;
	struct aiocb request = {.aio_fildes = arg_fd(call, 1)};
	const struct aiocb *list[] = {&request};
	uint8_t *data = arg_data(call, 2, &length);
	request.aio_buf = data;
	request.aio_nbytes = length;
	if (aio_write(&request) == 0 && aio_suspend(list, 1, NULL) == 0 && aio_error(&request) == 0)
		say(call, "%zd", aio_return(&request));
	else
		say(call, "error %d", aio_error(&request));
	free(data);
}

/* iowrite FD DATA: by the kernel */
static void op_iowrite(struct call *call)
{
	size_t length;
	aio_context_t context = 0;
	struct iocb request = {.aio_fildes = (uint32_t)arg_fd(call, 1), .aio_lio_opcode = IOCB_CMD_PWRITE}, *list[] = {&request};
	struct io_event event = {0};
	uint8_t *data = arg_data(call, 2, &length);
	request.aio_buf = (uintptr_t)data;
	request.aio_nbytes = length;
	syscall(SYS_io_setup, 1, &context);
	if (syscall(SYS_io_submit, context, 1, list) == 1 && syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1)
		say(call, "%lld", (long long)event.res);
	else
		say_result(call, -1);
	syscall(SYS_io_destroy, context);
	free(data);
}

const struct op ops_send[] = {{"send", op_send}, {"write", op_write}, {"writev", op_writev}, {"sendmsg", op_sendmsg},
	{"sendto", op_sendto}, {"sendmmsg", op_sendmmsg}, {"sendall", op_sendall}, {"fill", op_fill},
	{"sendfile", op_sendfile}, {"pollsend", op_pollsend}, {"epollsend", op_epollsend}, {"selectsend", op_selectsend}, {"aiowrite", op_aiowrite}, {"iowrite", op_iowrite}, {NULL, NULL}};
