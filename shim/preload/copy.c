/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that move bytes between two descriptors, and requests that libc serves on threads of its own. */
#include "shim/preload/preload.h"

#include <sys/sendfile.h>

#include "shim/core/state.h"

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

/* Asynchronous requests run later, in libc, where no wrapper sees them. */
#define ASYNCHRONOUS(name, request_type) \
	EXPORT int name(struct request_type *request) \
	{ \
		if (is_stream(request->aio_fildes)) \
			nn_stay_tcp(request->aio_fildes, NN_REASON_CALL); \
		return real.name(request); \
	}
ASYNCHRONOUS(aio_read, aiocb)
ASYNCHRONOUS(aio_write, aiocb)
ASYNCHRONOUS(aio_read64, aiocb64)
ASYNCHRONOUS(aio_write64, aiocb64)

#define ASYNCHRONOUS_LIST(name, request_type) \
	EXPORT int name(int mode, struct request_type *const *list, int count, struct sigevent *event) \
	{ \
		for (int i = 0; i < count; i++) \
			if (list[i] && is_stream(list[i]->aio_fildes)) \
				nn_stay_tcp(list[i]->aio_fildes, NN_REASON_CALL); \
		return real.name(mode, list, count, event); \
	}
ASYNCHRONOUS_LIST(lio_listio, aiocb)
ASYNCHRONOUS_LIST(lio_listio64, aiocb64)
