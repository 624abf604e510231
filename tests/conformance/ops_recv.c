/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that receive, and those that ask how many bytes there are. */
#include "tests/conformance/player.h"

#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t __recv_chk(int fd, void *buffer, size_t n, size_t size, int flags);
ssize_t __read_chk(int fd, void *buffer, size_t n, size_t size);

static void received(struct call *call, ssize_t n, const uint8_t *data, size_t size)
{
	int error = errno;
	say_result(call, n);
	if (n > 0)
		say_data(call, data, (size_t)n < size ? (size_t)n : size);
	errno = error;
}

/* recv FD SIZE [FLAGS] */
static void op_recv(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1), flags = arg_flags(call, 3);
	uint8_t *data = calloc(1, size + 1);
	ssize_t n = recv(fd, data, size, flags);
	received(call, n, data, flags & MSG_TRUNC ? 0 : size);
	free(data);
}

/* recvchk FD SIZE [FLAGS]: the fortified one; readchk FD SIZE */
static void op_recvchk(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1);
	uint8_t *data = calloc(1, size + 1);
	received(call, __recv_chk(fd, data, size, size + 1, arg_flags(call, 3)), data, size);
	free(data);
}

static void op_readchk(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1);
	uint8_t *data = calloc(1, size + 1);
	received(call, __read_chk(fd, data, size, size + 1), data, size);
	free(data);
}

/* read FD SIZE */
static void op_read(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1);
	uint8_t *data = calloc(1, size + 1);
	received(call, read(fd, data, size), data, size);
	free(data);
}

/* readv FD SIZE */
static void op_readv(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1);
	struct iovec iov[PIECES];
	uint8_t *data = calloc(1, size + 1);
	received(call, readv(fd, iov, cut(iov, data, size, 0)), data, size);
	free(data);
}

/* recvfrom FD SIZE [FLAGS]: what becomes of the address is part of the outcome */
static void op_recvfrom(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1);
	uint8_t *data = calloc(1, size + 1);
	struct sockaddr_storage address;
	socklen_t length = sizeof address;
	memset(&address, 0x5a, sizeof address);
	received(call, recvfrom(fd, data, size, arg_flags(call, 3), (struct sockaddr *)&address, &length), data, size);
	say(call, " length %u family %x", length, address.ss_family);
	free(data);
}

/* recvmsg FD SIZE [FLAGS] [PIECES] */
static void op_recvmsg(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	int fd = arg_fd(call, 1), flags = arg_flags(call, 3);
	struct iovec iov[PIECES];
	char address[64], ancillary[256];
	uint8_t *data = calloc(1, size + 1);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)cut(iov, data, size, arg_number(call, 4, 0)), .msg_name = address,
		.msg_namelen = sizeof address, .msg_control = ancillary, .msg_controllen = sizeof ancillary, .msg_flags = 0x77};
	ssize_t n = recvmsg(fd, &msg, flags);
	received(call, n, data, flags & MSG_TRUNC ? 0 : size);
	if (n >= 0)
		say(call, " flags %x name %u control %zu", msg.msg_flags, msg.msg_namelen, msg.msg_controllen);
	for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL; c; c = CMSG_NXTHDR(&msg, c)) {
		say(call, " cmsg %d %d", c->cmsg_level, c->cmsg_type);
		if (c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_CM_INQ) {
			int inq;
			memcpy(&inq, CMSG_DATA(c), sizeof inq);
			say(call, " inq %d", inq);
		}
	}
	free(data);
}

/* recvmmsg FD SIZE COUNT [FLAGS] [TIMEOUT_MS] */
static void op_recvmmsg(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 64);
	unsigned count = (unsigned)arg_number(call, 3, 2);
	int fd = arg_fd(call, 1), flags = arg_flags(call, 4);
	long ms = arg_number(call, 5, -1);
	struct mmsghdr messages[8];
	struct iovec iov[8];
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
	uint8_t *data = calloc(8, size + 1);
	memset(messages, 0, sizeof messages);
	for (unsigned i = 0; i < count && i < 8; i++) {
		iov[i] = (struct iovec){data + i * size, size};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	int n = recvmmsg(fd, messages, count, flags, ms >= 0 ? &timeout : NULL);
	say_result(call, n);
	for (int i = 0; i < n; i++) {
		say(call, " %u", messages[i].msg_len);
		say_data(call, data + (size_t)i * size, messages[i].msg_len);
	}
	free(data);
}

