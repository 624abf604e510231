/* SPDX-License-Identifier: BSD-2-Clause */
/* One direction on its way between TCP and rings, step by step: who holds which bytes, and what becomes of the rings. */
#include <fcntl.h>

#include "core_liar.h"
#include "shim/core/error.h"
#include "shim/core/stall.h"
#include "core_flow.h" /* after it: its names would be shadowed */

static void serve(struct nn_stream *stream)
{
	stream_service(stream);
}

/* ---- up and down */

static void up_behind_unread_tcp(void)
{
	set_up();
	/* Bytes that go by TCP before the ring, some of them unread until later. */
	atomic_store(&from->stay_tx, 1);
	put(5000);
	CHECK(!from->tx_ring);
	atomic_store(&from->stay_tx, 0);
	put(100);
	CHECK(from->tx_ring);
	CHECK_IS(from->tx_start, 5000);
	get(4000);
	CHECK(!to->rx_ring);
	get(1050); /* across the border */
	CHECK(to->rx_ring);
	get_rest();
	CHECK_IS(atomic_load(&to->shown->rx.tcp_bytes), 5000);
	CHECK_IS(atomic_load(&to->shown->rx.ring_bytes), 100);
}

static void down_and_up_many_times(void)
{
	set_up();
	for (unsigned i = 0; i < 500; i++) {
		put(i % 7 + 1);
		CHECK(from->tx_ring);
		get(1);
		put(i % 3000 + 1);
		call_down(from);
		CHECK(!from->tx_ring);
		get_rest();
		CHECK(!to->rx_ring);
		CHECK_IS(from->tx_epoch, to->rx_epoch);
	}
	put(1); /* the peer has entered the last segment: the ring before it goes */
	get_rest();
	CHECK_IS(rings_in_use(&peers, 0), 1);
	CHECK_IS(atomic_load(&from->shown->tx.downs), 500);
	CHECK_IS(atomic_load(&to->shown->rx.ups), 501);
}

/* A change for pleasure waits until the peer has followed the last one. */
static void down_waits_for_the_peer(void)
{
	set_up();
	put(10);
	call_down(from);
	CHECK(from->tx_ring); /* the peer has not even entered the ring */
	get(1);
	call_down(from);
	CHECK(!from->tx_ring);
	put(10);
	CHECK(!from->tx_ring); /* nor up: it has not entered the segment outside */
	get_rest();
	put(10);
	CHECK(from->tx_ring);
	get_rest();
}

static void grows_when_full(void)
{
	set_up();
	put(1);
	get_rest();
	CHECK_IS(from->tx_mask + 1, RING);
	put(RING + 1000); /* the ring, and a bigger one behind it */
	CHECK_IS(from->tx_mask + 1, MOST);
	CHECK_IS(from->tx_start, 1 + RING);
	CHECK_IS(rings_in_use(&peers, 0), 2);
	get(100);
	CHECK_IS(to->rx_mask + 1, RING); /* still in the old one */
	get(RING);
	CHECK_IS(to->rx_mask + 1, MOST);
	get_rest();
	put(MOST);
	CHECK_IS(call_send(wire.fd[0], "x", 1, MSG_DONTWAIT), -EAGAIN); /* no bigger one is allowed; but the old one is looked at */
	CHECK_IS(from->tx_mask + 1, MOST);
	get_rest();
	call_down(from);
	get_rest();
	put(1);
	CHECK_IS(rings_in_use(&peers, 0), 1);
	get_rest();
}

/* One call takes the last bytes of the ring and the first that come by TCP for good: what is left is told all the same. */
static void a_call_that_ends_on_tcp(void)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {bytes, 3010};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	enum lock_outcome lock;
	struct nn_io io;
	int left;

	set_up();
	put(3000);
	to->want_inq = true;
	lock = tx_lock(from);
	tx_down(from, NN_REASON_CALL, DOWN_FOR_GOOD);
	tx_unlock(from, lock);
	put(15);
	CHECK_IS(nn_recvmsg(&io, wire.fd[1], &message, MSG_DONTWAIT), NN_DONE);
	CHECK_IS(io.result, 3010);
	CHECK(!rx_taken(to));
	CHECK_IS(message.msg_controllen, sizeof control);
	memcpy(&left, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof left);
	CHECK_IS(left, 5);
}

