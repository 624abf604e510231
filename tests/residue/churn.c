// SPDX-License-Identifier: BSD-2-Clause
/*
 * Many connections one after another, each long enough to be switched, and ended in every way there is. Two processes; each prints,
 * after a first part and at the end, what it holds: descriptors, mappings, memory.
 *
 *     churn serve               prints "PORT n", serves until a connection ends without a byte
 *     churn load PORT COUNT
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS 16
#define SIZE 64

enum ending { LOAD_CLOSES, SERVER_CLOSES, UNREAD, RESET, HALF, ENDINGS };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned lines(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned count = 0;
	int c;

	if (!file)
		die(path);
	while ((c = getc(file)) != EOF)
		count += c == '\n';
	fclose(file);
	return count;
}

static unsigned long status(const char *key)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long value = 0;
	char line[256];

	if (!file)
		die("status");
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtoul(line + strlen(key) + 1, NULL, 10);
	fclose(file);
	return value;
}

static void tell(unsigned long connections)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned fds = 0;

	if (!folder)
		die("fd");
	while (readdir(folder))
		fds++;
	closedir(folder);
	printf("{\"connections\": %lu, \"fds\": %u, \"maps\": %u, \"rss\": %lu, \"virtual\": %lu, \"threads\": %lu}\n", connections, fds,
		lines("/proc/self/maps"), status("VmRSS:"), status("VmSize:"), status("Threads:"));
	fflush(stdout);
}

/* False: the connection has ended. */
static bool receive(int fd, char *buffer)
{
	size_t got = 0;

	while (got < SIZE) {
		ssize_t n = recv(fd, buffer + got, SIZE - got, 0);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

static void finish(int fd, bool load, enum ending ending, char *buffer)
{
	struct linger at_once = {1, 0};
	bool first = load == (ending != SERVER_CLOSES);

	if (ending == UNREAD && !load)
		send(fd, buffer, SIZE, MSG_NOSIGNAL); /* the load never reads it */
	if (ending == RESET && load)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (ending == HALF && load)
		shutdown(fd, SHUT_WR);
	if (!first || ending == HALF)
		while (recv(fd, buffer, SIZE, 0) > 0)
			;
	close(fd);
}

static void serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	unsigned long done = 0;
	char buffer[SIZE];

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 64) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		die("listen");
	printf("PORT %u\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			die("accept");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		for (int i = 0; i < ROUNDS; i++) {
			if (!receive(fd, buffer)) {
				tell(done);
				return;
			}
			if (send(fd, buffer, SIZE, MSG_NOSIGNAL) != SIZE)
				die("echo");
		}
		if (buffer[1])
			tell(done);
		finish(fd, false, (enum ending)buffer[0], buffer);
		done++;
	}
}

static void load(unsigned port, unsigned long count)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (unsigned long i = 0; i <= count; i++) {
		char buffer[SIZE] = {(char)(i % ENDINGS), i == count / 4};
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
			die("connect");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (i == count) {
			close(fd);
			break;
		}
		for (int round = 0; round < ROUNDS; round++)
			if (send(fd, buffer, SIZE, MSG_NOSIGNAL) != SIZE || !receive(fd, buffer))
				die("echo");
		if (i == count / 4)
			tell(i);
		finish(fd, true, (enum ending)(i % ENDINGS), buffer);
	}
	tell(count);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		serve();
	else if (argc == 4 && strcmp(argv[1], "load") == 0)
		load((unsigned)atoi(argv[2]), strtoul(argv[3], NULL, 10));
	else
		return fprintf(stderr, "usage: churn serve | load PORT COUNT\n"), 2;
	return 0;
}
