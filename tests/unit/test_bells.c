/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Doorbells under peers that mean no good, and under many that do. Of a bell a peer gets nothing but a name to send to, so it can
 * neither empty it, nor make a ringer wait; a queue that is full, of whatever, loses no wake-up, neither for one who polls nor in an
 * edge-triggered set with several sleepers; a peer that hoards what rings it spoils its own pair's voice.
 */
#include "tests/unit/test_rendezvous.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "shim/core/sys.h"
#include "shim/wait/bell.h"
#include "shim/wait/waiter.h"

/* ---- this process's board, and itself as its peer ------------------------------------------------------------------- */

struct state *nn_state; /* of the core, which is not there */
_Atomic uint32_t *nn_fds;
int nn_pid;
_Atomic bool nn_filtered;

static struct nn_pair *self_pair;
static struct nn_stream *connector, *acceptor;

static uint32_t self(void)
{
	return (uint32_t)gettid();
}

static int set_up(void **unused)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);

	(void)unused;
	nn_front.self = self;
	nn_pid = getpid();
	nn_state = mmap(NULL, sizeof(*nn_state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(nn_state, MAP_FAILED);
	connector = host_stream(host_connect(&to, length), true);
	acceptor = host_stream(host_accept(listener), false);
	for (unsigned i = 0; i < 6; i++) {
		host_call(connector);
		host_call(acceptor);
	}
	assert_int_equal(connector->phase, STREAM_PAIRED);
	self_pair = connector->pair;
	close(listener);
	return 0;
}

static bool readable(int fd, int ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, ms) == 1;
}

/* A pair as another peer process would have it: the same board, its own voice, nothing rung yet. */
static struct nn_pair *other_peer(void)
{
	struct nn_pair *pair = mmap(NULL, sizeof(*pair), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pair, MAP_FAILED);
	pair->peer_board = self_pair->peer_board;
	pair->voice = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(pair->voice >= 0);
	return pair;
}

static void other_peer_gone(struct nn_pair *pair)
{
	close(pair->voice);
	munmap(pair, sizeof(*pair));
}

/* An end to which only `waiter` is attached. */
static struct end_block *end_of(const struct waiter *waiter)
{
	struct end_block *end = aligned_alloc(ARENA_LINE, sizeof(*end));

	assert_non_null(end);
	memset(end, 0, sizeof(*end));
	assert_true(waiter_attach(waiter, end));
	return end;
}

/* ---- what a peer can do --------------------------------------------------------------------------------------------- */

static struct sockaddr_un name_of(int fd, socklen_t *length)
{
	struct sockaddr_un name;

	*length = sizeof(name);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, length), 0);
	return name;
}

/* Sends until the queue takes no more. Returns how many it took. */
static unsigned flood(int bell)
{
	socklen_t length;
	struct sockaddr_un name = name_of(bell, &length);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), room = 1 << 20;
	unsigned count = 0;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	while (sendto(fd, "noise", 5, 0, (struct sockaddr *)&name, length) == 5)
		count++;
	assert_int_equal(errno, EAGAIN);
	close(fd);
	return count;
}

/* Peers are handed memory and no more: nothing they could read, write or set flags of. */
static void nothing_is_handed_out(void **unused)
{
	struct pair pair = { .share.fd = 77 };
	struct message message = { 0 };
	int fds[FDS_MAX];

	(void)unused;
	assert_int_equal(pair_fill(&pair, &message, fds), 2);
	assert_int_equal(fds[FD_REGION], 77);
	assert_int_equal(FDS_MAX, 3);
}

/* A full queue neither blocks who rings, nor hides that it was rung. */
static void full_for_one_who_polls(void **unused)
{
	struct waiter waiter;
	struct end_block *end;
	struct nn_pair *peer = other_peer();
	int bell;

	(void)unused;
	waiter_take(&waiter, self());
	bell = waiter_bell(&waiter);
	assert_true(bell >= 0);
	end = end_of(&waiter);
	assert_true(flood(bell) > 0);
	waiter_falls_asleep(&waiter);
	doorbell_ring(peer, end);
	assert_true(readable(bell, 0));
	waiter_wakes(&waiter);
	waiter_hush(&waiter);
	assert_false(readable(bell, 0));
	/* And now there is room. */
	waiter_falls_asleep(&waiter);
	doorbell_ring(peer, end);
	assert_true(readable(bell, 0));
	waiter_hush(&waiter);
	waiter_drop(&waiter);
	other_peer_gone(peer);
	free(end);
}

