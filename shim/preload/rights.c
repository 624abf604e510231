/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/preload/rights.h"

#include <string.h>

#include "shim/preload/preload.h"

static void leaving(int fd)
{
	enum nn_kind kind = nn_kind_of(fd);
	if (kind == NN_STREAM || kind == NN_SET)
		nn_passing(fd);
}

/* The application's control data may be malformed; the kernel refuses it later. Lengths are checked by subtraction. */
static void walk(const struct msghdr *msg, void (*each)(int fd))
{
	const char *at = msg->msg_control;
	size_t left = msg->msg_controllen;
	if (!at)
		return;
	while (left >= sizeof(struct cmsghdr)) {
		struct cmsghdr header;
		memcpy(&header, at, sizeof header);
		if (header.cmsg_len < sizeof header || header.cmsg_len > left)
			return;
		if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS)
			for (size_t i = CMSG_LEN(0); i + sizeof(int) <= header.cmsg_len; i += sizeof(int)) {
				int fd;
				memcpy(&fd, at + i, sizeof fd);
				each(fd);
			}
		size_t step = CMSG_ALIGN(header.cmsg_len);
		if (step >= left)
			return;
		at += step;
		left -= step;
	}
}

void rights_walk_leaving(const struct msghdr *msg)
{
	walk(msg, leaving);
}

void rights_walk_arriving(const struct msghdr *msg)
{
	walk(msg, appeared);
}
