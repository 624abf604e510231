/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A third process squats, relays, replays, lies and floods; a peer sends rubbish for memory. Nobody is paired with
 * the wrong process, no descriptor is left over, and the true peer is still found.
 */
#include "tests/unit/test_rendezvous.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "shim/core/sys.h"

/* Pipes to take turns. */
struct turn {
	int fd[2];
};

static struct turn turn_new(void)
{
	struct turn turn;

	assert_int_equal(pipe2(turn.fd, O_CLOEXEC), 0);
	return turn;
}

static void turn_give(struct turn turn)
{
	CHILD_CHECK(write(turn.fd[1], "x", 1) == 1);
}

static void turn_wait(struct turn turn)
{
	char byte;

	CHILD_CHECK(read(turn.fd[0], &byte, 1) == 1);
}

static void turn_drop(struct turn turn)
{
	close(turn.fd[0]);
	close(turn.fd[1]);
}

static bool any(const struct message *message)
{
	return message->type != MESSAGE_KNOCK;
}

/* Waits for a message on `fd`. */
static void hear(int fd, struct incoming *in)
{
	int outcome;

	while ((outcome = mailbox_receive(fd, any, in)) != 1) {
		CHILD_CHECK(outcome == 0 || outcome == -EAGAIN);
		usleep(1000);
	}
}

static uint64_t token; /* of the mailbox that is spoken to: let the liar have learned it */

static struct message speak(enum message_type type, const struct tuple *tuple)
{
	return (struct message){ .magic = MESSAGE_MAGIC, .major = MESSAGE_MAJOR, .type = (uint16_t)type, .tuple = *tuple, .token = token,
		.end = 1, .cookie = 1, .memory = 1 };
}

/* Sends, waiting for room. */
static void send_patiently(const struct message *message, const struct mailbox_id *to, const int *fds, unsigned count)
{
	int error;

	while ((error = mailbox_send(message, to, fds, count, getuid())) == -EAGAIN)
		usleep(1000);
	CHILD_CHECK(error == 0);
}

/* A set that watches `fd`, with the hash that is right for us. */
static int forge(enum proof_role role, const struct mailbox_id *to, const struct tuple *tuple, int fd)
{
	struct epoll_event event = { .events = EPOLLET, .data.u64 = proof_hash(role, mailbox_own(), to, tuple) };
	int set = epoll_create1(EPOLL_CLOEXEC);

	CHILD_CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
	return set;
}

/*
 * The thief holds the connection's name before the connector comes, gets the acceptor's HELLO with its proof, lets go of
 * the name and shows that proof, and one of its own making, to the connector, who waits for the true acceptor.
 */
static void test_squat_and_replay(void **state)
{
	struct turn told = turn_new(), squatting = turn_new(), heard = turn_new(), bound = turn_new(), sent = turn_new();
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	struct nn_stream *stream;
	struct tuple tuple;
	pid_t connector, thief;

	(void)state;
	connector = host_fork();
	if (connector == 0) {
		stream = host_stream(host_connect(&to, length), true);
		CHILD_CHECK(tuple_learn(stream) == 0);
		tuple_of(stream, &tuple);
		CHILD_CHECK(write(told.fd[1], &tuple, sizeof(tuple)) == sizeof(tuple));
		turn_wait(heard);
		host_call(stream); /* takes the name */
		turn_give(bound);
		turn_wait(sent);
		for (unsigned i = 0; i < 4; i++)
			host_call(stream);
		CHILD_CHECK(stream->phase == STREAM_SEEKING);
		CHILD_CHECK(seek_of(stream)->refusals == 2);
		host_ping(stream, 150);
		CHILD_CHECK(stream->phase == STREAM_PAIRED);
		CHILD_CHECK(stream->pair->peer_pid == (uint32_t)getppid());
		_exit(0);
	}
	thief = host_fork();
	if (thief == 0) {
		int name, own = socket(AF_INET, SOCK_STREAM, 0);
		struct incoming in;
		struct message message;

		CHILD_CHECK(mailbox_need() == 0);
		CHILD_CHECK(read(told.fd[0], &tuple, sizeof(tuple)) == sizeof(tuple));
		CHILD_CHECK(mailbox_name_take(&name, &tuple) == 0);
		turn_give(squatting);
		hear(name, &in);
		CHILD_CHECK(in.message.type == MESSAGE_HELLO && in.fd_count == 1);
		let_go(&name);
		turn_give(heard);
		turn_wait(bound);
		message = speak(MESSAGE_HELLO, &tuple);
		send_patiently(&message, NULL, in.fds, 1);
		own = forge(PROOF_HELLO, NULL, &tuple, own);
		send_patiently(&message, NULL, &own, 1);
		turn_give(sent);
		_exit(0);
	}
	stream = host_stream(host_accept(listener), false);
	turn_wait(squatting);
	host_call(stream); /* HELLO goes to the thief */
	host_pong(stream);
	assert_int_equal(stream->phase, STREAM_PAIRED);
	assert_int_equal(stream->pair->peer_pid, connector);
	assert_int_equal(host_join(thief), 0);
	assert_int_equal(host_join(connector), 0);
	host_close(stream);
	close(listener);
	turn_drop(told), turn_drop(squatting), turn_drop(heard), turn_drop(bound), turn_drop(sent);
}

