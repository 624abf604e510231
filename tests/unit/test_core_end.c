/* SPDX-License-Identifier: BSD-2-Clause */
/* How a stream ends, as TCP would end it, and what wakes who waits for that or for bytes. */
#include "core_flow.h"

#include <pthread.h>

/* ---- the end */

static void all_bytes_then_the_end(void)
{
	set_up();
	put(2000);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	CHECK_IS(rings_in_use(&peers, 0), 1); /* outlives its writer's stream */
	get(2000);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 0);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 0);
	CHECK_IS(nn_close(wire.fd[1]), 0);
	lease_sweep();
	CHECK_IS(rings_in_use(&peers, 0), 0);
}

static void closed_with_bytes_unread(void)
{
	set_up();
	put(2000);
	get(100);
	CHECK_IS(nn_close(wire.fd[1]), 0);
	CHECK(peer_tx_flags(from) & END_RESET); /* the kernel's RST may come later */
	CHECK_IS(call_recv(wire.fd[0], bytes, 1, 0), -ECONNRESET);
	CHECK_IS(call_recv(wire.fd[0], bytes, 1, 0), 0);
	CHECK_IS(call_send(wire.fd[0], bytes, 1, 0), -EPIPE);
}

/* A process that dies says nothing: the kernel's FIN is all there is. */
static void killed(void)
{
	set_up();
	put(2000);
	close(wire.fd[0]);
	fd_clear(wire.fd[0]);
	get(2000);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 0);
}

/* ---- waiting */

static void *later(void *what)
{
	struct timespec nap = {0, 100000000};

	nanosleep(&nap, NULL);
	((void (*)(void))what)();
	return NULL;
}

/* A recv that sleeps while another thread does `what`: the time it took, in ms. */
static uint64_t wait_for(void (*what)(void), long outcome)
{
	static uint8_t taken[100];
	uint64_t begun = now_ms();
	pthread_t thread;

	CHECK_IS(pthread_create(&thread, NULL, later, (void *)what), 0);
	CHECK_IS(call_recv(wire.fd[1], taken, sizeof taken, 0), outcome);
	pthread_join(thread, NULL);
	return now_ms() - begun;
}

static void put_ten(void)
{
	put(10);
}

static void tell_end(void)
{
	nn_shutdown(wire.fd[0], SHUT_WR);
}

static void woken_from_sleep(void)
{
	uint64_t heard;

	set_up();
	put(10);
	get_rest();
	heard = atomic_load(&nn_state->totals.doorbells_heard);
	CHECK(wait_for(put_ten, 10) >= 90);
	CHECK_IS(atomic_load(&nn_state->totals.doorbells_heard), heard + 1); /* and not by chance */
	call_down(from);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, MSG_DONTWAIT), -EAGAIN);
	atomic_store(&from->stay_tx, 1);
	CHECK(wait_for(put_ten, 10) >= 90); /* by TCP */
	CHECK(wait_for(tell_end, 0) >= 90);
}

CORE_TEST(all_bytes_then_the_end, 20)
CORE_TEST(closed_with_bytes_unread, 20)
CORE_TEST(killed, 20)
CORE_TEST(woken_from_sleep, 20)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_bytes_then_the_end),
		cmocka_unit_test(test_closed_with_bytes_unread),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_woken_from_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
