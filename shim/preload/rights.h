/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors that travel in control messages (SCM_RIGHTS). Both look at msg_controllen first: most messages end there. */
#ifndef SHIM_PRELOAD_RIGHTS_H
#define SHIM_PRELOAD_RIGHTS_H

#include <sys/socket.h>

void rights_walk_leaving(const struct msghdr *msg);
void rights_walk_arriving(const struct msghdr *msg);

/* Before a message is sent: what it carries goes to another process. */
static inline void rights_leave(const struct msghdr *msg)
{
	if (msg && __builtin_expect(msg->msg_controllen >= sizeof(struct cmsghdr), 0))
		rights_walk_leaving(msg);
}

/* After a message was received: new numbers. */
static inline void rights_arrive(const struct msghdr *msg)
{
	if (__builtin_expect(msg->msg_controllen >= sizeof(struct cmsghdr), 0))
		rights_walk_arriving(msg);
}

#endif
