/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/cmd/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/cmd/cmd.h"

#define STATE_LINK "/memfd:" STATE_NAME " (deleted)"
#define KERNEL_THREAD 0x00200000u /* PF_KTHREAD of the flags in /proc/PID/stat */

struct look {
	pid_t pid;
	uint32_t inner_pid; /* as the process itself knows it */
	int dir;            /* /proc/PID */
};

static FILE *open_text(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (!file && fd >= 0)
		close(fd);
	return file;
}

/* The last number of NSpid: a process in a PID namespace of its own writes that one in its state. */
static uint32_t read_inner_pid(int dir, pid_t pid)
{
	unsigned long inner = (unsigned long)pid;
	FILE *file = open_text(dir, "status");
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		char *number;

		if (strncmp(line, "NSpid:", 6) != 0)
			continue;
		number = strrchr(line, '\t');
		if (number)
			inner = strtoul(number, NULL, 10);
		break;
	}
	if (file)
		fclose(file);
	return (uint32_t)inner;
}

/* Kernel threads and zombies have no memory of their own to look into. */
static bool has_memory(int dir)
{
	FILE *file = open_text(dir, "stat");
	char line[1024], *end = NULL, letter;
	unsigned flags;
	bool result = true;

	if (file && fgets(line, sizeof(line), file))
		end = strrchr(line, ')'); /* the name before may hold anything */
	if (end && sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", &letter, &flags) == 2)
		result = letter != 'Z' && letter != 'X' && !(flags & KERNEL_THREAD);
	if (file)
		fclose(file);
	return result;
}

/* 1: the library is mapped, 0: not, -errno. */
static int has_library(int dir)
{
	FILE *file = open_text(dir, "maps");
	char *line = NULL;
	size_t size = 0;
	int found = 0;

	if (!file)
		return -errno;
	while (!found && getline(&line, &size, file) >= 0) {
		const char *name = strrchr(line, '/');

		found = name && strncmp(name + 1, CMD_LIBRARY, sizeof(CMD_LIBRARY) - 1) == 0;
	}
	free(line);
	fclose(file);
	return found;
}

/* As the shim judges it (config_disabled). */
static bool is_disabled(int dir)
{
	static const char name[] = "NOTNETS_DISABLE=";
	FILE *file = open_text(dir, "environ");
	char *entry = NULL;
	size_t size = 0;
	bool found = false, disabled = false;

	while (file && !found && getdelim(&entry, &size, '\0', file) >= 0) {
		found = strncmp(entry, name, sizeof(name) - 1) == 0;
		disabled = found && entry[sizeof(name) - 1] && strcmp(entry + sizeof(name) - 1, "0") != 0;
	}
	free(entry);
	if (file)
		fclose(file);
	return disabled;
}

static void read_name(int dir, char *name, size_t size)
{
	FILE *file = open_text(dir, "comm");

	name[0] = '\0';
	if (file && fgets(name, (int)size, file))
		name[strcspn(name, "\n")] = '\0';
	if (file)
		fclose(file);
}

/* Takes a snapshot through one number of /proc/PID/fd. True: it is this process's own state and no other need be tried.
 * A child has its parent's open too, until it makes one itself. */
static bool try_state(struct process *process, const struct look *look, int fds, const char *number)
{
	struct snapshot snapshot;
	char link[sizeof(STATE_LINK)];
	int fd, result;

	if (readlinkat(fds, number, link, sizeof(link)) != (ssize_t)sizeof(STATE_LINK) - 1 ||
		memcmp(link, STATE_LINK, sizeof(STATE_LINK) - 1) != 0)
		return false;
	/* The number may name something else by now: do not block, nor become its terminal. */
	fd = openat(fds, number, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return false;
	result = snapshot_take(&snapshot, fd);
	close(fd);
	process->alien = process->alien || result == SNAPSHOT_VERSION;
	if (result != SNAPSHOT_TAKEN)
		return false;
	if (snapshot.pid != look->inner_pid) {
		snapshot_free(&snapshot);
		return false;
	}
	process->snapshot = snapshot;
	process->shows = true;
	process->alien = false;
	return true;
}

/* 0 or -errno. */
static int find_state(struct process *process, const struct look *look)
{
	int fd = openat(look->dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return -error;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && try_state(process, look, dirfd(dir), entry->d_name))
			break;
	closedir(dir);
	return 0;
}

static int append(struct process_list *list, const struct process *process)
{
	struct process *grown = reallocarray(list->processes, list->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	list->processes = grown;
	grown[list->count++] = *process;
	return 1;
}

static int look_into(struct process_list *list, const struct look *look)
{
	struct process process = {.pid = look->pid};
	int loaded, result;

	if (!has_memory(look->dir))
		return 0;
	loaded = has_library(look->dir);
	if (loaded < 0)
		return loaded;
	result = find_state(&process, look);
	if (result < 0)
		return result;
	if (!loaded && !process.shows)
		return 0;
	process.disabled = !process.shows && is_disabled(look->dir);
	if (process.shows && process.snapshot.program[0])
		memcpy(process.program, process.snapshot.program, sizeof(process.program));
	else
		read_name(look->dir, process.program, sizeof(process.program));
	result = append(list, &process);
	if (result < 0)
		snapshot_free(&process.snapshot);
	return result;
}

/* `space`: the network namespace it must belong to, NULL for any. */
static int add(struct process_list *list, pid_t pid, const struct stat *space)
{
	char path[32];
	struct look look = {.pid = pid};
	struct stat status;
	int result = 0;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	look.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (look.dir < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (space && !has_memory(look.dir))
		result = 0;
	else if (space && fstatat(look.dir, "ns/net", &status, 0) < 0)
		result = -errno;
	else if (!space || (status.st_dev == space->st_dev && status.st_ino == space->st_ino)) {
		look.inner_pid = read_inner_pid(look.dir, pid);
		result = look_into(list, &look);
	}
	close(look.dir);
	return result == -ENOENT ? -ESRCH : result;
}

int process_add(struct process_list *list, pid_t pid)
{
	return add(list, pid, NULL);
}

static int by_pid(const void *a, const void *b)
{
	pid_t left = ((const struct process *)a)->pid, right = ((const struct process *)b)->pid;

	return (left > right) - (left < right);
}

int process_add_all(struct process_list *list)
{
	struct stat space;
	struct dirent *entry;
	DIR *proc;
	int result = 0;

	if (stat("/proc/self/ns/net", &space) < 0)
		return -errno;
	proc = opendir("/proc");
	if (!proc)
		return -errno;
	while (result >= 0 && (entry = readdir(proc))) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);

		if (*end || pid <= 0 || pid == getpid())
			continue;
		result = add(list, (pid_t)pid, &space);
		if (result == -EACCES || result == -EPERM) {
			list->not_permitted++;
			result = 0;
		} else if (result == -ESRCH) {
			result = 0; /* it has ended meanwhile */
		}
	}
	closedir(proc);
	if (list->count)
		qsort(list->processes, list->count, sizeof(*list->processes), by_pid);
	return result < 0 ? result : 0;
}

void process_list_free(struct process_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		snapshot_free(&list->processes[i].snapshot);
	free(list->processes);
	*list = (struct process_list){0};
}
