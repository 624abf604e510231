/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/text.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "shim/core/sys.h"

void text_char(struct text *text, char c)
{
	if (text->length < text->size)
		text->bytes[text->length++] = c;
	else
		text->cut = true;
}

void text_string(struct text *text, const char *string)
{
	for (; *string; string++)
		text_char(text, *string);
}

void text_number(struct text *text, uint64_t number)
{
	char digits[20];
	unsigned count = 0;

	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	while (count)
		text_char(text, digits[--count]);
}

/* How many bytes the UTF-8 character at the start of `s` has; 0 when it is none (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF). */
static size_t utf8_length(const unsigned char *s, size_t size)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf8 ? 4 : 0;
	uint32_t point;

	if (length < 2 || length > size)
		return length == 1;
	point = s[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (s[i] & 0x3f);
	}
	return point < least[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) ? 0 : length;
}

void text_json(struct text *text, const char *string, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)string;

	while (size && *s) {
		size_t length = utf8_length(s, size);

		if (*s == '"' || *s == '\\') {
			text_char(text, '\\');
			text_char(text, (char)*s);
		} else if (*s < 0x20 || *s == 0x7f) {
			text_string(text, "\\u00");
			text_char(text, hex[*s >> 4]);
			text_char(text, hex[*s & 15]);
		} else if (!length) {
			text_string(text, "\\ufffd");
		} else {
			for (size_t i = 0; i < length; i++)
				text_char(text, (char)s[i]);
		}
		length = length ? length : 1;
		s += length;
		size -= length;
	}
}

int text_write(const struct text *text, int fd)
{
	static const struct timespec at_once;
	uint64_t quiet = 1ull << (SIGXFSZ - 1) | 1ull << (SIGPIPE - 1), before, pending = 0;
	long held = sys_call4(SYS_rt_sigprocmask, SIG_BLOCK, &quiet, &before, sizeof(quiet));
	long written;

	/* Taken away after a failure, unless one was pending before. */
	sys_call2(SYS_rt_sigpending, &pending, sizeof(pending));
	do
		written = sys_call3(SYS_write, fd, text->bytes, text->length);
	while (written == -EINTR);
	quiet &= ~pending;
	if (!held) {
		if ((written == -EFBIG || written == -EPIPE) && quiet)
			sys_call4(SYS_rt_sigtimedwait, &quiet, NULL, &at_once, sizeof(quiet));
		sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before));
	}
	return written < 0 ? (int)written : (size_t)written < text->length ? -ENOSPC : 0;
}
