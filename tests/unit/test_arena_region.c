/* SPDX-License-Identifier: BSD-2-Clause */
/* What a peer gets and what it can do with it: seals, attaching, end blocks, hostile values, limits, backends. */
#include "arena_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/dump.h"
#include "arena/header.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define LENGTH (REGION_RINGS + (1u << 20))
#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static void expect_sealed(const struct arena_share *share)
{
	char byte = 0;

	assert_int_equal(fcntl(share->fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	assert_true(fcntl(share->fd, F_GETFD) & FD_CLOEXEC);
	assert_ptr_equal(mmap(NULL, share->length, PROT_READ | PROT_WRITE, MAP_SHARED, share->fd, 0), MAP_FAILED);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(share->fd, 0), -1);
	assert_int_equal(ftruncate(share->fd, (off_t)share->length * 2), -1);
	assert_int_equal(pwrite(share->fd, &byte, 1, 0), -1);
	assert_int_equal(fallocate(share->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, ARENA_PAGE), -1);
}

static void test_seals(void **state)
{
	struct arena_share share;
	struct arena *arena = test_arena(LENGTH, &share);
	const struct region *region;
	uint64_t length;

	(void)state;
	expect_sealed(&share);
	assert_int_equal(region_attach(&share, &region, &length), 0);
	assert_int_equal(length, share.length);
	assert_int_equal(mprotect((void *)region, length, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(region_dump(region, length, NULL), 0);
	/* What the owner writes, the peer sees; it goes on seeing it when the owner is gone. */
	assert_int_equal(arena_end_alloc(arena, 77), 0);
	assert_int_equal(region->ends[0].cookie, 77);
	arena_destroy(arena);
	close(share.fd);
	assert_int_equal(region->ends[0].cookie, 77);
	region_detach(region, length);
}

static void test_board(void **state)
{
	struct arena_share share;
	struct arena_share region_share;
	struct arena *arena = test_arena(LENGTH, &region_share);
	struct board *mine;
	const struct board *board;

	(void)state;
	assert_int_equal(board_create(&mine, &share), 0);
	expect_sealed(&share);
	assert_int_equal(board_attach(share.fd, &board), 0);
	mine->slots[3].asleep = 5;
	assert_int_equal(board->slots[3].asleep, 5);
	assert_int_equal(board_dump(board, share.length, NULL), 0);
	board_detach(board);
	assert_int_equal(board_attach(region_share.fd, &board), -EPROTO);
	assert_int_equal(board_attach(-1, &board), -EPROTO);
	board_detach(mine);
	close(share.fd);
	arena_destroy(arena);
	close(region_share.fd);
}

/* A memfd that a hostile peer might pass: a copy of a good region's header, after `spoil`, with `seals`. */
static int forge(uint64_t size, int seals, void (*spoil)(struct arena_header *header))
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct arena_header *header;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	header = mmap(NULL, sizeof *header, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(header, MAP_FAILED);
	header_publish(header, REGION_MAGIC, LENGTH, REGION_ENDS);
	if (spoil)
		spoil(header);
	munmap(header, sizeof *header);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int attach_forged(int fd, uint64_t length)
{
	struct arena_share share = {.fd = fd, .length = length};
	const struct region *region;
	uint64_t mapped;
	int error = region_attach(&share, &region, &mapped);

	if (!error)
		region_detach(region, mapped);
	close(fd);
	return error;
}

static void spoil_magic(struct arena_header *header)
{
	header->magic = BOARD_MAGIC;
}

static void spoil_checksum(struct arena_header *header)
{
	header->checksum ^= 1;
}

static void republish(struct arena_header *header, size_t offset, uint64_t value)
{
	/* header_publish sets the fields it knows; so make the sum here as it does. */
	uint64_t *words = (uint64_t *)header;
	uint64_t sum = 0xcbf29ce484222325ull;

	words[offset / 8] = value;
	for (unsigned i = 1; i < 15; i++)
		sum = (sum ^ words[i]) * 0x100000001b3ull;
	words[15] = sum;
}

static void spoil_nothing(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, compat), 1); /* a reader may ignore it */
}

static void spoil_major(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, major), ARENA_MAJOR + 1);
}

static void spoil_incompat(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, incompat), 1ull << 63);
}

static void spoil_reserved(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, reserved), 1);
}

static void spoil_length(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, length), ~0ull);
}

static void spoil_ends(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, end_count), REGION_ENDS * 2);
}

static void spoil_order(struct arena_header *header)
{
	republish(header, offsetof(struct arena_header, word_mark), 0x0807060504030201ull);
}