/* A thief relays the connector's OPEN under its own name. It is sent to the acceptor's mailbox, so the thief cannot get it
 * by squatting; suppose it got it all the same (its own fork of the connector). */
static void test_relayed_open(void **state)
{
	struct turn go = turn_new();
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	struct mailbox_id acceptor;
	struct nn_stream *stream;
	struct tuple tuple;
	pid_t connector;

	(void)state;
	assert_int_equal(mailbox_need(), 0);
	acceptor = *mailbox_own();
	token = mailbox_token();
	connector = host_fork();
	if (connector == 0) {
		int proof, name;
		uint32_t uid;
		pid_t thief;

		stream = host_stream(host_connect(&to, length), true);
		CHILD_CHECK(mailbox_need() == 0 && tuple_learn(stream) == 0);
		tuple_of(stream, &tuple);
		CHILD_CHECK(mailbox_name_take(&name, &tuple) == 0);
		proof = proof_make(stream, PROOF_OPEN, &acceptor, &uid);
		CHILD_CHECK(proof >= 0);
		thief = host_fork();
		if (thief == 0) {
			struct message message = speak(MESSAGE_OPEN, &tuple);

			close(stream->fd);
			CHILD_CHECK(mailbox_need() == 0); /* another one */
			send_patiently(&message, &acceptor, &proof, 1);
			turn_give(go);
			_exit(0);
		}
		CHILD_CHECK(waitpid(thief, NULL, 0) == thief);
		host_ping(stream, 3);
		_exit(0);
	}
	stream = host_stream(host_accept(listener), false);
	turn_wait(go);
	for (unsigned i = 0; i < 3; i++)
		host_call(stream);
	assert_int_equal(stream->phase, STREAM_SEEKING);
	assert_int_equal(seek_of(stream)->refusals, 1);
	host_close(stream);
	assert_int_equal(host_join(connector), 0);
	close(listener);
	turn_drop(go);
}

/* Sends `size` bytes with `count` copies of `fd`. */
static void send_rubbish(const struct mailbox_id *to, const void *data, size_t size, int fd, unsigned count)
{
	static const char digits[] = "0123456789abcdef";
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(253 * sizeof(int))];
	} control;
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr message = { .msg_name = &name, .msg_iov = &iov, .msg_iovlen = 1 };
	int from = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(name.sun_path, "\0notnets1/m/", 12);
	for (unsigned i = 0; i < MAILBOX_ID; i++) {
		name.sun_path[12 + 2 * i] = digits[to->bytes[i] >> 4];
		name.sun_path[13 + 2 * i] = digits[to->bytes[i] & 15];
	}
	message.msg_namelen = offsetof(struct sockaddr_un, sun_path) + 12 + 2 * MAILBOX_ID;
	if (count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		for (unsigned i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &fd, sizeof(fd));
	}
	CHILD_CHECK(sendmsg(from, &message, 0) == (ssize_t)size); /* waits for room */
	close(from);
}

/* What no token vouches for is gone when its sender's call returns, with the descriptors it carried: nobody waits for their
 * release in our process. */
static void test_strangers_are_dropped_at_the_door(void **state)
{
	struct message message = { .magic = MESSAGE_MAGIC, .major = MESSAGE_MAJOR, .type = MESSAGE_OPEN };
	char byte;

	(void)state;
	assert_int_equal(mailbox_need(), 0);
	for (unsigned known = 0; known < 2; known++) {
		int ends[2];

		assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
		message.token = known ? mailbox_token() : mailbox_token() ^ (1ull << 40);
		send_rubbish(mailbox_own(), &message, sizeof(message), ends[1], 1);
		send_rubbish(mailbox_own(), &message, 20, ends[1], known ? 0 : 1);
		close(ends[1]);
		assert_int_equal(read(ends[0], &byte, 1), known ? -1 : 0); /* there is still somebody who may write, or nobody */
		close(ends[0]);
	}
	mailbox_forget();
}

