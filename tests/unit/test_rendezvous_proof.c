/* SPDX-License-Identifier: BSD-2-Clause */
/* What the proof stands on: the hash, what the kernel says of sockets, what an epoll set shows of itself. */
#include "tests/unit/test_rendezvous.h"

#include <net/if.h>
#include <poll.h>
#include <ifaddrs.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

static void check_digest(const char *text, size_t length, const char *hex)
{
	uint8_t digest[SHA256_SIZE];
	char shown[2 * SHA256_SIZE + 1];

	sha256(text, length, digest);
	for (unsigned i = 0; i < SHA256_SIZE; i++)
		sprintf(shown + 2 * i, "%02x", digest[i]);
	assert_string_equal(shown, hex);
}

/* NIST's examples, and all ways of padding. */
static void test_sha256(void **state)
{
	static char a[1000000];

	(void)state;
	check_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check_digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
	memset(a, 'a', sizeof(a));
	check_digest(a, sizeof(a), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	check_digest(a, 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
	check_digest(a, 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

static void test_hash_binds_everything(void **state)
{
	struct mailbox_id a = { { 1 } }, b = { { 2 } };
	struct tuple tuple = { .local_port = 1 }, other = { .local_port = 2 };
	uint64_t hash = proof_hash(PROOF_OPEN, &a, &b, &tuple);

	(void)state;
	assert_int_equal(proof_hash(PROOF_OPEN, &a, &b, &tuple), hash);
	assert_int_not_equal(proof_hash(PROOF_HELLO, &a, &b, &tuple), hash);
	assert_int_not_equal(proof_hash(PROOF_OPEN, &b, &a, &tuple), hash);
	assert_int_not_equal(proof_hash(PROOF_OPEN, &a, NULL, &tuple), hash);
	assert_int_not_equal(proof_hash(PROOF_OPEN, &a, &b, &other), hash);
}

static uint64_t inode_of(int fd)
{
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	return status.st_ino;
}

struct ends {
	struct nn_stream *connector, *acceptor;
	int listener;
};

static struct ends make_ends(int version)
{
	struct sockaddr_in6 to;
	socklen_t length;
	struct ends ends;
	int fd;

	ends.listener = host_listen(version, &to, &length);
	fd = host_connect(&to, length);
	ends.connector = host_stream(fd, true);
	ends.acceptor = host_stream(host_accept(ends.listener), false);
	assert_int_equal(tuple_learn(ends.connector), 0);
	assert_int_equal(tuple_learn(ends.acceptor), 0);
	return ends;
}

static void drop_ends(struct ends *ends)
{
	host_close(ends->connector);
	host_close(ends->acceptor);
	close(ends->listener);
}

static void test_tuple(void **state)
{
	static const int versions[] = { 4, 6, 64 };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct ends ends = make_ends(versions[i]);
		struct tuple a, b;

		tuple_of(ends.connector, &a);
		tuple_of(ends.acceptor, &b);
		assert_true(tuple_same(&a, &b));
		assert_int_equal(a.local_port, ends.connector->local.sin6_port);
		drop_ends(&ends);
	}
}

static bool proc_too_long(void)
{
	static char text[1 << 16];
	int fd = open("/proc/thread-self/net/tcp", O_RDONLY | O_CLOEXEC);
	ssize_t total = 0, got;

	while ((got = read(fd, text, sizeof(text))) > 0)
		total += got;
	close(fd);
	return total > 800000; /* others' connections, TIME_WAIT mostly */
}

/* Both sources agree with fstat, at both ends, for all versions. */
static void test_diag(void **state)
{
	static const int versions[] = { 4, 6, 64 };
	bool too_long = proc_too_long();

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct ends ends = make_ends(versions[i]);
		struct nn_stream *both[] = { ends.connector, ends.acceptor };

		for (unsigned j = 0; j < 2; j++) {
			struct socket_facts facts;
			uint64_t inode = inode_of(both[j]->fd);

			assert_int_equal(diag_netlink(&both[j]->local, &both[j]->remote, 0, &facts), 0);
			assert_int_equal(facts.inode, inode);
			assert_int_equal(facts.uid, getuid());
			assert_int_equal(facts.state, TCP_ESTABLISHED);
			if (too_long)
				continue;
			memset(&facts, 0, sizeof(facts));
			assert_int_equal(diag_proc(&both[j]->local, &both[j]->remote, &facts), 0);
			assert_int_equal(facts.inode, inode);
			assert_int_equal(facts.uid, getuid());
			assert_int_equal(facts.state, TCP_ESTABLISHED);
		}
		drop_ends(&ends);
	}
}

/* A listening socket, or nothing, is not a connection. */
static void test_diag_finds_nothing(void **state)
{
	struct ends ends = make_ends(4);
	struct socket_facts facts;
	struct sockaddr_in6 other = ends.acceptor->remote;

	(void)state;
	other.sin6_port = htons(1);
	assert_int_equal(diag_netlink(&ends.acceptor->local, &other, 0, &facts), -ENOENT);
	assert_int_equal(diag_proc(&ends.acceptor->local, &other, &facts), -ENOENT);
	drop_ends(&ends);
}

/* Among more sockets than a read of /proc/net/tcp returns. */
static void test_proc_is_long(void **state)
{
	struct ends ends[100];
	struct socket_facts facts;

	(void)state;
	if (proc_too_long())
		skip();
	for (unsigned i = 0; i < 100; i++)
		ends[i] = make_ends(4);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(diag_proc(&ends[i].acceptor->local, &ends[i].acceptor->remote, &facts), 0);
		assert_int_equal(facts.inode, inode_of(ends[i].acceptor->fd));
	}
	for (unsigned i = 0; i < 100; i++)
		drop_ends(&ends[i]);
	host_stream_top = 0;
}

static struct incoming as_if_sent(int proof)
{
	struct incoming in;

	memset(&in, 0, sizeof(in));
	for (unsigned i = 0; i < FDS_MAX; i++)
		in.fds[i] = -1;
	in.fds[0] = proof;
	in.fd_count = 1;
	in.from = *mailbox_own();
	in.uid = getuid();
	return in;
}

static void test_proof(void **state)
{
	struct ends ends = make_ends(4), other = make_ends(4);
	struct mailbox_id stranger = { { 9 } };
	struct epoll_event event = { .events = EPOLLET };
	struct incoming in;
	uint64_t inode;
	uint32_t uid;
	int proof, again;

	(void)state;
	assert_int_equal(mailbox_need(), 0);
	proof = proof_make(ends.connector, PROOF_OPEN, mailbox_own(), &uid);
	assert_true(proof >= 0);
	assert_int_equal(uid, getuid());
	in = as_if_sent(proof);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), 0);
	assert_int_equal(inode, inode_of(ends.connector->fd));
	assert_int_equal(proof_still(ends.acceptor, inode), 0);

	/* For another step, recipient, sender, user, connection. */
	assert_int_equal(proof_check(ends.acceptor, PROOF_HELLO, mailbox_own(), &in, &inode), -EACCES);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, &stranger, &in, &inode), -EACCES);
	in.from = stranger;
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	in = as_if_sent(proof);
	in.uid++;
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	in = as_if_sent(proof);
	assert_int_equal(proof_check(other.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	/* My own socket is not the one that mirrors it. */
	assert_int_equal(proof_check(ends.connector, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);

	/* A second socket in the set. */
	assert_int_equal(epoll_ctl(proof, EPOLL_CTL_ADD, other.connector->fd, &event), 0);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	assert_int_equal(epoll_ctl(proof, EPOLL_CTL_DEL, other.connector->fd, NULL), 0);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), 0);

	/* The same socket twice, under two numbers. */
	again = dup(ends.connector->fd);
	assert_int_equal(epoll_ctl(proof, EPOLL_CTL_ADD, again, &event), 0);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	assert_int_equal(epoll_ctl(proof, EPOLL_CTL_DEL, again, NULL), 0);
	close(again);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), 0);

	/* The socket closed, the set kept. */
	close(ends.connector->fd);
	assert_int_equal(proof_check(ends.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	assert_int_equal(proof_still(ends.acceptor, inode), -EACCES);
	assert_true(proof_is_anonymous(proof, "eventpoll"));
	assert_false(proof_is_anonymous(proof, "eventfd"));
	assert_false(proof_is_anonymous(other.listener, "eventpoll"));
	close(proof);

	/* Not an epoll set. */
	in = as_if_sent(eventfd(0, 0));
	assert_int_equal(proof_check(other.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	close(in.fds[0]);
	in.fd_count = 0;
	assert_int_equal(proof_check(other.acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	drop_ends(&other);
}

/* Our connection was reset and its addresses are in use again: the new mirror proves nothing about the old stream. */
static void test_addresses_used_again(void **state)
{
	struct linger reset = { 1, 0 };
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length), one = 1, fd = socket(AF_INET, SOCK_STREAM, 0), again;
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t from_length = sizeof(from);
	struct nn_stream *old, *renewed;
	struct incoming in;
	uint64_t inode;
	uint32_t uid;

	(void)state;
	assert_int_equal(mailbox_need(), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0); /* a port that nobody else has */
	assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
	old = host_stream(host_accept(listener), false);
	assert_int_equal(tuple_learn(old), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&from, &from_length), 0);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	assert_int_equal(poll(&(struct pollfd){ .fd = old->fd }, 1, 5000), 1); /* POLLHUP */

	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
	renewed = host_stream(fd, true);
	again = host_accept(listener);
	assert_int_equal(tuple_learn(renewed), 0);
	in = as_if_sent(proof_make(renewed, PROOF_OPEN, mailbox_own(), &uid));
	assert_true(in.fds[0] >= 0);
	assert_int_equal(proof_check(old, PROOF_OPEN, mailbox_own(), &in, &inode), -EACCES);
	close(in.fds[0]);
	host_close(old);
	host_close(renewed);
	close(again);
	close(listener);
}

/* Link-local addresses carry an interface. */
static void test_link_local(void **state)
{
	struct ifaddrs *all, *at;
	struct sockaddr_in6 address = { .sin6_family = AF_INET6 };
	socklen_t length = sizeof(address);
	struct nn_stream *connector, *acceptor;
	struct incoming in;
	int listener, fd;
	uint64_t inode;
	uint32_t uid;

	(void)state;
	assert_int_equal(getifaddrs(&all), 0);
	for (at = all; at; at = at->ifa_next)
		if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET6 &&
		    IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)at->ifa_addr)->sin6_addr))
			address = *(struct sockaddr_in6 *)at->ifa_addr;
	freeifaddrs(all);
	if (!address.sin6_scope_id)
		skip();
	assert_int_equal(mailbox_need(), 0);
	listener = socket(AF_INET6, SOCK_STREAM, 0);
	address.sin6_port = 0;
	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	fd = host_connect(&address, length);
	connector = host_stream(fd, true);
	acceptor = host_stream(host_accept(listener), false);
	assert_int_equal(tuple_learn(connector), 0);
	assert_int_equal(tuple_learn(acceptor), 0);
	in = as_if_sent(proof_make(connector, PROOF_OPEN, mailbox_own(), &uid));
	assert_true(in.fds[0] >= 0);
	assert_int_equal(proof_check(acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), 0);
	close(in.fds[0]);
	in = as_if_sent(proof_make(acceptor, PROOF_HELLO, NULL, &uid));
	assert_int_equal(proof_check(connector, PROOF_HELLO, NULL, &in, &inode), 0);
	close(in.fds[0]);
	host_close(connector);
	host_close(acceptor);
	close(listener);
}