static void test_attach_refuses(void **state)
{
	int pipes[2];

	(void)state;
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, NULL), LENGTH), 0);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_nothing), LENGTH), 0);
	/* Seals: each one missing, then all. */
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS & ~F_SEAL_SHRINK, NULL), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS & ~F_SEAL_GROW, NULL), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS & ~F_SEAL_FUTURE_WRITE, NULL), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, 0, NULL), LENGTH), -EPROTO);
	/* Sizes: other than announced, too small for a region, unaligned, absurd. */
	assert_int_equal(attach_forged(forge(LENGTH - ARENA_PAGE, ALL_SEALS, NULL), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH + ARENA_PAGE, ALL_SEALS, NULL), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(ARENA_PAGE, ALL_SEALS, NULL), ARENA_PAGE), -EPROTO);
	assert_int_equal(attach_forged(forge(REGION_RINGS, ALL_SEALS, NULL), REGION_RINGS), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH + 1, ALL_SEALS, NULL), LENGTH + 1), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, NULL), 0), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, NULL), ~0ull), -EPROTO);
	/* The header, rung by rung. */
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_magic), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_order), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_checksum), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_major), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_incompat), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_reserved), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_length), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(forge(LENGTH, ALL_SEALS, spoil_ends), LENGTH), -EPROTO);
	/* No files in memory. */
	assert_int_equal(pipe(pipes), 0);
	close(pipes[1]);
	assert_int_equal(attach_forged(pipes[0], LENGTH), -EPROTO);
	assert_int_equal(attach_forged(open("/dev/zero", O_RDWR), LENGTH), -EPROTO);
	assert_int_equal(attach_forged(-1, LENGTH), -EPROTO);
}

static void test_ring_valid(void **state)
{
	const uint64_t length = REGION_RINGS + (1 << 20);

	(void)state;
	assert_true(region_ring_valid(length, REGION_RINGS, 12));
	assert_true(region_ring_valid(length, REGION_RINGS, 20));
	assert_true(region_ring_valid(length, length - 4096, 12));
	assert_false(region_ring_valid(length, REGION_RINGS, 21));
	assert_false(region_ring_valid(length, REGION_RINGS, 11));
	assert_false(region_ring_valid(length, REGION_RINGS, 41));
	assert_false(region_ring_valid(length, REGION_RINGS, 64));
	assert_false(region_ring_valid(length, REGION_RINGS, 0xfff));
	assert_false(region_ring_valid(length, REGION_RINGS - 4096, 12));
	assert_false(region_ring_valid(length, 0, 12));
	assert_false(region_ring_valid(length, REGION_RINGS + 64, 12));
	assert_false(region_ring_valid(length, length, 12));
	assert_false(region_ring_valid(length, length - 4096, 13));
	assert_false(region_ring_valid(length, ~0xfffull, 12));
	assert_false(region_ring_valid(length, 1ull << 63, 40));
	assert_false(region_ring_valid(0, REGION_RINGS, 12));
	assert_false(region_ring_valid(4096, REGION_RINGS, 12));
}

static void test_ends(void **state)
{
	struct arena_share share;
	struct arena *arena = test_arena(LENGTH, &share);
	struct arena_stats stats;

	(void)state;
	assert_int_equal(arena_end_alloc(arena, 0), -EINVAL);
	for (unsigned i = 0; i < REGION_ENDS; i++)
		assert_int_equal(arena_end_alloc(arena, i + 1), i);
	assert_int_equal(arena_end_alloc(arena, 1), -ENOSPC);
	arena_get_stats(arena, &stats);
	assert_int_equal(stats.ends, REGION_ENDS);

	memset((void *)&arena_region(arena)->ends[100].segments, 0xff, 64);
	arena_region(arena)->ends[100].tail = 99;
	arena_end_free(arena, 100);
	assert_int_equal(arena_region(arena)->ends[100].cookie, 0);
	arena_end_free(arena, 100);
	arena_end_free(arena, REGION_ENDS);
	arena_end_free(arena, ~0u);
	arena_end_free(arena, REGION_ENDS - 1);
	assert_int_equal(arena_end_alloc(arena, 0x1234), 100);
	assert_int_equal(arena_region(arena)->ends[100].cookie, 0x1234);
	assert_int_equal(arena_region(arena)->ends[100].tail, 0);
	assert_int_equal(arena_region(arena)->ends[100].segments[3].where, 0);
	assert_int_equal(arena_end_alloc(arena, 1), REGION_ENDS - 1);
	assert_int_equal(arena_end_alloc(arena, 1), -ENOSPC);
	assert_int_equal(region_dump(arena_region(arena), share.length, NULL), 0);
	arena_destroy(arena);
	close(share.fd);
}

static void test_dump_finds_faults(void **state)
{
	struct arena_share share;
	struct arena *arena = test_arena(LENGTH, &share);
	struct end_block *end = &arena_region(arena)->ends[0];
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	assert_int_equal(arena_end_alloc(arena, 1), 0);
	end->segments[1].where = arena_ring_alloc(arena, 1 << 16) | 16;
	end->epoch = 1;
	assert_int_equal(region_dump(arena_region(arena), share.length, out), 0);
	end->segments[2].where = share.length | 16;
	end->segments[1].start = 5;
	end->epoch = 2;
	end->tx_flags = END_CLOSED | 1ull << 40;
	end->rx_flags = ~0ull;
	assert_int_equal(region_dump(arena_region(arena), share.length, out), 5);
	fclose(out);
	assert_non_null(strstr(text, "outside the rings"));
	free(text);
	arena_destroy(arena);
	close(share.fd);
}

