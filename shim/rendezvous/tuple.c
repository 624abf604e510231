/* SPDX-License-Identifier: BSD-2-Clause */
/* The addresses of a connection: IPv4 as v4-mapped, and always as its connector sees them. */
#include "shim/rendezvous/private.h"

#include <errno.h>
#include <string.h>

#include "shim/core/sys.h"

static int normalise(const struct sockaddr_storage *from, struct sockaddr_in6 *to)
{
	memset(to, 0, sizeof(*to));
	to->sin6_family = AF_INET6;
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;

		to->sin6_port = v4->sin_port;
		to->sin6_addr.s6_addr[10] = to->sin6_addr.s6_addr[11] = 0xff;
		memcpy(to->sin6_addr.s6_addr + 12, &v4->sin_addr, 4);
		return 0;
	}
	if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;

		to->sin6_port = v6->sin6_port;
		to->sin6_addr = v6->sin6_addr;
		to->sin6_scope_id = v6->sin6_scope_id;
		return 0;
	}
	return -EAFNOSUPPORT;
}

int tuple_learn(struct nn_stream *stream)
{
	struct sockaddr_storage local, remote;
	struct sockaddr_in6 local6, remote6;
	socklen_t local_length = sizeof(local), remote_length = sizeof(remote);
	long error = sys_call3(SYS_getpeername, stream->fd, &remote, &remote_length);

	if (error < 0)
		return (int)error;
	error = sys_call3(SYS_getsockname, stream->fd, &local, &local_length);
	if (error < 0)
		return (int)error;
	error = normalise(&local, &local6);
	if (!error)
		error = normalise(&remote, &remote6);
	if (error)
		return (int)error;
	stream->local = local6;
	stream->remote = remote6;
	return 0;
}

void tuple_of(const struct nn_stream *stream, struct tuple *tuple)
{
	const struct sockaddr_in6 *local = stream->connector ? &stream->local : &stream->remote;
	const struct sockaddr_in6 *remote = stream->connector ? &stream->remote : &stream->local;

	memcpy(tuple->local, &local->sin6_addr, 16);
	memcpy(tuple->remote, &remote->sin6_addr, 16);
	tuple->local_port = local->sin6_port;
	tuple->remote_port = remote->sin6_port;
}

bool tuple_same(const struct tuple *a, const struct tuple *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}
