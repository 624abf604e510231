/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/cmd/show.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/cmd/table.h"
#include "shim/core/report.h"

#define JSON_SIZE 4096 /* all members of a report at their longest */

const char *show_address(char text[static SHOW_ADDRESS_SIZE], const struct sockaddr_in6 *address)
{
	char host[INET6_ADDRSTRLEN] = "?";
	unsigned port = ntohs(address->sin6_port);

	text[0] = '\0';
	if (address->sin6_family != AF_INET6)
		return text;
	if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
		inet_ntop(AF_INET, &address->sin6_addr.s6_addr[12], host, sizeof(host));
		snprintf(text, SHOW_ADDRESS_SIZE, "%s:%u", host, port);
	} else {
		char scope[16] = "";

		if (address->sin6_scope_id)
			snprintf(scope, sizeof(scope), "%%%" PRIu32, address->sin6_scope_id);
		inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host));
		snprintf(text, SHOW_ADDRESS_SIZE, "[%s%s]:%u", host, scope, port);
	}
	return text;
}

static int compare_addresses(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b)
{
	int order = memcmp(&a->sin6_addr, &b->sin6_addr, sizeof(a->sin6_addr));
	unsigned left = ntohs(a->sin6_port), right = ntohs(b->sin6_port);

	return order ? order : (left > right) - (left < right);
}

static int by_address(const void *a, const void *b)
{
	const struct state_stream *left = a, *right = b;
	int order = compare_addresses(&left->local, &right->local);

	if (!order)
		order = compare_addresses(&left->remote, &right->remote);
	return order ? order : (left->fd > right->fd) - (left->fd < right->fd);
}

static void sort_streams(struct snapshot *snapshot)
{
	if (snapshot->count)
		qsort(snapshot->streams, snapshot->count, sizeof(*snapshot->streams), by_address);
}

