/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A DAX character device: one device holds everybody's regions, carved after the table of device_table.h.
 *
 * Peers get a descriptor that can only read, but it reads the whole device: who shares a device shares all regions on
 * it. The part we take may hold what another process left there and is zeroed first.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "backend.h"
#include "device_table.h"
#include "sys.h"

static char *put_number(char *at, uint64_t number)
{
	char digits[20];
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	while (count)
		*at++ = digits[--count];
	return at;
}

static char *put_text(char *at, const char *text)
{
	while (*text)
		*at++ = *text++;
	return at;
}

/* Reads a small file; the count without the ending 0, or -errno. */
static int read_file(const char *path, char *text, unsigned size)
{
	int fd = (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	long count;

	if (fd < 0)
		return fd;
	count = arena_sys3(SYS_read, fd, text, size - 1);
	arena_sys_close(fd);
	if (count >= 0)
		text[count] = 0;
	return (int)count;
}

static uint64_t get_number(const char *text)
{
	uint64_t number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (uint64_t)(*text++ - '0');
	return number;
}

/* Start time of a process, field 22 of its stat; 0 when there is no such process. */
static uint64_t process_born(uint64_t pid)
{
	char path[64];
	char text[1024];
	const char *at = text;

	memcpy(put_text(put_number(put_text(path, "/proc/"), pid), "/stat"), "", 1);
	if (read_file(path, text, sizeof text) <= 0)
		return 0;
	/* The name, field 2, may contain spaces and parentheses; what follows the last ')' does not. */
	for (const char *scan = text; *scan; scan++)
		if (*scan == ')')
			at = scan;
	for (unsigned field = 2; *at && field < 22; at++)
		field += *at == ' ';
	return get_number(at);
}

static bool alive(uint64_t pid, uint64_t born)
{
	return process_born(pid) == born;
}

/* Bytes of the device, 0 when it is no DAX device. */
static uint64_t device_length(int fd)
{
	struct stat status = {0};
	char path[96];
	char text[32];
	char *at;

	if (arena_sys2(SYS_fstat, fd, &status) || !S_ISCHR(status.st_mode))
		return 0;
	at = put_number(put_text(path, "/sys/dev/char/"), major(status.st_rdev));
	at = put_number(put_text(at, ":"), minor(status.st_rdev));
	memcpy(put_text(at, "/size"), "", 1);
	return read_file(path, text, sizeof text) > 0 ? get_number(text) : 0;
}

/* With the table mapped and locked: takes a part and maps it. */
static int take(int fd, struct device_table *table, uint64_t total, struct backing *backing)
{
	uint64_t pid = (uint64_t)arena_sys(SYS_getpid, 0, 0, 0, 0, 0, 0);
	int slot = device_table_take(table, total, backing->length, pid, process_born(pid), alive);
	int error;

	if (slot < 0)
		return slot;
	backing->offset = table->slots[slot].start;
	error = arena_sys_mmap(&backing->base, backing->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, backing->offset);
	if (error) {
		table->slots[slot] = (struct device_slot){0};
		return error;
	}
	backing->device_slot = slot;
	return 0;
}

/* Opens the device and its table, locked. The fd or -errno. */
static int open_table(const char *path, struct device_table **table)
{
	int fd = (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	void *memory = NULL;
	int error;

	if (fd < 0)
		return fd;
	do
		error = (int)arena_sys2(SYS_flock, fd, LOCK_EX);
	while (error == -EINTR);
	if (!error)
		error = arena_sys_mmap(&memory, DEVICE_TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (error) {
		arena_sys_close(fd);
		return error;
	}
	*table = memory;
	return fd;
}

int backing_device(const char *path, uint64_t length, struct backing *backing)
{
	struct device_table *table = NULL;
	uint64_t total;
	int fd = open_table(path, &table);
	int error;

	if (!table)
		return fd; /* -errno */
	*backing = (struct backing){.length = (length + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1), .grain = HUGE_PAGE, .device_slot = -1};
	total = device_length(fd);
	error = total ? take(fd, table, total, backing) : -ENODEV;
	arena_sys_munmap(table, DEVICE_TABLE_BYTES);
	arena_sys_close(fd); /* the lock goes with it */
	if (error)
		return error;
	backing->fd = (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (backing->fd < 0) {
		error = backing->fd;
		arena_sparse_unmap(backing->base, backing->length);
		backing_device_release(path, backing);
		return error;
	}
	memset(backing->base, 0, backing->length);
	return 0;
}

void backing_device_release(const char *path, struct backing *backing)
{
	struct device_table *table = NULL;
	int fd = open_table(path, &table);

	if (fd < 0)
		return; /* the part is free once we are gone */
	if (table->slots[backing->device_slot].start == backing->offset)
		table->slots[backing->device_slot] = (struct device_slot){0};
	arena_sys_munmap(table, DEVICE_TABLE_BYTES);
	arena_sys_close(fd);
}