/* Rubbish in the acceptor's mailbox while it waits for OPEN. */
static void test_flood(void **state)
{
	struct turn ready = turn_new(), go = turn_new(), flooded = turn_new();
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	struct mailbox_id acceptor;
	struct nn_stream *stream;
	struct tuple tuple;
	pid_t connector, flooder;
	unsigned fds;
	char byte;

	(void)state;
	assert_int_equal(mailbox_need(), 0);
	acceptor = *mailbox_own();
	token = mailbox_token();
	connector = host_fork();
	if (connector == 0) {
		stream = host_stream(host_connect(&to, length), true);
		host_call(stream); /* takes the name */
		turn_give(ready);
		turn_wait(go);
		host_ping(stream, 10);
		CHILD_CHECK(stream->phase == STREAM_PAIRED);
		_exit(0);
	}
	stream = host_stream(host_accept(listener), false);
	turn_wait(ready);
	host_call(stream);
	assert_int_equal(seek_of(stream)->state, SEEK_HELLO_SENT);
	tuple_of(stream, &tuple);
	fds = host_fd_count();
	flooder = host_fork();
	if (flooder == 0) {
		static char noise[3000];
		struct message open = speak(MESSAGE_OPEN, &tuple), accept = speak(MESSAGE_ACCEPT, &tuple), other = open;
		int event = eventfd(0, 0), own = socket(AF_INET, SOCK_STREAM, 0);

		CHILD_CHECK(mailbox_need() == 0);
		for (unsigned i = 0; i < 5; i++) {
			send_rubbish(&acceptor, noise, 1 + 700 * i, event, 0);
			send_rubbish(&acceptor, noise, sizeof(open), event, 200);
			send_rubbish(&acceptor, &open, sizeof(open), event, 200); /* from a nameless socket */
			send_patiently(&accept, &acceptor, &event, 1);
			other.tuple.local_port++;
			send_patiently(&other, &acceptor, &event, 1);
		}
		send_patiently(&open, &acceptor, &event, 1);
		send_patiently(&open, &acceptor, NULL, 0);
		open.flags = MESSAGE_HAS_MEMORY;
		send_patiently(&open, &acceptor, &event, 1);
		open.flags = 0;
		own = forge(PROOF_OPEN, &acceptor, &tuple, own);
		send_patiently(&open, &acceptor, &own, 1);
		turn_give(flooded);
		_exit(0);
	}
	fcntl(flooded.fd[0], F_SETFL, O_NONBLOCK);
	while (read(flooded.fd[0], &byte, 1) != 1) {
		stream->next_try = 0;
		seek_of(stream)->patience = CHAR_MAX;
		host_call(stream);
		usleep(100);
	}
	for (unsigned i = 0; i < 10; i++)
		host_call(stream);
	assert_int_equal(stream->phase, STREAM_SEEKING);
	assert_int_equal(seek_of(stream)->refusals, 4);
	assert_int_equal(host_fd_count(), fds);
	assert_int_equal(host_join(flooder), 0);
	turn_give(go);
	host_pong(stream);
	assert_int_equal(stream->phase, STREAM_PAIRED);
	assert_int_equal(stream->pair->peer_pid, connector);
	assert_int_equal(host_join(connector), 0);
	host_close(stream);
	close(listener);
	turn_drop(ready), turn_drop(go), turn_drop(flooded);
}

/* A stream does not look at false proofs for ever. */
static void test_too_many_refusals(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length), fd = host_connect(&to, length);
	struct nn_stream *connector = host_stream(fd, true), *acceptor = host_stream(host_accept(listener), false);
	struct message message;
	struct tuple tuple;

	(void)state;
	host_call(connector);
	host_call(acceptor);
	tuple_of(acceptor, &tuple);
	token = mailbox_token();
	message = speak(MESSAGE_OPEN, &tuple);
	for (unsigned i = 0; i < 30 && acceptor->phase == STREAM_SEEKING; i++) {
		send_patiently(&message, mailbox_own(), &fd, 1);
		host_call(acceptor);
	}
	assert_int_equal(acceptor->phase, STREAM_ALONE);
	assert_int_equal(acceptor->stay_reason, NN_REASON_UNPROVEN);
	host_close(connector);
	host_close(acceptor);
	close(listener);
}

