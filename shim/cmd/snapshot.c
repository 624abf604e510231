/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/cmd/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0, -errno, or -ENODATA when the file ends before. */
static int read_whole(int fd, void *to, size_t size, off_t at)
{
	char *next = to;

	while (size) {
		ssize_t got = pread(fd, next, size, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA;
		next += got;
		at += got;
		size -= (size_t)got;
	}
	return 0;
}

/* Copies the streams that are in use. NULL: out of memory. */
static struct state_stream *copy_used(const struct state_stream *streams, size_t count, size_t *used)
{
	struct state_stream *copy;

	*used = 0;
	for (size_t i = 0; i < count; i++)
		*used += streams[i].in_use == 1;
	copy = calloc(*used ? *used : 1, sizeof(*copy));
	for (size_t i = 0, next = 0; copy && i < count; i++)
		if (streams[i].in_use == 1)
			memcpy(&copy[next++], &streams[i], sizeof(*copy));
	return copy;
}

int snapshot_take(struct snapshot *snapshot, int fd)
{
	static struct state state; /* large, but of its pages only those read into exist */
	const size_t head = offsetof(struct state, streams);
	struct stat status;
	int result;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_size < (off_t)head)
		return SNAPSHOT_FOREIGN;
	result = read_whole(fd, &state, head, 0);
	if (result < 0)
		return result == -ENODATA ? SNAPSHOT_BROKEN : result;
	if (state.magic != STATE_MAGIC)
		return SNAPSHOT_FOREIGN;
	if (state.version != STATE_VERSION || state.stream_size != sizeof(*state.streams))
		return SNAPSHOT_VERSION;
	if (state.stream_top > STATE_STREAMS ||
		((uint64_t)status.st_size - head) / sizeof(*state.streams) < state.stream_top)
		return SNAPSHOT_BROKEN;
	result = read_whole(fd, state.streams, state.stream_top * sizeof(*state.streams), (off_t)head);
	if (result < 0)
		return result == -ENODATA ? SNAPSHOT_BROKEN : result;

	*snapshot = (struct snapshot){.pid = state.pid};
	snapshot->streams = copy_used(state.streams, state.stream_top, &snapshot->count);
	if (!snapshot->streams)
		return -ENOMEM;
	memcpy(&snapshot->totals, &state.totals, sizeof(snapshot->totals));
	memcpy(snapshot->program, state.program, sizeof(state.program));
	return SNAPSHOT_TAKEN;
}

void snapshot_free(struct snapshot *snapshot)
{
	free(snapshot->streams);
	snapshot->streams = NULL;
	snapshot->count = 0;
}