/* Emptying ends, however fast a peer rings, and leaves an edge when the queue was never seen empty. */
static void flooded_without_end(void **unused)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int set = epoll_create1(EPOLL_CLOEXEC), bell;
	struct waiter waiter;
	pid_t flooder;

	(void)unused;
	waiter_take(&waiter, self());
	bell = waiter_bell(&waiter);
	assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, bell, &event), 0);
	flooder = fork();
	if (flooder == 0) {
		socklen_t length;
		struct sockaddr_un name = name_of(bell, &length);
		int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

		for (alarm(10);;)
			sendto(fd, "", 1, 0, (struct sockaddr *)&name, length);
	}
	for (unsigned i = 0; i < 1000; i++)
		waiter_hush(&waiter);
	kill(flooder, SIGKILL);
	assert_int_equal(waitpid(flooder, NULL, 0), flooder);
	if (readable(bell, 0))
		assert_int_equal(epoll_wait(set, &event, 1, 0), 1);
	waiter_hush(&waiter);
	assert_false(readable(bell, 0));
	assert_int_equal(epoll_ctl(set, EPOLL_CTL_DEL, bell, NULL), 0);
	close(set);
	waiter_drop(&waiter);
}

/* What is attached to a datagram is dropped by its sender, where the kernel can do that, and by nobody who sleeps. */
static void descriptors_in_a_ring(void **unused)
{
	struct waiter waiter;
	struct sockaddr_un name;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr message = { .msg_name = &name, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0), one = 1;
	unsigned fds;

	(void)unused;
	waiter_take(&waiter, self());
	name = name_of(waiter_bell(&waiter), &message.msg_namelen);
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	fds = host_fd_count();
	if (setsockopt(fd, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &one, sizeof(one)) == 0)
		assert_int_equal(sendmsg(fd, &message, MSG_DONTWAIT), -1);
	else
		assert_int_equal(sendmsg(fd, &message, MSG_DONTWAIT), 0);
	waiter_hush(&waiter);
	assert_int_equal(host_fd_count(), fds);
	waiter_drop(&waiter);
	close(fd);
}

/* A peer that says it sleeps in every slot, again and again, and reads none of its bells: others are rung as ever. */
static void a_peer_that_hoards(void **unused)
{
	struct nn_pair *greedy = other_peer();
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct waiter waiter, one;
	struct end_block *end, *lies = aligned_alloc(ARENA_LINE, sizeof(*lies));
	int charged = 0;

	(void)unused;
	waiter_take(&one, self()); /* stands for all of the bells of the greedy peer */
	assert_true(waiter_bell(&one) >= 0);
	memcpy(board, rendezvous_board(), sizeof(*board));
	greedy->peer_board = board;
	memset(lies, 0, sizeof(*lies));
	for (unsigned i = 0; i < BOARD_SLOTS; i++)
		board->slots[i].bell = board->slots[one.slot].bell;
	for (unsigned sleep = 1; sleep < 20; sleep++)
		for (unsigned i = 0; i < BOARD_SLOTS; i++) {
			board->slots[i].asleep = sleep;
			lies->attach[0] = i + 1;
			lies->attach[1] = UINT64_MAX;
			doorbell_ring(greedy, lies);
		}
	assert_int_equal(ioctl(greedy->voice, TIOCOUTQ, &charged), 0);
	assert_true(charged > 0);
	assert_int_equal(ioctl(self_pair->voice, TIOCOUTQ, &charged), 0);
	assert_int_equal(charged, 0);
	waiter_take(&waiter, self());
	assert_true(waiter.slot != one.slot);
	end = end_of(&waiter);
	assert_true(waiter_bell(&waiter) >= 0);
	waiter_falls_asleep(&waiter);
	doorbell_ring(self_pair, end);
	assert_true(readable(waiter_bell(&waiter), 0));
	waiter_hush(&waiter);
	waiter_drop(&waiter);
	waiter_hush(&one);
	waiter_drop(&one);
	other_peer_gone(greedy);
	munmap(board, sizeof(*board));
	free(lies);
	free(end);
}

/* The voice of a pair has room for all that an honest peer may leave unread: two rings in each of its slots. */
static void the_voice_has_room(void **unused)
{
	enum { RINGS = 2 * BOARD_SLOTS };
	int (*ends)[2] = calloc(RINGS, sizeof(*ends));
	unsigned sent = 0;

	(void)unused;
	for (unsigned i = 0; i < RINGS; i++) {
		struct sockaddr_un name = { .sun_family = AF_UNIX };
		socklen_t length;

		ends[i][0] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(ends[i][0], (struct sockaddr *)&name, sizeof(name.sun_family)), 0);
		name = name_of(ends[i][0], &length);
		sent += sendto(self_pair->voice, NULL, 0, MSG_DONTWAIT, (struct sockaddr *)&name, length) == 0;
	}
	for (unsigned i = 0; i < RINGS; i++)
		close(ends[i][0]);
	free(ends);
	assert_int_equal(sent, RINGS);
}