/* recvall FD SIZE [FLAGS]: until so many have come, or the end, or an error */
static void op_recvall(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096), done = 0;
	int fd = arg_fd(call, 1), flags = arg_flags(call, 3);
	uint8_t *data = calloc(1, size + 1);
	const char *end = "";
	while (done < size) {
		ssize_t n = recv(fd, data + done, size - done, flags);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			end = n ? strerrorname_np(errno) : "EOF";
			break;
		}
		done += (size_t)n;
	}
	say(call, "%zu", done);
	say_data(call, data, done);
	say(call, " %s", end);
	free(data);
}

/* gather FD SIZE: until so many have come, whether or not the descriptor waits for them */
static void op_gather(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096), done = 0;
	int fd = arg_fd(call, 1);
	uint8_t *data = calloc(1, size + 1);
	const char *end = "";
	while (done < size) {
		struct pollfd p = {fd, POLLIN, 0};
		ssize_t n = recv(fd, data + done, size - done, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN && poll(&p, 1, 2000) == 1)
			continue;
		if (n <= 0) {
			end = n ? strerrorname_np(errno) : "EOF";
			break;
		}
		done += (size_t)n;
	}
	say(call, "%zu", done);
	say_data(call, data, done);
	say(call, " %s", end);
	free(data);
}

/* drain FD: all there is now, which must be what `fill` has sent: compared by the controller */
static void op_drain(struct call *call)
{
	uint64_t total = 0, hash = HASH_START;
	int fd = arg_fd(call, 1);
	uint8_t chunk[5000];
	const char *end = "empty";
	for (int idle = 0; idle < 3;) {
		ssize_t n = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			idle++; /* what was held back by a closed window comes later */
			usleep(20000);
			continue;
		}
		if (n <= 0) {
			end = n ? strerrorname_np(errno) : "EOF";
			break;
		}
		idle = 0;
		hash = hash_bytes(hash, chunk, (size_t)n);
		total += (uint64_t)n;
	}
	say(call, "%s #%llu:%016llx", end, (unsigned long long)total, (unsigned long long)hash);
}

/* splicein FD SIZE [HOW]: socket to pipe to memory; spliceout FD DATA: memory to pipe to socket */
static void op_splicein(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	const char *how = arg(call, 3, "");
	int pipes[2], fd = arg_fd(call, 1);
	off64_t offset = 0;
	FILE *file = NULL;
	ssize_t n;
	if (pipe(pipes) || !(file = tmpfile())) {
		say_error(call, "pipe");
		return;
	}
	uint8_t *data = calloc(1, size + 1);
	if (!strcmp(how, "sendfile"))
		n = sendfile(pipes[1], fd, NULL, size);
	else if (!strcmp(how, "sendfile-offset"))
		n = sendfile64(pipes[1], fd, &offset, size);
	else if (!strcmp(how, "sendfile-file"))
		n = sendfile(fileno(file), fd, NULL, size);
	else if (!strcmp(how, "file"))
		n = splice(fd, NULL, fileno(file), NULL, size, 0);
	else if (!strcmp(how, "offset"))
		n = splice(fd, NULL, pipes[1], &offset, size, 0);
	else if (!strcmp(how, "wrong-end"))
		n = splice(fd, NULL, pipes[0], NULL, size, 0);
	else
		n = splice(fd, NULL, pipes[1], NULL, size, !strcmp(how, "flags") ? 0x100 : 0);
	say_result(call, n);
	if (n > 0 && read(pipes[0], data, (size_t)n) == n)
		say_data(call, data, (size_t)n);
	close(pipes[0]);
	close(pipes[1]);
	fclose(file);
	free(data);
}

