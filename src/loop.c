/* SPDX-License-Identifier: ISC */
/*
 * One wait for descriptors and timers.
 * Runs in: any
 *
 * Theory of operation: epoll carries 64 bits for each descriptor: kind (8), generation (24), index (32). Timers live in a binary heap of
 * pointers ordered by due time; each knows its place, so arming again and disarming are logarithmic and allocate nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fdutil.h"
#include "log.h"

#define EVENTS_AT_ONCE 256

static uint64_t
clock_ns(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t
loop_clock(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t
loop_realtime(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int
loop_init(struct loop *loop, uint32_t timers, void *timer_owner)
{
	memset(loop, 0, sizeof(*loop));
	loop->timer_owner = timer_owner;
	loop->heap_room = timers;
	loop->heap = calloc(timers > 0 ? timers : 1, sizeof(struct loop_timer *));
	if (loop->heap == NULL)
		return -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd == -1) {
		free(loop->heap);
		loop->heap = NULL;
		return -1;
	}
	loop->now = loop_clock();
	return 0;
}

void
loop_free(struct loop *loop)
{
	fd_close(&loop->epoll_fd);
	free(loop->heap);
	loop->heap = NULL;
}

void
loop_on(struct loop *loop, uint8_t kind, loop_event_fn *fn, void *owner)
{
	ASSERT(kind < LOOP_KINDS);
	loop->kinds[kind].fn = fn;
	loop->kinds[kind].owner = owner;
}

void
loop_set_wait(struct loop *loop, loop_wait_fn *wait, loop_dispatch_fn *dispatch, void *owner)
{
	loop->wait = wait;
	loop->dispatch = dispatch;
	loop->wait_owner = owner;
}

static uint64_t
pack(struct loop_ref ref)
{
	return (uint64_t)ref.kind << 56 | (uint64_t)(ref.generation & LOOP_GENERATION_MASK) << 32 | ref.index;
}

static struct loop_ref
unpack(uint64_t u)
{
	return (struct loop_ref){ .kind = (uint8_t)(u >> 56), .generation = (uint32_t)(u >> 32) & LOOP_GENERATION_MASK, .index = (uint32_t)u };
}

static int
control(struct loop *loop, int op, int fd, uint32_t events, struct loop_ref ref)
{
	struct epoll_event event = { .events = events, .data.u64 = pack(ref) };

	return epoll_ctl(loop->epoll_fd, op, fd, &event);
}

int
loop_add(struct loop *loop, int fd, uint32_t events, struct loop_ref ref)
{
	return control(loop, EPOLL_CTL_ADD, fd, events, ref);
}

int
loop_modify(struct loop *loop, int fd, uint32_t events, struct loop_ref ref)
{
	return control(loop, EPOLL_CTL_MOD, fd, events, ref);
}

int
loop_remove(struct loop *loop, int fd)
{
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* Puts timer at place i (from 0) of the heap. */
static void
heap_put(struct loop *loop, uint32_t i, struct loop_timer *timer)
{
	loop->heap[i] = timer;
	timer->pos = i + 1;
}

static void
heap_up(struct loop *loop, uint32_t i)
{
	struct loop_timer *timer = loop->heap[i];

	while (i > 0 && loop->heap[(i - 1) / 2]->due > timer->due) {
		heap_put(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(loop, i, timer);
}

static void
heap_down(struct loop *loop, uint32_t i)
{
	struct loop_timer *timer = loop->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= loop->heap_used)
			break;
		if (child + 1 < loop->heap_used && loop->heap[child + 1]->due < loop->heap[child]->due)
			child++;
		if (loop->heap[child]->due >= timer->due)
			break;
		heap_put(loop, i, loop->heap[child]);
		i = child;
	}
	heap_put(loop, i, timer);
}

void
loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	uint32_t i = timer->pos;
	struct loop_timer *last;

	if (i == 0)
		return;
	timer->pos = 0;
	last = loop->heap[--loop->heap_used];
	if (last == timer)
		return;
	heap_put(loop, i - 1, last);
	heap_up(loop, i - 1);
	heap_down(loop, last->pos - 1);
}

void
loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t due)
{
	if (due == LOOP_NEVER) {
		loop_timer_clear(loop, timer);
		return;
	}
	if (timer->pos == 0) {
		ASSERT(loop->heap_used < loop->heap_room);
		timer->due = due;
		heap_put(loop, loop->heap_used++, timer);
		heap_up(loop, timer->pos - 1);
		return;
	}
	timer->due = due;
	heap_up(loop, timer->pos - 1);
	heap_down(loop, timer->pos - 1);
}

static void
fire_timers(struct loop *loop)
{
	/* A timer that its function arms again for now or earlier waits for the next turn: one round only. */
	for (uint32_t n = loop->heap_used; n > 0 && loop->heap_used > 0 && loop->heap[0]->due <= loop->now; n--) {
		struct loop_timer *timer = loop->heap[0];

		loop_timer_clear(loop, timer);
		timer->fn(loop->timer_owner, timer->arg);
	}
}

/* epoll_pwait2 (Linux 5.11) for waits that are no whole milliseconds; older kernels, and C libraries without it, wait a little longer. */
static int
wait_events(struct loop *loop, struct epoll_event *events, uint64_t ns)
{
#ifdef HAVE_EPOLL_PWAIT2
	static bool no_pwait2;
	struct timespec t = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };

	if (!no_pwait2) {
		int n = epoll_pwait2(loop->epoll_fd, events, EVENTS_AT_ONCE, ns == LOOP_NEVER ? NULL : &t, NULL);

		if (n != -1 || errno != ENOSYS)
			return n;
		no_pwait2 = true;
	}
#endif
	if (ns > 3600 * NS_PER_S)
		return epoll_wait(loop->epoll_fd, events, EVENTS_AT_ONCE, ns == LOOP_NEVER ? -1 : 3600 * 1000);
	return epoll_wait(loop->epoll_fd, events, EVENTS_AT_ONCE, (int)((ns + NS_PER_MS - 1) / NS_PER_MS));
}

static uint64_t
until_next_timer(struct loop *loop)
{
	uint64_t now, due;

	if (loop->heap_used == 0)
		return LOOP_NEVER;
	due = loop->heap[0]->due;
	now = loop_clock();
	return due > now ? due - now : 0;
}

int
loop_turn(struct loop *loop, uint64_t most)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	uint64_t ns = most > 0 ? until_next_timer(loop) : 0;
	int n;

	ns = ns < most ? ns : most;
	n = loop->wait != NULL ? loop->wait(loop->wait_owner, events, EVENTS_AT_ONCE, ns) : wait_events(loop, events, ns);
	loop->now = loop_clock();
	if (n == -1 && errno != EINTR)
		return -1;
	if (loop->dispatch != NULL)
		loop->dispatch(loop->wait_owner);
	for (int i = 0; i < n; i++) {
		struct loop_ref ref = unpack(events[i].data.u64);

		if (ref.kind < LOOP_KINDS && loop->kinds[ref.kind].fn != NULL)
			loop->kinds[ref.kind].fn(loop->kinds[ref.kind].owner, ref, events[i].events);
	}
	fire_timers(loop);
	return 0;
}