static void sum_process(struct report_sums *sums, const struct process *process)
{
	const struct snapshot *snapshot = &process->snapshot;

	if (process->shows)
		report_sum(sums, &snapshot->totals, snapshot->streams, snapshot->count);
	else
		*sums = (struct report_sums){0};
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

static const struct table_column process_columns[] = {
	{.name = "PID", .right = true},
	{.name = "PROGRAM"},
	{.name = "CONNECTIONS", .right = true},
	{.name = "STREAMS", .right = true},
	{.name = "RING-BYTES", .right = true},
	{.name = "TCP-BYTES", .right = true},
	{.name = "RUNG", .right = true},
	{.name = "HEARD", .right = true},
	{.name = "SPINS", .right = true},
	{.name = "HITS", .right = true},
	{.name = "SLEEPS", .right = true},
};

static const struct table_column stream_columns[] = {
	{.name = "PID", .right = true},
	{.name = "PROGRAM"},
	{.name = "LOCAL"},
	{.name = "REMOTE"},
	{.name = "PEER", .right = true},
	{.name = "DIRECTION"},
	{.name = "WAY"},
	{.name = "RING-BYTES", .right = true},
	{.name = "TCP-BYTES", .right = true},
	{.name = "RING-SIZE", .right = true},
	{.name = "REASON"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(COUNT(process_columns) <= TABLE_COLUMNS && COUNT(stream_columns) <= TABLE_COLUMNS, "columns");

static void add_process(struct table *table, const struct process *process)
{
	struct report_sums sums;

	sum_process(&sums, process);
	table_number(table, (uint64_t)process->pid);
	table_text(table, process->program);
	table_number(table, sums.connections);
	table_number(table, sums.streams);
	table_number(table, sums.tx_ring + sums.rx_ring);
	table_number(table, sums.tx_tcp + sums.rx_tcp);
	table_number(table, sums.doorbells_rung);
	table_number(table, sums.doorbells_heard);
	table_number(table, sums.spins);
	table_number(table, sums.spin_hits);
	table_number(table, sums.sleeps);
}

static void add_direction(struct table *table, const struct process *process, const struct state_stream *stream,
	bool sending)
{
	const struct state_direction *direction = sending ? &stream->tx : &stream->rx;
	char local[SHOW_ADDRESS_SIZE], remote[SHOW_ADDRESS_SIZE];

	table_number(table, (uint64_t)process->pid);
	table_text(table, process->program);
	table_text(table, show_address(local, &stream->local));
	table_text(table, show_address(remote, &stream->remote));
	if (stream->peer_pid)
		table_number(table, stream->peer_pid);
	else
		table_text(table, NULL);
	table_text(table, sending ? "send" : "receive");
	table_text(table, direction->up ? "up" : "tcp");
	table_number(table, direction->ring_bytes);
	table_number(table, direction->tcp_bytes);
	table_number(table, direction->ring_size);
	table_text(table, direction->up ? NULL : state_reason_text(direction->reason ? direction->reason : NN_REASONS));
}

bool show_tables(struct process_list *list)
{
	struct table processes, streams;
	bool done;

	table_begin(&processes, process_columns, COUNT(process_columns));
	table_begin(&streams, stream_columns, COUNT(stream_columns));
	for (struct process *process = list->processes; process < list->processes + list->count; process++) {
		sort_streams(&process->snapshot);
		add_process(&processes, process);
		for (size_t i = 0; i < process->snapshot.count; i++) {
			add_direction(&streams, process, &process->snapshot.streams[i], true);
			add_direction(&streams, process, &process->snapshot.streams[i], false);
		}
	}
	done = !processes.failed && !streams.failed;
	if (!done)
		fputs("notnets: out of memory\n", stderr);
	if (done && processes.count)
		table_print(&processes);
	if (done && streams.count) {
		putchar('\n');
		table_print(&streams);
	}
	table_free(&processes);
	table_free(&streams);
	return done;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void print_string(const char *string)
{
	char bytes[JSON_SIZE];
	struct text text = {.bytes = bytes, .size = sizeof(bytes)};

	text_json(&text, string, strlen(string));
	printf("\"%.*s\"", (int)text.length, bytes);
}

static void print_address(const char *name, const struct sockaddr_in6 *address)
{
	char text[SHOW_ADDRESS_SIZE];

	printf(",\"%s\":", name);
	if (*show_address(text, address))
		print_string(text);
	else
		fputs("null", stdout);
}

static void print_direction(const char *name, const struct state_direction *direction)
{
	printf(",\"%s\":{\"way\":\"%s\",\"reason\":", name, direction->up ? "up" : "tcp");
	if (direction->up)
		fputs("null", stdout);
	else
		print_string(state_reason_text(direction->reason ? direction->reason : NN_REASONS));
	printf(",\"ring_bytes\":%" PRIu64 ",\"tcp_bytes\":%" PRIu64 ",\"ring_size\":%" PRIu64 ",\"calls\":%" PRIu64
	       ",\"switched_up\":%" PRIu32 ",\"switched_down\":%" PRIu32 "}",
		direction->ring_bytes, direction->tcp_bytes, direction->ring_size, direction->calls, direction->ups,
		direction->downs);
}

static void print_stream(const struct state_stream *stream)
{
	printf("{\"fd\":%" PRId32 ",\"opened_by\":\"%s\"", stream->fd, stream->connector ? "connect" : "accept");
	print_address("local", &stream->local);
	print_address("remote", &stream->remote);
	if (stream->peer_pid)
		printf(",\"peer_pid\":%" PRIu32, stream->peer_pid);
	else
		fputs(",\"peer_pid\":null", stdout);
	print_direction("send", &stream->tx);
	print_direction("receive", &stream->rx);
	putchar('}');
}

static void print_process(struct process *process)
{
	char bytes[JSON_SIZE];
	struct text text = {.bytes = bytes, .size = sizeof(bytes)};
	struct report_sums sums;

	sum_process(&sums, process);
	sort_streams(&process->snapshot);
	report_members(&text, &sums);
	printf("{\"pid\":%d,\"program\":", (int)process->pid);
	print_string(process->program);
	printf(",\"disabled\":%s,%.*s,\"open\":[", process->disabled ? "true" : "false", (int)text.length, bytes);
	for (size_t i = 0; i < process->snapshot.count; i++) {
		fputs(i ? ",\n   " : "\n   ", stdout);
		print_stream(&process->snapshot.streams[i]);
	}
	fputs("]}", stdout);
}

void show_json(struct process_list *list)
{
	fputs("{\"processes\":[", stdout);
	for (size_t i = 0; i < list->count; i++) {
		fputs(i ? ",\n  " : "\n  ", stdout);
		print_process(&list->processes[i]);
	}
	printf("],\n \"not_permitted\":%zu}\n", list->not_permitted);
}
