/* SPDX-License-Identifier: BSD-2-Clause */
/* A place in the application's scattered buffers. */
#ifndef SHIM_CORE_CURSOR_H
#define SHIM_CORE_CURSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

struct cursor {
	const struct iovec *iov;
	int count;
	size_t offset; /* into iov[0] */
	size_t left;   /* bytes from here to the end */
};

#define CURSOR_MOST 0x7ffff000u /* no call moves more: MAX_RW_COUNT of the kernel */

static inline struct cursor cursor_begin(const struct iovec *iov, int count)
{
	struct cursor cursor = {.iov = iov, .count = count};
	for (int i = 0; i < count; i++)
		cursor.left += iov[i].iov_len;
	if (cursor.left > CURSOR_MOST)
		cursor.left = CURSOR_MOST;
	return cursor;
}

static inline void cursor_skip(struct cursor *cursor, size_t bytes)
{
	cursor->left -= bytes;
	cursor->offset += bytes;
	while (cursor->count && cursor->offset >= cursor->iov->iov_len) {
		cursor->offset -= cursor->iov->iov_len;
		cursor->iov++;
		cursor->count--;
	}
}

/* Contiguous bytes here, at most `limit`. */
static inline size_t cursor_piece(const struct cursor *cursor, size_t limit)
{
	size_t piece = cursor->iov->iov_len - cursor->offset;
	return piece < limit ? piece : limit;
}

/* Copies from the application to `to`. bytes <= cursor->left. */
static inline void cursor_gather(struct cursor *cursor, uint8_t *to, size_t bytes)
{
	while (bytes) {
		size_t piece = cursor_piece(cursor, bytes);
		memcpy(to, (const uint8_t *)cursor->iov->iov_base + cursor->offset, piece);
		cursor_skip(cursor, piece);
		to += piece;
		bytes -= piece;
	}
}

/* Copies to the application from `from`. bytes <= cursor->left. */
static inline void cursor_scatter(struct cursor *cursor, const uint8_t *from, size_t bytes)
{
	while (bytes) {
		size_t piece = cursor_piece(cursor, bytes);
		memcpy((uint8_t *)cursor->iov->iov_base + cursor->offset, from, piece);
		cursor_skip(cursor, piece);
		from += piece;
		bytes -= piece;
	}
}

/* The next `limit` bytes as a vector of at most `max` pieces; returns how many. */
static inline int cursor_vector(const struct cursor *cursor, struct iovec *vector, int max, size_t limit)
{
	struct cursor at = *cursor;
	int count = 0;
	if (limit > at.left)
		limit = at.left;
	while (limit && count < max) {
		size_t piece = cursor_piece(&at, limit);
		vector[count].iov_base = (uint8_t *)at.iov->iov_base + at.offset;
		vector[count++].iov_len = piece;
		cursor_skip(&at, piece);
		limit -= piece;
	}
	return count;
}

#endif