/* One end is bound to the loopback device, the other is not. */
static void test_bound_to_device(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length), fd = socket(AF_INET, SOCK_STREAM, 0);
	struct nn_stream *connector, *acceptor;
	struct incoming in;
	uint64_t inode;
	uint32_t uid;

	(void)state;
	assert_int_equal(mailbox_need(), 0);
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) < 0)
		skip();
	assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
	connector = host_stream(fd, true);
	acceptor = host_stream(host_accept(listener), false);
	assert_int_equal(tuple_learn(connector), 0);
	assert_int_equal(tuple_learn(acceptor), 0);
	in = as_if_sent(proof_make(connector, PROOF_OPEN, mailbox_own(), &uid));
	assert_true(in.fds[0] >= 0);
	assert_int_equal(proof_check(acceptor, PROOF_OPEN, mailbox_own(), &in, &inode), 0);
	close(in.fds[0]);
	in = as_if_sent(proof_make(acceptor, PROOF_HELLO, NULL, &uid));
	assert_int_equal(proof_check(connector, PROOF_HELLO, NULL, &in, &inode), 0);
	close(in.fds[0]);
	host_close(connector);
	host_close(acceptor);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_hash_binds_everything),
		cmocka_unit_test(test_tuple),
		cmocka_unit_test(test_diag),
		cmocka_unit_test(test_diag_finds_nothing),
		cmocka_unit_test(test_proc_is_long),
		cmocka_unit_test(test_proof),
		cmocka_unit_test(test_addresses_used_again),
		cmocka_unit_test(test_link_local),
		cmocka_unit_test(test_bound_to_device),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