/* odd FD HOW: arguments that the kernel refuses, or that sockets ignore; HOW is what is odd. `sendodd` and `recvodd`. */
static const struct {
	const char *name;
	size_t count, size; /* of the vector, and of each of its pieces */
	int flags;
} odds[] = {{"many", 1025, 1, -1}, {"wrapped", 0x100000001, 1, -1}, {"negative", 1, (size_t)-1, -1}, {"most", 1024, 1, -1},
	{"dsync", 1, 2, RWF_DSYNC}, {"sync", 1, 2, RWF_SYNC}, {"append", 1, 2, RWF_APPEND}, {"hipri", 1, 2, RWF_HIPRI},
	{"unknown", 1, 2, 1 << 20}, {"plus-many", 1025, 1, 0}, {"plus-negative", 1, (size_t)-1, 0}};

static void odd(struct call *call, bool sends)
{
	static struct iovec iov[1026];
	static uint8_t data[1026];
	int fd = arg_fd(call, 1);
	const char *how = arg(call, 2, "");
	for (size_t i = 0; i < sizeof odds / sizeof *odds; i++) {
		if (strcmp(how, odds[i].name))
			continue;
		for (size_t j = 0; j < 1026; j++) {
			data[j] = (uint8_t)('a' + j % 26);
			iov[j] = (struct iovec){data + j, odds[i].size};
		}
		struct msghdr message = {.msg_iov = iov, .msg_iovlen = odds[i].count};
		if (odds[i].flags < 0)
			say_result(call, sends ? sendmsg(fd, &message, 0) : recvmsg(fd, &message, MSG_DONTWAIT));
		else
			say_result(call, sends ? pwritev2(fd, iov, (int)odds[i].count, -1, odds[i].flags)
					       : preadv2(fd, iov, (int)odds[i].count, -1, odds[i].flags));
		return;
	}
	say_error(call, "no such oddity");
}

static void op_sendodd(struct call *call)
{
	odd(call, true);
}

static void op_recvodd(struct call *call)
{
	odd(call, false);
}

static void op_spliceout(struct call *call)
{
	size_t length;
	int pipes[2], fd = arg_fd(call, 1);
	uint8_t *data = arg_data(call, 2, &length);
	if (pipe(pipes) || write(pipes[1], data, length) != (ssize_t)length) {
		say_error(call, "pipe");
		return;
	}
	say_result(call, splice(pipes[0], NULL, fd, NULL, length, 0));
	close(pipes[0]);
	close(pipes[1]);
	free(data);
}

/* ---- amounts ---------------------------------------------------------------------------------------------------- */

static void amount(struct call *call, unsigned long request)
{
	int value = -7;
	int result = ioctl(arg_fd(call, 1), request, &value);
	if (result)
		say_result(call, result);
	else
		say(call, "%d", value);
}

static void op_inq(struct call *call)
{
	amount(call, FIONREAD);
}

static void op_outq(struct call *call)
{
	amount(call, SIOCOUTQ);
}

static void op_outqnsd(struct call *call)
{
	amount(call, SIOCOUTQNSD);
}

/* atmark FD */
static void op_atmark(struct call *call)
{
	say_result(call, sockatmark(arg_fd(call, 1)));
}

/* One byte, whether or not the descriptor blocks. */
static int byte_io(int fd, uint8_t *byte, int sending)
{
	for (;;) {
		ssize_t n = sending ? send(fd, byte, 1, 0) : recv(fd, byte, 1, MSG_WAITALL);
		if (n >= 0 || errno != EAGAIN)
			return n == 1;
		struct pollfd p = {fd, sending ? POLLOUT : POLLIN, 0};
		poll(&p, 1, 5000);
	}
}