/* ---- slots and their bells ------------------------------------------------------------------------------------------ */

static void kept_for_the_next_holder(void **unused)
{
	struct waiter waiter;
	struct end_block *end;
	struct nn_pair *peer = other_peer();
	unsigned fds;
	int bell, slot;

	(void)unused;
	waiter_take(&waiter, self());
	bell = waiter_bell(&waiter);
	slot = waiter.slot;
	fds = host_fd_count();
	for (unsigned i = 0; i < 1000; i++) {
		end = end_of(&waiter);
		waiter_falls_asleep(&waiter);
		doorbell_ring(peer, end); /* stays unread */
		waiter_drop(&waiter);
		waiter_take(&waiter, self());
		assert_int_equal(waiter.slot, slot);
		assert_int_equal(waiter_bell(&waiter), bell);
		free(end);
	}
	assert_int_equal(host_fd_count(), fds);
	waiter_hush(&waiter);
	assert_false(readable(bell, 0));
	waiter_drop(&waiter);
	other_peer_gone(peer);
}

/* The child's bells are its own; it leaves those of its parent, and the slots that hold them, alone. */
static void after_fork(void **unused)
{
	struct waiter mine;
	struct end_block *end;
	struct nn_pair *peer = other_peer();
	int bell, turn[2];
	pid_t child;

	(void)unused;
	waiter_take(&mine, self());
	bell = waiter_bell(&mine);
	waiter_hush(&mine);
	end = end_of(&mine);
	assert_int_equal(pipe(turn), 0);
	child = host_fork();
	if (child == 0) {
		struct waiter own, same;

		nn_pid = getpid();
		bells_fork_child();
		CHILD_CHECK(fcntl(bell, F_GETFD) < 0);
		same = mine;
		waiter_hush(&same);
		waiter_falls_asleep(&same);
		waiter_wakes(&same);
		waiter_detach(&same, end);
		waiter_drop(&same);
		waiter_take(&own, self());
		CHILD_CHECK(own.slot >= 0 && own.slot != mine.slot);
		CHILD_CHECK(waiter_bell(&own) >= 0);
		CHILD_CHECK(atomic_load(&rendezvous_board()->slots[own.slot].bell) !=
			    atomic_load(&rendezvous_board()->slots[mine.slot].bell));
		CHILD_CHECK(write(turn[1], &own.slot, sizeof(own.slot)) == sizeof(own.slot));
		CHILD_CHECK(readable(waiter_bell(&own), 5000));
		waiter_drop(&own);
		_exit(0);
	}
	int slot;
	assert_int_equal(read(turn[0], &slot, sizeof(slot)), sizeof(slot));
	assert_true(bell_ring(peer, (unsigned)slot));
	assert_int_equal(host_join(child), 0);
	assert_int_equal(atomic_load(&rendezvous_board()->slots[mine.slot].holder), self());
	waiter_falls_asleep(&mine);
	doorbell_ring(peer, end);
	assert_true(readable(bell, 0));
	/* The slot that the child gave back is one for a bell of ours again. */
	struct waiter next;
	do
		waiter_take(&next, self());
	while (next.slot >= 0 && next.slot != slot);
	assert_int_equal(next.slot, slot);
	bell = waiter_bell(&next);
	assert_true(bell_ring(peer, (unsigned)slot));
	assert_true(readable(bell, 0));
	waiter_hush(&next);
	waiter_drop(&next);
	waiter_hush(&mine);
	waiter_drop(&mine);
	other_peer_gone(peer);
	close(turn[0]), close(turn[1]);
	free(end);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_handed_out),
		cmocka_unit_test(full_for_one_who_polls),
		cmocka_unit_test(flooded_without_end),
		cmocka_unit_test(descriptors_in_a_ring),
		cmocka_unit_test(a_peer_that_hoards),
		cmocka_unit_test(the_voice_has_room),
		cmocka_unit_test(kept_for_the_next_holder),
		cmocka_unit_test(after_fork),
	};

	if (count > 1)
		cmocka_set_test_filter(arguments[1]);
	alarm(60);
	return cmocka_run_group_tests(tests, set_up, NULL);
}
