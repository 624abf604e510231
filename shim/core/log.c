/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/log.h"

#include "shim/core/process.h"
#include "shim/core/stream.h"
#include "shim/core/sys.h"
#include "shim/core/text.h"

#define LINE 256

static bool wanted(enum log_level level)
{
	return nn_config.log_level >= (uint32_t)level && nn_config.log_fd >= 0;
}

static struct text begin(char line[LINE])
{
	struct text text = {.bytes = line, .size = LINE - 1};
	text_string(&text, "notnets: ");
	text_number(&text, (uint64_t)sys_call0(SYS_getpid));
	text_string(&text, ": ");
	return text;
}

static void end(struct text *text)
{
	text->bytes[text->length++] = '\n';
	text_write(text, nn_config.log_fd);
}

void nn_log(enum log_level level, const char *message, long number)
{
	if (!wanted(level))
		return;
	char line[LINE];
	struct text text = begin(line);
	text_string(&text, message);
	text_char(&text, ' ');
	if (number < 0)
		text_char(&text, '-');
	text_number(&text, number < 0 ? -(uint64_t)number : (uint64_t)number);
	end(&text);
}

static void put_group(struct text *text, unsigned group)
{
	bool begun = false;
	for (int shift = 12; shift >= 0; shift -= 4) {
		unsigned digit = group >> shift & 15;
		begun |= digit || !shift;
		if (begun)
			text_char(text, "0123456789abcdef"[digit]);
	}
}

/* Groups of zeros are written out: there is no libc here. */
static void put_address(struct text *text, const struct sockaddr_in6 *address)
{
	const uint8_t *bytes = address->sin6_addr.s6_addr;
	const uint8_t *port = (const uint8_t *)&address->sin6_port;
	if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
		for (int i = 12; i < 16; i++) {
			text_number(text, bytes[i]);
			text_char(text, i < 15 ? '.' : ':');
		}
	} else {
		for (int i = 0; i < 16; i += 2) {
			text_char(text, i ? ':' : '[');
			put_group(text, (unsigned)bytes[i] << 8 | bytes[i + 1]);
		}
		text_string(text, "]:");
	}
	text_number(text, (uint64_t)port[0] << 8 | port[1]);
}

void nn_log_stream(const struct nn_stream *stream, const char *what, enum nn_reason reason)
{
	if (!wanted(LOG_INFO))
		return;
	char line[LINE];
	struct text text = begin(line);
	text_string(&text, "fd ");
	text_number(&text, (uint64_t)stream->shown->fd);
	if (stream->remote.sin6_family) {
		text_string(&text, ", ");
		put_address(&text, &stream->local);
		text_string(&text, " to ");
		put_address(&text, &stream->remote);
	}
	text_string(&text, ": ");
	text_string(&text, what);
	if (reason != NN_REASON_NONE) {
		text_string(&text, ", ");
		text_string(&text, state_reason_text(reason));
	}
	end(&text);
}