/* In a child, as the limit stays. */
static void test_file_size_limit(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		struct arena_backend backend = {.kind = ARENA_MEMFD};
		struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
		struct arena_share share;
		struct arena *arena;

		setrlimit(RLIMIT_FSIZE, &limit);
		_exit(arena_create(&backend, 0, &arena, &share) == -EFBIG ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_descriptors_run_out(void **state)
{
	struct rlimit before;
	struct rlimit none;
	struct arena_backend backend = {.kind = ARENA_MEMFD};
	struct arena_share share;
	struct arena *arena;
	struct board *board;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	errno = 42;
	assert_int_equal(arena_create(&backend, 0, &arena, &share), -EMFILE);
	assert_int_equal(board_create(&board, &share), -EMFILE);
	assert_int_equal(errno, 42);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_parse(void **state)
{
	struct arena_backend backend;

	(void)state;
	assert_int_equal(arena_backend_parse("memfd", &backend), 0);
	assert_int_equal(backend.kind, ARENA_MEMFD);
	assert_int_equal(arena_backend_parse("hugetlb", &backend), 0);
	assert_int_equal(backend.kind, ARENA_HUGETLB);
	assert_int_equal(arena_backend_parse("/dev/shm", &backend), 0);
	assert_int_equal(backend.kind, ARENA_DIR);
	assert_string_equal(backend.path, "/dev/shm");
	assert_int_equal(arena_backend_parse("/dev/null", &backend), 0);
	assert_int_equal(backend.kind, ARENA_DEVICE);
	assert_int_not_equal(arena_backend_parse("/proc/self", &backend), 0); /* no memory */
	assert_int_equal(arena_backend_parse("/etc/passwd", &backend), -ENOTDIR);
	assert_int_equal(arena_backend_parse("/no/such/place", &backend), -ENOENT);
	assert_int_equal(arena_backend_parse("", &backend), -EINVAL);
	assert_int_equal(arena_backend_parse("memfdx", &backend), -EINVAL);
	assert_int_equal(arena_backend_parse("mem", &backend), -EINVAL);
	assert_int_equal(arena_backend_parse(NULL, &backend), -EINVAL);
}

static void test_directory(void **state)
{
	struct arena_backend backend = {.kind = ARENA_DIR, .path = "/dev/shm"};
	struct arena_backend elsewhere = {.kind = ARENA_DIR, .path = "/proc"};
	struct arena_share share;
	struct arena *arena;
	const struct region *region;
	uint64_t length;
	int error = arena_create(&backend, LENGTH, &arena, &share);

	(void)state;
	if (error == -ENOENT || error == -EACCES || error == -ENOSPC)
		skip();
	assert_int_equal(error, 0);
	assert_int_equal(fcntl(share.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(ftruncate(share.fd, 0), -1);
	assert_ptr_equal(mmap(NULL, share.length, PROT_READ | PROT_WRITE, MAP_SHARED, share.fd, 0), MAP_FAILED);
	/* Only who uses the same directory trusts it. */
	assert_int_equal(region_attach(&share, &region, &length), -EPROTO);
	assert_int_equal(region_attach_from(&elsewhere, &share, &region, &length), -EPROTO);
	assert_int_equal(region_attach_from(&backend, &share, &region, &length), 0);
	assert_int_equal(arena_end_alloc(arena, 9), 0);
	assert_int_equal(region->ends[0].cookie, 9);
	region_detach(region, length);
	arena_destroy(arena);
	close(share.fd);
}

static void test_other_backends(void **state)
{
	struct arena_backend missing = {.kind = ARENA_DEVICE, .path = "/dev/dax-not-here"};
	struct arena_backend wrong = {.kind = ARENA_DEVICE, .path = "/dev/null"};
	struct arena_backend gone = {.kind = ARENA_DIR, .path = "/no/such/place"};
	struct arena_backend huge = {.kind = ARENA_HUGETLB};
	struct arena_share share;
	struct arena *arena;
	const struct region *region;
	uint64_t length;
	int error;

	(void)state;
	assert_int_equal(arena_create(&missing, 0, &arena, &share), -ENOENT);
	assert_int_equal(arena_create(&wrong, 0, &arena, &share), -ENODEV);
	assert_int_equal(arena_create(&gone, 0, &arena, &share), -ENOENT);
	error = arena_create(&huge, 1 << 24, &arena, &share);
	if (error == 0) {
		assert_int_equal(region_attach(&share, &region, &length), 0);
		assert_int_not_equal(arena_ring_alloc(arena, 1 << 20), 0);
		region_detach(region, length);
		arena_destroy(arena);
		close(share.fd);
	} else {
		assert_true(error == -ENOSPC || error == -ENOMEM || error == -ENODEV || error == -EINVAL || error == -ENOSYS ||
			    error == -ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seals),
		cmocka_unit_test(test_board),
		cmocka_unit_test(test_attach_refuses),
		cmocka_unit_test(test_ring_valid),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_dump_finds_faults),
		cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_descriptors_run_out),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_other_backends),
	};

	return cmocka_run_group_tests_name("arena region", tests, NULL, NULL);
}
