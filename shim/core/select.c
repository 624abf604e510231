/* SPDX-License-Identifier: BSD-2-Clause */
/* select(2), by way of poll. */
#include <errno.h>
#include <sys/mman.h>

#include "shim/core/process.h"
#include "shim/core/stall.h"
#include "shim/core/sys.h"

#define FEW 32u /* lists up to this length live on the stack */
#define SELECT_IN (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EXCEPT (POLLPRI)

/* FD_ISSET and its kin may be fortified against numbers above FD_SETSIZE; programs do use larger sets. */
static bool bit_get(const fd_set *set, int fd)
{
	return set && (((const unsigned long *)set)[fd / 64] >> (fd % 64) & 1);
}

static void bit_set(fd_set *set, int fd)
{
	((unsigned long *)set)[fd / 64] |= 1ul << (fd % 64);
}

static void bits_clear(fd_set *set, int count)
{
	for (int i = 0; set && i < (count + 63) / 64; i++)
		((unsigned long *)set)[i] = 0;
}

int nn_select(struct nn_io *io, int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
	const sigset_t *mask)
{
	io->stream = NULL;
	io->counted = false;
	int watched = 0;
	bool streams = false;
	if (count < 0 || (unsigned)count > NN_FD_MAX)
		return NN_RAW;
	for (int fd = 0; fd < count; fd++)
		if (bit_get(in, fd) || bit_get(out, fd) || bit_get(except, fd)) {
			watched++;
			streams |= nn_kind_of(fd) == NN_STREAM;
			if (nn_kind_of(fd) == NN_SET) {
				nn_passing(fd);
				streams |= stall_any();
			}
		}
	if (!streams)
		return NN_RAW;
	struct pollfd few[FEW], *fds = few;
	size_t bytes = (size_t)watched * sizeof *fds;
	if ((unsigned)watched > FEW && !(fds = process_memory(bytes)))
		return NN_RAW;
	int used = 0;
	for (int fd = 0; fd < count; fd++) {
		short events = (short)((bit_get(in, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
				       (bit_get(out, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
				       (bit_get(except, fd) ? POLLPRI : 0));
		if (events)
			fds[used++] = (struct pollfd){.fd = fd, .events = events};
	}
	int outcome = nn_poll(io, fds, (nfds_t)used, timeout, mask);
	bool bad = false;
	for (int i = 0; outcome == NN_DONE && io->result >= 0 && i < used; i++)
		bad |= fds[i].revents & POLLNVAL;
	if (bad)
		io->result = -EBADF;
	if (outcome == NN_DONE && io->result >= 0) {
		long ready = 0;
		/* The sets are results now; what was asked is in fds[i].events. */
		bits_clear(in, count);
		bits_clear(out, count);
		bits_clear(except, count);
		for (int i = 0; i < used; i++) {
			if ((fds[i].events & POLLIN) && (fds[i].revents & SELECT_IN)) {
				bit_set(in, fds[i].fd);
				ready++;
			}
			if ((fds[i].events & POLLOUT) && (fds[i].revents & SELECT_OUT)) {
				bit_set(out, fds[i].fd);
				ready++;
			}
			if ((fds[i].events & POLLPRI) && (fds[i].revents & SELECT_EXCEPT)) {
				bit_set(except, fds[i].fd);
				ready++;
			}
		}
		io->result = ready;
	}
	if (fds != few)
		sys_call2(SYS_munmap, fds, bytes);
	return outcome;
}