/* warm FD FIRST ROUNDS: one byte to and fro; FIRST is 1 at the end that begins */
static void op_warm(struct call *call)
{
	int fd = arg_fd(call, 1);
	long first = arg_number(call, 2, 0), rounds = arg_number(call, 3, 40);
	uint8_t byte = 0;
	for (long i = 0; i < rounds; i++) {
		if (first && !byte_io(fd, &byte, 1))
			break;
		if (!byte_io(fd, &byte, 0))
			break;
		if (!first) {
			byte++;
			if (!byte_io(fd, &byte, 1))
				break;
		}
	}
	say(call, "%u", byte);
}

/* aioread FD SIZE: by a thread of libc */
static void op_aioread(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	uint8_t *data = calloc(1, size + 1);
	struct aiocb request = {.aio_fildes = arg_fd(call, 1), .aio_buf = data, .aio_nbytes = size};
	const struct aiocb *list[] = {&request};
	if (aio_read(&request) == 0 && aio_suspend(list, 1, NULL) == 0 && aio_error(&request) == 0)
		received(call, aio_return(&request), data, size);
	else
		say(call, "error %d", aio_error(&request));
	free(data);
}

/* ioread FD SIZE: by the kernel */
static void op_ioread(struct call *call)
{
	size_t size = (size_t)arg_number(call, 2, 4096);
	uint8_t *data = calloc(1, size + 1);
	aio_context_t context = 0;
	struct iocb request = {.aio_fildes = (uint32_t)arg_fd(call, 1), .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (uintptr_t)data,
		.aio_nbytes = size}, *list[] = {&request};
	struct io_event event = {0};
	syscall(SYS_io_setup, 1, &context);
	if (syscall(SYS_io_submit, context, 1, list) == 1 && syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1)
		received(call, event.res, data, size);
	else
		say_result(call, -1);
	syscall(SYS_io_destroy, context);
	free(data);
}

/* iopoll FD: for bytes, by the kernel */
static void op_iopoll(struct call *call)
{
	aio_context_t context = 0;
	struct iocb request = {.aio_fildes = (uint32_t)arg_fd(call, 1), .aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN}, *list[] = {&request};
	struct io_event event = {0};
	syscall(SYS_io_setup, 1, &context);
	if (syscall(SYS_io_submit, context, 1, list) == 1 && syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1)
		say(call, "%llx", (long long)event.res);
	else
		say_result(call, -1);
	syscall(SYS_io_destroy, context);
}

/* iorefused FD: to read, by the kernel, what it refuses: a list and a request that are not there, an unknown operation, and a good
 * request after one that is not there */
static void op_iorefused(struct call *call)
{
	char byte;
	aio_context_t context = 0;
	struct iocb good = {.aio_fildes = (uint32_t)arg_fd(call, 1), .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (uintptr_t)&byte, .aio_nbytes = 1};
	struct iocb unknown = good, *nothing = (struct iocb *)8, *lists[][2] = {{nothing, &good}, {&unknown, &good}};
	unknown.aio_lio_opcode = 99;
	syscall(SYS_io_setup, 2, &context);
	say_result(call, syscall(SYS_io_submit, context, 1, nothing));
	say_result(call, syscall(SYS_io_submit, context, -1, NULL));
	for (int i = 0; i < 2; i++)
		say_result(call, syscall(SYS_io_submit, context, 2, lists[i]));
	syscall(SYS_io_destroy, context);
}

const struct op ops_recv[] = {{"recv", op_recv}, {"recvchk", op_recvchk}, {"readchk", op_readchk}, {"read", op_read},
	{"readv", op_readv}, {"recvfrom", op_recvfrom}, {"recvmsg", op_recvmsg}, {"recvmmsg", op_recvmmsg},
	{"recvall", op_recvall}, {"gather", op_gather}, {"drain", op_drain}, {"splicein", op_splicein},
	{"sendodd", op_sendodd}, {"recvodd", op_recvodd}, {"spliceout", op_spliceout},
	{"inq", op_inq}, {"outq", op_outq}, {"outqnsd", op_outqnsd}, {"atmark", op_atmark}, {"warm", op_warm},
	{"aioread", op_aioread}, {"ioread", op_ioread}, {"iopoll", op_iopoll}, {"iorefused", op_iorefused},
	{NULL, NULL}};