/* A send that fits exactly leaves no room: poll must not promise any. */
static void fits_exactly(void)
{
	set_up();
	put(1);
	get_rest();
	put(RING);
	CHECK_IS(from->tx_mask + 1, MOST); /* grown, for the next */
	put(MOST);
	CHECK(!(stream_readiness(from).ready & READY_OUT));
	CHECK_IS(call_send(wire.fd[0], bytes, 1, MSG_DONTWAIT), -EAGAIN);
	get_rest();
	CHECK(stream_readiness(from).ready & READY_OUT);
}

/* After FIN the kernel takes nothing more: what lies in a full ring stays there, however long it is not read. */
static void full_and_shut_down(void)
{
	set_up();
	put(1);
	get_rest();
	put(RING);
	put(MOST);
	CHECK_IS(nn_shutdown(wire.fd[0], SHUT_WR), 0);
	stall_sweep(UINT64_MAX);
	usleep(STALL_ALONE_NS / 1000 + 10000);
	CHECK_IS(stall_sweep(UINT64_MAX), UINT64_MAX);
	CHECK_IS(stream_error(from), 0);
	while (received < sent)
		get(sent - received < 1000 ? sent - received : 1000);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 0);
}

/* The same before FIN: it goes by TCP, and up again. */
static void full_and_not_read(void)
{
	set_up();
	put(1);
	get_rest();
	put(RING);
	put(MOST);
	CHECK(stall_sweep(UINT64_MAX) < UINT64_MAX);
	CHECK(from->tx_ring);
	usleep(STALL_ALONE_NS / 1000 + 10000);
	stall_sweep(UINT64_MAX);
	CHECK(!from->tx_ring && !from->tx_replaying);
	put(100000);
	while (received < sent)
		get(sent - received < 1000 ? sent - received : 1000);
	get_rest();
	put(1);
	put(1);
	CHECK(from->tx_ring);
	get_rest();
	CHECK_IS(stream_error(from) | stream_error(to), 0);
}

