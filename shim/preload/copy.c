/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that move bytes between two descriptors, and requests that libc serves on threads of its own. */
#include "shim/preload/preload.h"

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
	if (nn_sendfile(&io, out, in, offset, count) == NN_RAW) {
		result = real.sendfile(out, in, offset, count);
		result = answer(nn_raw_done(&io, result < 0 ? -errno : result));
	} else {
		result = answer(io.result);
	}
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

/* As libaio's: -errno. */
EXPORT int io_submit(aio_context_t context, long count, struct iocb **list)
{
	for (long i = 0; i < count && list; i++) {
		const struct iocb *request = list[i];
		const int fd = request ? (int)request->aio_fildes : -1;
		if (!is_stream(fd))
			continue;
		const int what = request->aio_lio_opcode;
		if (what == IOCB_CMD_POLL)
			nn_stay_tcp(fd, NN_REASON_CALL);
		else
			nn_unseen(fd, what == IOCB_CMD_PWRITE || what == IOCB_CMD_PWRITEV);
	}
	return (int)sys_call3(SYS_io_submit, context, count, list);
}
