/* SPDX-License-Identifier: ISC */
/*
 * The loop: timers fire in order and as often as armed, references come back as given, nothing waits longer than it may.
 * Runs in: any
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop.h"

#define TIMERS 500

static struct loop loop;
static uint64_t last_due, fired;
static struct loop_ref last_ref;
static uint32_t last_events;

static void
on_timer(void *owner, void *arg)
{
	struct loop_timer *timer = arg;

	assert_ptr_equal(owner, &loop);
	assert_int_equal(timer->pos, 0);
	assert_true(timer->due >= last_due);
	assert_true(timer->due <= loop.now);
	last_due = timer->due;
	fired++;
}

static void
on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	(void)owner;
	last_ref = ref;
	last_events = events;
}

static void
test_timers(void **state)
{
	static struct loop_timer timers[TIMERS];
	uint64_t armed = 0;

	(void)state;
	assert_int_equal(loop_init(&loop, TIMERS, &loop), 0);
	srandom(1);
	for (int i = 0; i < TIMERS; i++) {
		timers[i].fn = on_timer;
		timers[i].arg = &timers[i];
		loop_timer_set(&loop, &timers[i], loop.now + (uint64_t)random() % (20 * NS_PER_MS));
	}
	/* Arming again, disarming, and arming what was disarmed, in no order. */
	for (int i = 0; i < 4 * TIMERS; i++) {
		struct loop_timer *timer = &timers[random() % TIMERS];

		if (random() % 3 == 0)
			loop_timer_clear(&loop, timer);
		else
			loop_timer_set(&loop, timer, random() % 50 == 0 ? LOOP_NEVER : loop.now + (uint64_t)random() % (20 * NS_PER_MS));
	}
	for (int i = 0; i < TIMERS; i++)
		armed += timers[i].pos != 0;
	assert_true(armed > 100 && armed < TIMERS);
	assert_int_equal(loop.heap_used, armed);
	fired = last_due = 0;
	while (loop.heap_used > 0)
		assert_int_equal(loop_turn(&loop, LOOP_NEVER), 0);
	assert_int_equal(fired, armed);
	loop_free(&loop);
}

static void
test_references(void **state)
{
	struct loop_ref ref = { .kind = 15, .index = 0xdeadbeef, .generation = 0x1abcdef };
	int fds[2];

	(void)state;
	assert_int_equal(loop_init(&loop, 0, NULL), 0);
	assert_int_equal(pipe(fds), 0);
	loop_on(&loop, 15, on_event, NULL);
	assert_int_equal(loop_add(&loop, fds[0], EPOLLIN, ref), 0);
	assert_int_equal(loop_turn(&loop, 0), 0);
	assert_int_equal(last_events, 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_turn(&loop, LOOP_NEVER), 0);
	assert_int_equal(last_events, EPOLLIN);
	assert_int_equal(last_ref.kind, 15);
	assert_int_equal(last_ref.index, 0xdeadbeef);
	assert_int_equal(last_ref.generation, 0xabcdef);
	assert_int_equal(loop_modify(&loop, fds[0], 0, ref), 0);
	last_events = 0;
	assert_int_equal(loop_turn(&loop, 0), 0);
	assert_int_equal(last_events, 0);
	assert_int_equal(loop_remove(&loop, fds[0]), 0);
	(void)close(fds[0]);
	(void)close(fds[1]);
	loop_free(&loop);
}

static void
test_patience(void **state)
{
	uint64_t before;

	(void)state;
	assert_int_equal(loop_init(&loop, 1, NULL), 0);
	before = loop_clock();
	assert_int_equal(loop_turn(&loop, 3 * NS_PER_MS), 0);
	assert_true(loop_clock() - before >= 2 * NS_PER_MS);
	loop_free(&loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_patience),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