/* What comes twice is dropped before the next ring is entered, even where it is still on its way: all else is read already. */
static void up_again_behind_what_comes_twice(void)
{
	static const int few = 4608;
	long more;

	set_up();
	setsockopt(wire.fd[1], SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
	put(1);
	get_rest();
	put(RING);
	get_rest();
	put(MOST);
	stall_sweep(UINT64_MAX);
	usleep(STALL_ALONE_NS / 1000 + 10000);
	stall_sweep(UINT64_MAX);
	CHECK(!from->tx_ring && !from->tx_replaying);
	/* As if it had been read from the rings while the peer left them. */
	atomic_store(&to->own->head, atomic_load(&from->own->tail));
	received = sent;
	for (int i = 0; i < 200 && !from->tx_ring; i++) {
		fill_bytes(bytes, 1, sent, 0);
		more = call_send(wire.fd[0], bytes, 1, MSG_DONTWAIT);
		CHECK(more == 1 || more == -EAGAIN);
		sent += more == 1;
		more = call_recv(wire.fd[1], bytes, 1, MSG_DONTWAIT);
		CHECK(more == 1 || more == -EAGAIN);
		if (more == 1)
			check_bytes(bytes, 1, received++, 0);
	}
	CHECK(from->tx_ring);
	put(1000);
	get_rest();
	CHECK_IS(stream_error(from) | stream_error(to), 0);
}

/* ---- outside */

/* The receiver goes outside with bytes unread, reads on meanwhile, and gets no byte twice. */
static void sent_again_from_where_it_asked(void)
{
	set_up();
	put(3000);
	get(1000);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	CHECK_IS(atomic_load(&to->own->frozen), 1000);
	get(500); /* still in the ring */
	serve(from);
	CHECK(!tx_taken(from));
	CHECK_IS(from->tx_start, 1500);
	get(100); /* of what the ring still holds, or comes again */
	get_rest();
	CHECK(!rx_taken(to));
	CHECK_IS(atomic_load(&to->own->skip), 0);
	put(100000);
	CHECK(!from->tx_ring); /* for good */
	get_rest();
}

/* What the sender is about to copy, of which all but the first half ring is not there yet. */
static uint8_t *pages;

/* The receiver, in the midst of that copy. */
static void ask_and_read_on(int number)
{
	static uint8_t taken[RING / 2];

	(void)number;
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	CHECK_IS(call_recv(wire.fd[1], taken, sizeof taken, MSG_DONTWAIT), sizeof taken);
	check_bytes(taken, sizeof taken, 0, 0);
	received = sizeof taken;
	CHECK_IS(mprotect(pages, 8 * RING, PROT_READ | PROT_WRITE), 0);
}

/* A receiver that has asked, and reads on, makes room for more than a ring behind where it asked. */
static void asked_in_the_midst_of_a_call(void)
{
	struct sigaction fault = {.sa_handler = ask_and_read_on};

	set_up();
	put(1);
	get_rest();
	sent = received = 0;
	pages = mmap(NULL, 8 * RING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill_bytes(pages + RING / 2, 2 * RING, 0, 0);
	CHECK_IS(sigaction(SIGSEGV, &fault, NULL), 0);
	CHECK_IS(mprotect(pages + RING, 7 * RING, PROT_NONE), 0);
	CHECK_IS(call_send(wire.fd[0], pages + RING / 2, 2 * RING, MSG_DONTWAIT), 2 * RING);
	sent = 2 * RING;
	CHECK(received);
	CHECK_IS(stream_error(from), 0);
	CHECK(!tx_taken(from));
	get_rest();
	CHECK(!rx_taken(to));
}

/* What is unread begins in a ring that was left behind. */
static void sent_again_from_two_rings(void)
{
	set_up();
	put(1);
	get_rest();
	put(RING + 5000);
	get(10);
	CHECK_IS(from->tx_mask + 1, MOST);
	CHECK_IS(to->rx_mask + 1, RING);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	serve(from);
	CHECK(!tx_taken(from));
	get_rest();
	CHECK(!rx_taken(to));
	CHECK_IS(stream_error(from), 0);
}

/* A reader asks for more than the kernel has room for. */
static void begin_sending_again(void)
{
	static const int few = 4608;

	set_up();
	setsockopt(wire.fd[0], SOL_SOCKET, SO_SNDBUF, &few, sizeof few);
	setsockopt(wire.fd[1], SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
	put(1);
	get_rest();
	put(RING + MOST);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	serve(from);
	CHECK(from->tx_replaying);
}

/* The kernel has no room for all of it at once. */
static void sent_again_in_pieces(void)
{
	begin_sending_again();
	CHECK_IS(call_send(wire.fd[0], "x", 1, MSG_DONTWAIT), -EAGAIN);
	for (int i = 0; from->tx_replaying; i++) {
		CHECK(i < 100000);
		long got = call_recv(wire.fd[1], bytes, 1000, MSG_DONTWAIT);
		CHECK(got > 0 || got == -EAGAIN);
		if (got > 0) {
			check_bytes(bytes, (size_t)got, received, 0);
			received += (uint64_t)got;
		}
		serve(from);
	}
	get_rest();
}

/* Calls of the kernel's that send: none of them goes before what is sent again. -EAGAIN, or the kernel has made it. */
static long send_with_control(int fd, const uint8_t *data, size_t size)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control = {.header = {CMSG_LEN(sizeof(struct ucred)), SOL_SOCKET, SCM_CREDENTIALS}};
	struct iovec iov = {(void *)data, size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct nn_io io;
	if (nn_sendmsg(&io, fd, &message, MSG_DONTWAIT) == NN_DONE)
		return io.result;
	return nn_raw_done(&io, sys_call3(SYS_sendmsg, fd, &message, MSG_DONTWAIT));
}

static int source[2]; /* a pipe */

static long send_by_splice(int fd, const uint8_t *data, size_t size)
{
	struct nn_io io;
	(void)data;
	if (nn_splice(&io, source[0], NULL, fd, NULL, size, SPLICE_F_NONBLOCK) == NN_DONE)
		return io.result;
	return nn_raw_done(&io, sys_call6(SYS_splice, source[0], NULL, fd, NULL, size, SPLICE_F_NONBLOCK));
}

static long send_by_sendfile(int fd, const uint8_t *data, size_t size)
{
	struct nn_io io;
	(void)data;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	nn_flags_changed(fd);
	if (nn_sendfile(&io, fd, source[0], NULL, size) == NN_DONE)
		return io.result;
	return nn_raw_done(&io, sys_call4(SYS_sendfile, fd, source[0], NULL, size));
}

/* The process that began does nothing more; one that shares the end goes on with it before it sends bytes of its own. */
static void sent_again_by_another_process(void)
{
	enum { MORE = 20000 };
	int status;
	pid_t child;

	begin_sending_again();
	nn_fork_prepare();
	child = fork();
	if (!child) {
		nn_fork_child();
		for (uint64_t end = sent + MORE; sent < end;) {
			fill_bytes(bytes, end - sent, sent, 0);
			long took = call_send(wire.fd[0], bytes, end - sent, MSG_DONTWAIT);
			CHECK(took > 0 || took == -EAGAIN);
			if (took > 0)
				sent += (uint64_t)took;
			else
				usleep(1000);
		}
		_exit(0);
	}
	nn_fork_parent(false);
	sent += MORE;
	while (received < sent)
		get(sent - received < 1000 ? sent - received : 1000);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	/* The one who began sees that it is done. */
	put(1);
	CHECK(!from->tx_replaying && !tx_taken(from));
	get_rest();
}

static void raw_behind(long (*send_raw)(int fd, const uint8_t *data, size_t size))
{
	uint8_t data[10];

	begin_sending_again();
	fill_bytes(data, sizeof data, sent, 0);
	CHECK_IS(pipe(source), 0);
	CHECK_IS(write(source[1], data, sizeof data), sizeof data);
	for (bool done = false; !done || received < sent;) {
		if (!done) {
			long outcome = send_raw(wire.fd[0], data, sizeof data);
			CHECK(outcome == -EAGAIN || outcome == sizeof data);
			CHECK(outcome == -EAGAIN || !from->tx_replaying);
			done = outcome == sizeof data;
			sent += done ? sizeof data : 0;
		}
		long got = call_recv(wire.fd[1], bytes, 1000, MSG_DONTWAIT);
		CHECK(got > 0 || got == -EAGAIN);
		if (got > 0) {
			check_bytes(bytes, (size_t)got, received, 0);
			received += (uint64_t)got;
		}
	}
}

static void control_behind_what_is_sent_again(void)
{
	raw_behind(send_with_control);
}

static void splice_behind_what_is_sent_again(void)
{
	raw_behind(send_by_splice);
}

/* The kernel has no sendfile from a pipe; what matters is that none is made too early. */
static void sendfile_behind_what_is_sent_again(void)
{
	begin_sending_again();
	CHECK_IS(pipe(source), 0);
	CHECK_IS(send_by_sendfile(wire.fd[0], NULL, 10), -EAGAIN);
}

/* Read from the ring after it was asked for by TCP, so that it comes twice: for who closes then nothing was unread. */
static void closes_what_comes_twice(bool has_come)
{
	set_up();
	put(1);
	get_rest();
	put(1000);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	get_rest();
	if (has_come)
		serve(from);
	CHECK_IS(nn_close(wire.fd[1]), 0);
	wire.fd[1] = -1;
	serve(from);
	CHECK_IS(call_recv(wire.fd[0], bytes, 1, 0), 0);
	int error = -1;
	socklen_t length = sizeof error;
	CHECK_IS(getsockopt(wire.fd[0], SOL_SOCKET, SO_ERROR, &error, &length), 0);
	CHECK_IS(error, 0);
}

static void closed_before_it_comes_twice(void)
{
	closes_what_comes_twice(false);
}

static void closed_after_it_came_twice(void)
{
	closes_what_comes_twice(true);
}

/* Asked for, then read from the ring to the end, and asked again: what is on its way must not be read as news. */
/* A sender that leaves its ring takes along what is unread; what is read from the ring meanwhile does not come twice. */
static void left_with_all(void)
{
	set_up();
	put(3000);
	get(1000);
	stream_outside(from, NN_REASON_CALL, OUTSIDE_TX);
	CHECK(!tx_taken(from));
	CHECK_IS(from->tx_start, 1000);
	put(5000); /* by TCP, behind what was sent again */
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX | OUTSIDE_MUST); /* at once, though the sender is busy elsewhere */
	CHECK(!rx_taken(to));
	CHECK_IS(stream_error(to), 0);
	get_rest();
	put(100);
	CHECK(!from->tx_ring);
	get_rest();
}

/* The kernel has no room for all of it: it stays in the ring. */
static void left_behind(void)
{
	static const int few = 4608;

	set_up();
	setsockopt(wire.fd[0], SOL_SOCKET, SO_SNDBUF, &few, sizeof few);
	setsockopt(wire.fd[1], SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
	put(1);
	get_rest();
	put(RING + 1000);
	get_rest(); /* it has grown */
	put(MOST - 10);
	get(5);
	stream_outside(from, NN_REASON_CALL, OUTSIDE_TX);
	CHECK(!tx_taken(from) && !from->tx_replaying);
	CHECK_IS(from->tx_start, sent);
	put(100);
	CHECK(!from->tx_ring);
	get_rest();
}

/* Nothing can be sent again behind a FIN. */
static void left_after_fin(void)
{
	set_up();
	put(3000);
	get(1000);
	CHECK_IS(nn_shutdown(wire.fd[0], SHUT_WR), 0);
	stream_outside(from, NN_REASON_CALL, OUTSIDE_TX);
	get(2000);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 0);
}

/* Both leave at once, each with bytes that the other has not read. */
static void both_leave(void)
{
	set_up();
	put(3000);
	get(1000);
	CHECK_IS(call_send(wire.fd[1], bytes, 50, 0), 50); /* the other way */
	stream_outside(from, NN_REASON_PASSED, OUTSIDE_BOTH | OUTSIDE_MUST);
	stream_outside(to, NN_REASON_PASSED, OUTSIDE_BOTH | OUTSIDE_MUST);
	CHECK_IS(stream_error(from), 0);
	CHECK_IS(stream_error(to), 0);
	CHECK(!tx_taken(from) && !rx_taken(from) && !tx_taken(to) && !rx_taken(to));
	get_rest();
	CHECK_IS(call_recv(wire.fd[0], bytes, 60, 0), 50);
}

static void asked_twice(void)
{
	set_up();
	put(3000);
	get(1000);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	get(2000);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	put(50); /* serves the request: sends again from 1000 on */
	get_rest();
}

/* After FIN nothing can be sent again: it stays in the ring. */
static void asked_after_fin(void)
{
	set_up();
	put(3000);
	CHECK_IS(nn_shutdown(wire.fd[0], SHUT_WR), 0);
	get(1000);
	stream_outside(to, NN_REASON_CALL, OUTSIDE_RX);
	serve(from);
	get(2000);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 0);
}

/* FIN while what was asked for is not all sent: its reader gets all of it, or a reset, but no early end. */
static void fin_while_sending_again(void)
{
	long got;

	begin_sending_again();
	nn_shutdown(wire.fd[0], SHUT_WR);
	while ((got = call_recv(wire.fd[1], bytes, sizeof bytes, 0)) > 0) {
		check_bytes(bytes, (size_t)got, received, 0);
		received += (uint64_t)got;
	}
	CHECK(got == -ECONNRESET || received == sent);
}

/* The receiver must be on TCP when the call returns; its peer lives in this thread. */
static void at_once_within_a_process(void)
{
	set_up();
	put(3000);
	get(1000);
	stream_outside(to, NN_REASON_EXEC, OUTSIDE_BOTH | OUTSIDE_MUST);
	CHECK(!rx_taken(to) && !tx_taken(to) && to->rx_final);
	CHECK_IS(recv(wire.fd[1], bytes, sizeof bytes, MSG_DONTWAIT), 2000); /* by whoever holds the socket next */
	check_bytes(bytes, 2000, 1000, 0);
	CHECK_IS(stream_error(to), 0);
}

/* A peer that does not answer: the last resort, and soon. */
static void at_once_but_no_answer(void)
{
	static struct liar liar;
	uint64_t begun;

	core_start(LIAR_RING, LIAR_RING);
	liar_open(&liar);
	liar_rings(&liar);
	atomic_fetch_add(&liar.end->tail, 50);
	begun = now_ms();
	stream_outside(liar.stream, NN_REASON_EXEC, OUTSIDE_BOTH | OUTSIDE_MUST);
	CHECK(now_ms() - begun < 1500);
	CHECK_IS(recv(liar.peer_fd, bytes, 1, 0), -1);
	CHECK_IS(errno, ECONNRESET);
}

CORE_TEST(up_behind_unread_tcp, 20)
CORE_TEST(down_and_up_many_times, 20)
CORE_TEST(down_waits_for_the_peer, 20)
CORE_TEST(grows_when_full, 20)
CORE_TEST(fits_exactly, 5)
CORE_TEST(full_and_shut_down, 5)
CORE_TEST(full_and_not_read, 5)
CORE_TEST(up_again_behind_what_comes_twice, 5)
CORE_TEST(a_call_that_ends_on_tcp, 5)
CORE_TEST(sent_again_from_where_it_asked, 20)
CORE_TEST(asked_in_the_midst_of_a_call, 20)
CORE_TEST(sent_again_from_two_rings, 20)
CORE_TEST(sent_again_in_pieces, 20)
CORE_TEST(sent_again_by_another_process, 20)
CORE_TEST(control_behind_what_is_sent_again, 20)
CORE_TEST(splice_behind_what_is_sent_again, 20)
CORE_TEST(sendfile_behind_what_is_sent_again, 20)
CORE_TEST(closed_before_it_comes_twice, 5)
CORE_TEST(closed_after_it_came_twice, 5)
CORE_TEST(left_with_all, 5)
CORE_TEST(left_behind, 5)
CORE_TEST(left_after_fin, 5)
CORE_TEST(both_leave, 5)
CORE_TEST(asked_twice, 5)
CORE_TEST(asked_after_fin, 5)
CORE_TEST(fin_while_sending_again, 10)
CORE_TEST(at_once_within_a_process, 20)
CORE_TEST(at_once_but_no_answer, 20)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_up_behind_unread_tcp),
		cmocka_unit_test(test_down_and_up_many_times),
		cmocka_unit_test(test_down_waits_for_the_peer),
		cmocka_unit_test(test_grows_when_full),
		cmocka_unit_test(test_fits_exactly),
		cmocka_unit_test(test_full_and_shut_down),
		cmocka_unit_test(test_full_and_not_read),
		cmocka_unit_test(test_up_again_behind_what_comes_twice),
		cmocka_unit_test(test_a_call_that_ends_on_tcp),
		cmocka_unit_test(test_sent_again_from_where_it_asked),
		cmocka_unit_test(test_asked_in_the_midst_of_a_call),
		cmocka_unit_test(test_sent_again_from_two_rings),
		cmocka_unit_test(test_sent_again_in_pieces),
		cmocka_unit_test(test_sent_again_by_another_process),
		cmocka_unit_test(test_control_behind_what_is_sent_again),
		cmocka_unit_test(test_splice_behind_what_is_sent_again),
		cmocka_unit_test(test_sendfile_behind_what_is_sent_again),
		cmocka_unit_test(test_closed_before_it_comes_twice),
		cmocka_unit_test(test_closed_after_it_came_twice),
		cmocka_unit_test(test_left_with_all),
		cmocka_unit_test(test_left_behind),
		cmocka_unit_test(test_left_after_fin),
		cmocka_unit_test(test_both_leave),
		cmocka_unit_test(test_asked_twice),
		cmocka_unit_test(test_asked_after_fin),
		cmocka_unit_test(test_fin_while_sending_again),
		cmocka_unit_test(test_at_once_within_a_process),
		cmocka_unit_test(test_at_once_but_no_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
