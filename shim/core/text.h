/* SPDX-License-Identifier: BSD-2-Clause */
/* Text put together in a buffer of the caller's, without stdio. What does not fit is left out, and `cut` says so. */
#ifndef SHIM_CORE_TEXT_H
#define SHIM_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *bytes;
	size_t size;   /* of the buffer */
	size_t length; /* in use; nothing terminates the text */
	bool cut;      /* something did not fit */
};

void text_char(struct text *text, char c);
void text_string(struct text *text, const char *string);
void text_number(struct text *text, uint64_t number); /* decimal */

/* At most `size` bytes of `string`, ending at its first NUL, as the inside of a JSON string: quotes, backslashes and
 * control characters are escaped, and whatever is not UTF-8 becomes U+FFFD. */
void text_json(struct text *text, const char *string, size_t size);

/* Writes it all with one call, without a signal: one may have SIGXFSZ (file size limit) or SIGPIPE for its outcome, whose default is to kill.
 * 0, or -errno; -ENOSPC: a part. */
int text_write(const struct text *text, int fd);

#endif
