/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that move bytes between two descriptors, and requests that libc serves on threads of its own. */
#include "shim/preload/preload.h"

#include <string.h>
#include <sys/sendfile.h>

#include "shim/core/state.h"
#include "shim/core/sys.h"

/* No cancellation point, even where it waits. */
static ssize_t send_file(int out, int in, off_t *offset, size_t count)
{
	int cancellable;
	ssize_t result;
	struct nn_io io;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
	result = SERVED(io, nn_sendfile(&io, out, in, offset, count), real.sendfile(out, in, offset, count));
	pthread_setcancelstate(cancellable, NULL);
	return result;
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	if (!is_stream(out) && !is_stream(in))
		return real.sendfile(out, in, offset, count);
	return send_file(out, in, offset, count);
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
	if (!is_stream(out) && !is_stream(in))
		return real.sendfile64(out, in, offset, count);
	return send_file(out, in, offset, count);
}

EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t count, unsigned flags)
{
	if (!is_stream(in) && !is_stream(out))
		return real.splice(in, in_offset, out, out_offset, count, flags);
	struct nn_io io;
	SERVE_OR_END(io, nn_splice(&io, in, in_offset, out, out_offset, count, flags),
		real.splice(in, in_offset, out, out_offset, count, flags));
}

#define REQUESTS 16 /* looked at in one go */

/* Asynchronous requests run later, in libc or the kernel, where no wrapper sees them. */
#define ASYNCHRONOUS(name, request_type, sends) \
	EXPORT int name(struct request_type *request) \
	{ \
		if (is_stream(request->aio_fildes)) \
			nn_unseen(request->aio_fildes, sends); \
		return real.name(request); \
	}
ASYNCHRONOUS(aio_read, aiocb, false)
ASYNCHRONOUS(aio_write, aiocb, true)
ASYNCHRONOUS(aio_read64, aiocb64, false)
ASYNCHRONOUS(aio_write64, aiocb64, true)

#define ASYNCHRONOUS_LIST(name, request_type) \
	EXPORT int name(int mode, struct request_type *const *list, int count, struct sigevent *event) \
	{ \
		for (int i = 0; i < count; i++) \
			if (list[i] && list[i]->aio_lio_opcode != LIO_NOP && is_stream(list[i]->aio_fildes)) \
				nn_unseen(list[i]->aio_fildes, list[i]->aio_lio_opcode == LIO_WRITE); \
		return real.name(mode, list, count, event); \
	}
ASYNCHRONOUS_LIST(lio_listio, aiocb)
ASYNCHRONOUS_LIST(lio_listio64, aiocb64)

/* What the kernel will read of the caller's memory: as far as there is any, in bytes. */
static size_t peek_at(const struct iovec *there, size_t pieces, void *to, size_t size)
{
	struct iovec here = {to, size};
	long outcome = sys_call6(SYS_process_vm_readv, sys_call0(SYS_getpid), &here, 1, there, pieces, 0);
	if (outcome >= 0 || outcome == -EFAULT)
		return outcome < 0 ? 0 : (size_t)outcome;
	/* A filter forbids it. */
	size_t done = 0;
	for (size_t i = 0; i < pieces; done += there[i++].iov_len)
		memcpy((char *)to + done, there[i].iov_base, there[i].iov_len);
	return done;
}

/* The requests that are the next of the list, up to the first that the kernel cannot read; so many of them. */
static size_t requests_of(struct iocb *const *list, size_t most, struct iocb *requests)
{
	struct iocb *at[REQUESTS];
	struct iovec pieces[REQUESTS] = {{(void *)list, most * sizeof *at}};
	size_t count = peek_at(pieces, 1, at, most * sizeof *at) / sizeof *at;
	for (size_t i = 0; i < count; i++)
		pieces[i] = (struct iovec){at[i], sizeof **at};
	return count ? peek_at(pieces, count, requests, count * sizeof *requests) / sizeof *requests : 0;
}

static void submitting(const struct iocb *request)
{
	const int fd = (int)request->aio_fildes;
	if (!is_stream(fd))
		return;
	switch (request->aio_lio_opcode) {
	case IOCB_CMD_POLL:
		nn_stay_tcp(fd, NN_REASON_CALL);
		break;
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PREADV:
		nn_unseen(fd, false);
		break;
	case IOCB_CMD_PWRITE:
	case IOCB_CMD_PWRITEV:
		nn_unseen(fd, true);
		break;
	default: /* the kernel refuses it for a socket */
		break;
	}
}

/* As libaio's: -errno. */
EXPORT int io_submit(aio_context_t context, long count, struct iocb **list)
{
	struct iocb requests[REQUESTS];
	for (long done = 0; nn_connections() && done < count;) {
		size_t most = count - done < REQUESTS ? (size_t)(count - done) : REQUESTS;
		size_t known = requests_of(list + done, most, requests);
		for (size_t i = 0; i < known; i++)
			submitting(&requests[i]);
		if (known < most)
			break;
		done += (long)known;
	}
	return (int)sys_call3(SYS_io_submit, context, count, list);
}