/* The true peer sends rubbish for memory. */
enum rubbish { GOOD, WRONG_MAJOR, NO_MEMORY, FEW_FDS, REGION_NOT_MEMORY, REGION_UNSEALED, BOARD_IS_REGION, END_TOO_HIGH,
	WRONG_COOKIE, RUBBISH_KINDS };

static void rubbish_peer(enum rubbish kind, const struct sockaddr_in6 *to, socklen_t length)
{
	struct nn_stream *stream = host_stream(host_connect(to, length), true);
	int name, pipes[2], fds[FDS_MAX], end;
	struct incoming in;
	struct message message;
	struct tuple tuple;
	struct pair *pair;
	unsigned count;
	uint32_t uid;
	uint64_t inode;

	CHILD_CHECK(mailbox_need() == 0 && tuple_learn(stream) == 0 && pipe(pipes) == 0);
	tuple_of(stream, &tuple);
	CHILD_CHECK(mailbox_name_take(&name, &tuple) == 0);
	CHILD_CHECK(write(stream->fd, "x", 1) == 1);
	hear(name, &in);
	CHILD_CHECK(proof_check(stream, PROOF_HELLO, NULL, &in, &inode) == 0);
	CHILD_CHECK(pair_take(&in.from, true, &pair) == 0);
	end = arena_end_alloc(pair->shown.arena, 4711);
	CHILD_CHECK(end >= 0);
	token = in.message.reply;
	message = speak(MESSAGE_OPEN, &tuple);
	message.end = (uint32_t)end;
	message.cookie = 4711;
	count = pair_fill(pair, &message, fds);
	CHILD_CHECK(count == FD_MEMORY_END);
	switch (kind) {
	case WRONG_MAJOR:
		message.major++;
		break;
	case NO_MEMORY:
		message.flags = 0;
		count = 0;
		break;
	case FEW_FDS:
		message.flags = 0; /* for the proof to be found */
		fds[1] = fds[0];
		count = 0;
		break;
	case REGION_NOT_MEMORY:
		fds[FD_REGION] = pipes[0];
		break;
	case REGION_UNSEALED:
		fds[FD_REGION] = memfd_create("x", MFD_CLOEXEC);
		CHILD_CHECK(ftruncate(fds[FD_REGION], (off_t)message.region_length) == 0);
		break;
	case BOARD_IS_REGION:
		fds[FD_BOARD] = fds[FD_REGION];
		break;
	case END_TOO_HIGH:
		message.end = UINT32_MAX;
		break;
	case WRONG_COOKIE:
		message.cookie++;
		break;
	default:
		break;
	}
	fds[count] = proof_make(stream, PROOF_OPEN, &in.from, &uid);
	CHILD_CHECK(fds[count] >= 0);
	send_patiently(&message, &in.from, fds, count + 1);
	CHILD_CHECK(write(stream->fd, "x", 1) == 1);
	CHILD_CHECK(read(stream->fd, pipes, 1) == 0); /* until the other end has seen it */
	_exit(0);
}

static void test_rubbish_memory(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);

	(void)state;
	for (unsigned kind = 0; kind < RUBBISH_KINDS; kind++) {
		struct nn_stream *stream;
		unsigned fds;
		pid_t child = host_fork();
		char byte;

		if (child == 0)
			rubbish_peer(kind, &to, length);
		stream = host_stream(host_accept(listener), false);
		assert_int_equal(read(stream->fd, &byte, 1), 1);
		host_call(stream);
		assert_int_equal(read(stream->fd, &byte, 1), 1);
		fds = host_fd_count();
		host_call(stream);
		if (kind == GOOD) {
			assert_int_equal(stream->phase, STREAM_PAIRED);
		} else {
			assert_int_equal(stream->phase, STREAM_ALONE);
			assert_int_equal(stream->stay_reason, kind == WRONG_MAJOR ? NN_REASON_VERSION : NN_REASON_UNPROVEN);
			/* At most a pair of mine, kept till the peer is seen to be dead: its memory, what rings the peer. */
			assert_true(host_fd_count() <= fds + 1 + (kind >= END_TOO_HIGH));
		}
		host_close(stream);
		assert_int_equal(host_join(child), 0);
	}
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_squat_and_replay),
		cmocka_unit_test(test_relayed_open),
		cmocka_unit_test(test_strangers_are_dropped_at_the_door),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_too_many_refusals),
		cmocka_unit_test(test_rubbish_memory),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
